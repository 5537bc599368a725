"""What a model wrote: only what is missing is written, the same texts whatever is lost, and grown without a change."""

import io

import pytest
from PIL import Image

from syn_ray.core.artifact import read_artifact
from syn_ray.core.errors import GenerationError, ShardError, UserError
from syn_ray.core.resources import GenerateResources
from syn_ray.core.seeds import derive_seed
from syn_ray.core.storage import Storage
from syn_ray.datasets.config import EmbeddedImages, FolderImages
from syn_ray.datasets.real import balanced_order, open_images
from syn_ray.embedded import CLASS_NAMES
from syn_ray.prompts.cache import WrittenSet, complete_job, is_written, lacking, open_job, write_texts
from syn_ray.prompts.config import Captioner, ModelCaptions, SentenceWriter, Word2Sen
from syn_ray.prompts.model import TextWriter
from syn_ray.prompts.sets import make_prompt_set
from syn_ray.prompts.write import PromptWriter

CLASSES = ("dog", "red boot", "dress")
POOL = EmbeddedImages(name="pool")


def _write(written, size, prompts, shard_size=1, batch_size=4):
    """The stage's work without Ray."""
    job = open_job(written, size, prompts, GenerateResources(shard_size=shard_size), batch_size)
    if job.missing():
        writer = PromptWriter(written)
        for place in job.missing():
            rows = writer.write(place, job.manifest.shard_size, job.manifest.batch_size)
            job.add(write_texts(job.directory, place, rows))
    return complete_job(job, 1.0)


def _times(directory):
    return {name: (directory.local_path / name).stat().st_mtime_ns for name in directory.files()}


@pytest.fixture
def sentences(sentence_model):
    config = Word2Sen(sentences=5, spare=10, model=SentenceWriter(model_id=str(sentence_model)))
    return WrittenSet(prompts=config, classes=CLASSES, study_seed=3)


def test_sentences_are_distinct_and_taken_in_turn(tmp_path, sentences):
    storage = Storage(tmp_path)
    assert not is_written(sentences, 99, storage)
    artifact = _write(sentences, 99, storage)
    assert (artifact.kind, artifact.result["rows"]) == ("prompts", 15)
    assert is_written(sentences, 10**9, storage)
    prompts = make_prompt_set(sentences.prompts, CLASSES, 3, storage)
    assert [prompts.distinct(label) for label in range(3)] == [5, 5, 5]
    assert [prompts.prompt(i) for i in (0, 3, 15)] == [*prompts.prompts[0][:2], prompts.prompts[0][0]]
    assert prompts.repeats(0, 30) == 2


@pytest.mark.slow
def test_what_is_lost_is_written_again_and_nothing_else(tmp_path, sentences):
    one, two = Storage(tmp_path / "one"), Storage(tmp_path / "two")
    _write(sentences, 99, one)
    prompts = make_prompt_set(sentences.prompts, CLASSES, 3, one)
    directory = one / sentences.directory_name
    lost, cut, kept = (name for name in directory.files() if name.startswith("shard"))
    directory.delete_file("artifact.json")
    directory.delete_file(lost)
    directory.write_bytes(cut, directory.read_bytes(cut)[:-4])
    assert not is_written(sentences, 99, one)
    before = _times(directory)[kept]
    _write(sentences, 99, one)
    assert _times(directory)[kept] == before
    _write(sentences, 99, two, shard_size=2, batch_size=15)
    assert make_prompt_set(sentences.prompts, CLASSES, 3, one) == prompts
    assert make_prompt_set(sentences.prompts, CLASSES, 3, two) == prompts
    finished = _times(directory)
    assert _write(sentences, 99, one) == read_artifact(directory)
    assert _times(directory) == finished


def test_a_changed_file_is_not_read(tmp_path, sentences):
    _write(sentences, 99, Storage(tmp_path))
    directory = Storage(tmp_path) / sentences.directory_name
    directory.write_bytes("shard-00000000.parquet", b"other")
    with pytest.raises(
        ShardError, match=r"shard-00000000.parquet: it is not what was written; delete it and run again"
    ):
        make_prompt_set(sentences.prompts, CLASSES, 3, Storage(tmp_path))


def test_captions_are_those_of_the_real_samples_and_grow(tmp_path, caption_model):
    model = Captioner(model_id=str(caption_model), num_beams=1, do_sample=True, max_new_tokens=4)
    config = ModelCaptions(images=POOL, model=model)
    written = WrittenSet(prompts=config, classes="fashion", study_seed=5)
    storage = Storage(tmp_path)
    _write(written, 16, storage, shard_size=8)
    assert is_written(written, 16, storage)
    assert not is_written(written, 17, storage)
    few = make_prompt_set(config, "fashion", 5, storage)
    with pytest.raises(UserError, match="sample 16 has no prompt yet"):
        few.prompt(16)
    _write(written, 24, storage, shard_size=5)  # a set keeps the shard size it was started with
    grown = make_prompt_set(config, "fashion", 5, storage)
    assert [grown.prompt(i) for i in range(16)] == [few.prompt(i) for i in range(16)]
    assert all(grown.prompt(i).startswith(f"{CLASS_NAMES[i % 10]}, ") for i in range(24))

    images = open_images(POOL)
    (real,) = images.read([int(balanced_order(images.labels, 10, 5)[13])])  # what real sample 13 is
    (caption,) = TextWriter(model).write([Image.open(io.BytesIO(real.image))], [derive_seed(5, "caption", 13)])
    assert grown.prompt(13) == f"{CLASS_NAMES[3]}, {caption}"


def test_captions_of_classes_of_unequal_size_repeat_each_at_its_own_end(tmp_path, caption_model):
    for name, count in (("a", 1), ("b", 3)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number, real in enumerate(open_images(POOL).read(range(count))):
            (tmp_path / "photos" / name / f"{number}.png").write_bytes(real.image)
    images = FolderImages(path=str(tmp_path / "photos"), name="mine")
    config = ModelCaptions(images=images, model=Captioner(model_id=str(caption_model), max_new_tokens=4))
    written = WrittenSet(prompts=config, classes=("a", "b"), study_seed=0)
    artifact = _write(written, 1000, Storage(tmp_path / "s"), shard_size=4)
    assert (artifact.result["rows"], artifact.result["periods"]) == (4, [1, 3])
    prompts = make_prompt_set(config, ("a", "b"), 0, Storage(tmp_path / "s"))
    assert [len(choices) for choices in prompts.prompts] == [1, 3]
    assert [prompts.prompt(i) for i in (1, 3, 5)] == [prompts.prompt(i) for i in (7, 9, 11)]
    assert is_written(written, 10**9, Storage(tmp_path / "s"))


def test_damage_beyond_what_is_asked_for_is_forgotten(tmp_path, caption_model):
    """A study of fewer samples neither trips over it nor asks for it for ever; a larger one has it written again."""
    config = ModelCaptions(images=POOL, model=Captioner(model_id=str(caption_model), num_beams=1, max_new_tokens=4))
    written = WrittenSet(prompts=config, classes="fashion", study_seed=5)
    storage = Storage(tmp_path)
    _write(written, 24, storage, shard_size=8)
    whole = make_prompt_set(config, "fashion", 5, storage)
    directory = storage / written.directory_name
    directory.write_bytes("shard-00000008.parquet", b"other")
    assert not is_written(written, 8, storage)
    _write(written, 8, storage)
    assert is_written(written, 8, storage)
    assert not is_written(written, 16, storage)
    assert not is_written(written, 24, storage)
    few = make_prompt_set(config, "fashion", 5, storage)  # and what follows the gap is not taken for what was in it
    assert [few.prompt(i) for i in range(8)] == [whole.prompt(i) for i in range(8)]
    with pytest.raises(UserError, match="sample 10 has no prompt yet"):
        few.prompt(10)
    _write(written, 24, storage)
    assert is_written(written, 24, storage)
    assert make_prompt_set(config, "fashion", 5, storage) == whole


def _photos(folder, numbers):
    for name in ("dog", "cat"):
        (folder / name).mkdir(parents=True)
        for number, real in enumerate(open_images(POOL).read(numbers)):
            (folder / name / f"{number}.png").write_bytes(real.image)
    return folder


def test_captions_are_of_the_images_that_they_were_begun_with(tmp_path, caption_model):
    classes = ("dog", "cat")  # sorted, the directories are cat, dog
    model = Captioner(model_id=str(caption_model), max_new_tokens=4)

    def captions(folder):
        images = FolderImages(path=str(folder), name="mine")
        return WrittenSet(prompts=ModelCaptions(images=images, model=model), classes=classes, study_seed=0)

    first = captions(_photos(tmp_path / "one", range(3)))
    storage = Storage(tmp_path / "s")
    _write(first, 2, storage, shard_size=2)
    (tmp_path / "one").rename(tmp_path / "moved")
    moved = captions(tmp_path / "moved")
    assert moved.fingerprint == first.fingerprint
    _write(moved, 4, storage)
    with pytest.raises(UserError) as caught:
        _write(captions(_photos(tmp_path / "two", range(4))), 6, storage)
    assert str(caught.value) == (
        f"prompts 'model_captions': '{tmp_path}/two' does not hold the images that it was begun with (names or sizes "
        "differ); restore them, or call the changed ones something else than 'mine'"
    )


def test_a_broken_image_is_named(tmp_path, caption_model):
    folder = _photos(tmp_path / "photos", range(1))
    (folder / "dog" / "0.png").write_bytes(b"nothing")
    images = FolderImages(path=str(folder), name="mine")
    config = ModelCaptions(images=images, model=Captioner(model_id=str(caption_model), max_new_tokens=4))
    with pytest.raises(GenerationError) as caught:
        _write(WrittenSet(prompts=config, classes=("dog", "cat"), study_seed=0), 2, Storage(tmp_path / "s"))
    assert str(caught.value) == (
        f"prompts 'model_captions': the image '{folder}/dog/0.png' does not decode (it is no image file); restore it, "
        "or take it out of its folder and give the set another name"
    )


def test_a_class_without_images_is_said(tmp_path):
    written = WrittenSet(prompts=ModelCaptions(images=POOL), classes=(*CLASS_NAMES, "hat"), study_seed=0)
    with pytest.raises(UserError) as caught:
        _write(written, 9, Storage(tmp_path))
    assert str(caught.value) == (
        "prompts 'model_captions': class 10 ('hat') has no image in 'pool'; give images of all 11 classes"
    )


def test_a_model_that_writes_nothing_is_said(tmp_path, sentence_model):
    import torch
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    mute = T5ForConditionalGeneration.from_pretrained(sentence_model)
    torch.nn.init.zeros_(mute.lm_head.weight)
    mute.generation_config.suppress_tokens = [token for token in range(mute.config.vocab_size) if token != 1]
    mute.save_pretrained(tmp_path / "mute")
    AutoTokenizer.from_pretrained(sentence_model).save_pretrained(tmp_path / "mute")
    model = SentenceWriter(model_id=str(tmp_path / "mute"))
    config = Word2Sen(sentences=2, spare=1, model=model)
    with pytest.raises(GenerationError) as caught:
        _write(WrittenSet(prompts=config, classes=CLASSES, study_seed=0), 9, Storage(tmp_path / "s"))
    assert str(caught.value) == (
        f"prompts 'word2sen': {model.model_id} wrote 3 empty sentences for class 'dog'; take another model or prompt"
    )


def test_what_a_machine_lacks_is_said(sentence_model, tmp_path):
    here = WrittenSet(
        prompts=Word2Sen(model=SentenceWriter(model_id=str(sentence_model))), classes=CLASSES, study_seed=0
    )
    assert lacking(here) is None
    gone = FolderImages(path=str(tmp_path / "gone"), name="gone")
    captions = WrittenSet(prompts=ModelCaptions(images=gone), classes=CLASSES, study_seed=0)
    assert lacking(captions) == f"the images '{tmp_path}/gone' are not on this machine"
    absent = WrittenSet(
        prompts=ModelCaptions(images=POOL, model=Captioner(model_id="a/b")), classes="fashion", study_seed=0
    )
    assert lacking(absent) == "the model is not on this machine (`hf download a/b`)"
