"""Prompts written on Ray, by any number of actors, and images drawn from them."""

import pytest

from syn_ray.cli import main
from syn_ray.core.errors import UserError
from syn_ray.core.resources import GenerateResources
from syn_ray.core.storage import Storage
from syn_ray.datasets.config import EmbeddedImages
from syn_ray.generate.config import ImageFormat, SyntheticSource, directory_name
from syn_ray.generate.families import StableDiffusionConfig
from syn_ray.prompts.cache import WrittenSet, is_written
from syn_ray.prompts.config import Captioner, ModelCaptions, SentenceWriter, Word2Sen
from syn_ray.prompts.sets import make_prompt_set
from syn_ray.shards.manifest import read_manifest
from syn_ray.shards.reader import read_samples

pytestmark = [pytest.mark.ray, pytest.mark.slow]

CLASSES = ("dog", "red boot", "dress")


def test_sentences_are_the_same_from_one_actor_and_from_two(ray_cluster, tmp_path, sentence_model):
    from syn_ray.prompts.stage import write_prompts

    config = Word2Sen(sentences=5, spare=10, model=SentenceWriter(model_id=str(sentence_model)))
    written = WrittenSet(prompts=config, classes=CLASSES, study_seed=3)
    storage = Storage(tmp_path)
    write_prompts(written, 99, storage, GenerateResources(max_actors=2, shard_size=1))
    prompts = make_prompt_set(config, CLASSES, 3, storage)
    directory = storage / written.directory_name
    for name in ("artifact.json", "shard-00000001.parquet"):
        directory.delete_file(name)
    kept = tmp_path / written.directory_name / "shard-00000000.parquet"
    before = kept.stat().st_mtime_ns
    artifact = write_prompts(written, 99, storage, GenerateResources(max_actors=1))
    assert artifact.result["rows"] == 15
    assert kept.stat().st_mtime_ns == before
    assert make_prompt_set(config, CLASSES, 3, storage) == prompts


def test_images_are_drawn_from_captions_that_a_model_wrote(ray_cluster, tmp_path, caption_model):
    from syn_ray.generate.stage import make_images
    from syn_ray.generate.work import Request
    from syn_ray.prompts.stage import write_prompts

    model = Captioner(model_id=str(caption_model), num_beams=2, max_new_tokens=4)
    config = ModelCaptions(images=EmbeddedImages(name="pool"), model=model)
    source = SyntheticSource(
        generator=StableDiffusionConfig(model_id="embedded:stable-diffusion", num_inference_steps=2),
        guidance_scale=2.0,
        prompts=config,
        classes="fashion",
        study_seed=5,
        image=ImageFormat(size_px=32, mode="L", codec="png"),
    )
    written = WrittenSet(prompts=config, classes="fashion", study_seed=5)
    storage = Storage(tmp_path)
    write_prompts(written, 16, storage / "prompts", GenerateResources(max_actors=1))
    assert is_written(written, 16, storage / "prompts")
    make_images([Request(source, 16)], storage / "images", GenerateResources(max_actors=1, shard_size=8, batch_size=8))
    directory = storage / "images" / directory_name(source)
    manifest = read_manifest(directory, source.fingerprint)
    assert manifest is not None
    prompts = make_prompt_set(config, "fashion", 5, storage / "prompts")
    assert read_samples(directory, manifest, 16)["text"].to_pylist() == [prompts.prompt(i) for i in range(16)]


def test_the_verb_makes_what_can_be_made_here_once(ray_cluster, capsys, tmp_path, sentence_model):
    changes = [
        f"prompt_sets.mine={{kind: word2sen, sentences: 2, spare: 6, model: '{sentence_model}'}}",
        "curves.1.prompts=[mine, word2sen]",
        "curves.1.guidance_scale=2",
    ]
    arguments = ["prompts", "quickstart", "--storage", str(tmp_path)]
    arguments += [part for change in changes for part in ("--set", change)]
    for said in (f"prompts mine: 20 texts by {sentence_model}", ""):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        captured = capsys.readouterr()
        assert ended.value.code in (0, None)
        assert captured.err.replace("\n", "") == said
        assert "prompt set mine of sd-mine-g2" in captured.out
        assert "distinct prompts of a class: 2; samples that share one, at most, of 2,048: 102 to 103" in captured.out
        assert "prompt set word2sen of sd-word2sen-g2: 100 sentences a class, to be written by" in captured.out


def test_a_model_that_cannot_start_is_a_clear_error_and_no_loop(ray_cluster, tmp_path):
    from syn_ray.prompts.stage import write_prompts

    written = WrittenSet(prompts=Word2Sen(model=SentenceWriter(model_id=str(tmp_path))), classes=CLASSES, study_seed=0)
    with pytest.raises(UserError, match=r"^prompt model '.*' cannot be loaded: [^\n]*safetensors weights$"):
        write_prompts(written, 9, Storage(tmp_path / "s"), GenerateResources())
