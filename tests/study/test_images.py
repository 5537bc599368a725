"""A study over folders of one's own: labels, sizes and changes are looked at before anything is made."""

import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from syn_ray.cli import main
from syn_ray.core.errors import GenerationError, UserError
from syn_ray.core.resources import GenerateResources
from syn_ray.core.storage import Storage
from syn_ray.generate.work import Request, complete_job, open_job
from syn_ray.shards.reader import open_source, read_provenance, read_samples
from syn_ray.study.load import load_study
from syn_ray.study.plan import StudyPlan
from syn_ray.study.preview import show_sample
from syn_ray.study.runner import open_study

TONES = {"cat": 40, "dog": 200, "bird": 120}


def _png(tone):
    buffer = io.BytesIO()
    Image.fromarray(np.full((32, 32), tone, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _photos(folder, names=tuple(TONES), images=8):
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(images):
            (folder / name / f"{number}.png").write_bytes(_png(TONES.get(name, 0) + number))
    return folder


def _changes(train, val, *more):
    """A study of three animals that is trained on one folder and judged on another."""
    return [
        "classes=[dog, cat, bird]",
        f"real={{kind: folder, path: '{train}', name: train}}",
        f"evaluation_sets={{val: {{kind: folder, path: '{val}', name: val}}}}",
        "curves=[{source: real}]",
        "dataset_sizes=[3,6,12]",
        "fit_window=[3,12]",
        "reference_size=12",
        "score=null",
        "train.steps={base_steps: 30, reference_size: 3, steps_per_doubling: 10}",
        *more,
    ]


def _plan(tmp_path, *more, train="train", val="val"):
    changes = _changes(tmp_path / train, tmp_path / val, *more)
    return StudyPlan(load_study("quickstart", changes), Storage(tmp_path / "s"))


@pytest.fixture
def folders(tmp_path):
    _photos(tmp_path / "train")
    _photos(tmp_path / "val", images=2)
    return tmp_path


def _make(source, images, dataset_size=None):
    """The generating stage's work in this process: its actor's class, called as Ray Data calls it."""
    from syn_ray.generate.stage import _ShardMaker

    resources = GenerateResources(shard_size=6)
    job = open_job(Request(source, dataset_size), images, resources, lambda: 1)
    rows = {first: job.rows(first) for first in job.missing()}
    work = [(source.model_dump_json(), job.directory.uri, 1, rows, resources.model_dump_json())]
    maker = _ShardMaker(json.dumps(work), None)
    for first in rows:
        answer = maker({"job": [0], "first_index": [first]})
        job.add({"entry": answer["entry"][0], "refused": answer["refused"][0]})
    complete_job(job, 1.0)
    return job.directory


def test_a_dog_is_a_dog_in_every_source(folders):
    """The classes are dog, cat, bird; sorted, the directories are bird, cat, dog."""
    plan = _plan(folders)
    plan.check_images()
    plan.check_sizes()
    for source in (plan.curves[0].source, plan.evaluation_sources["val"]):
        directory = _make(source, plan.images)
        manifest = open_source(directory)
        for row in read_samples(directory, manifest, manifest.rows).to_pylist():
            tone = int(np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))[0, 0])
            assert ("dog", "cat", "bird")[row["label"]] == min(TONES, key=lambda name: abs(TONES[name] - tone))


def _error(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize("verb", ["plan", "generate"])
def test_an_evaluation_folder_of_other_classes_is_said_before_anything_is_made(capsys, folders, verb):
    _photos(folders / "val", names=["zebra"])
    changes = [part for change in _changes(folders / "train", folders / "val") for part in ("--set", change)]
    error = _error(capsys, verb, "quickstart", "--storage", str(folders / "s"), *changes)
    assert error.startswith(f"syn-ray: image folder '{folders}/val': 1 directory is of none of the 3 classes ('zebra')")
    assert not (folders / "s").exists()


def test_an_evaluation_set_may_have_some_of_the_classes_if_it_says_so(tmp_path):
    _photos(tmp_path / "train")
    _photos(tmp_path / "val", names=["bird", "dog"], images=2)
    with pytest.raises(UserError, match=r"val' has no directory for 1 class of 3 \('cat'\)"):
        _plan(tmp_path).check_images()
    plan = _plan(tmp_path, "evaluation_sets.val.subset=true")
    plan.check_images()
    directory = _make(plan.evaluation_sources["val"], plan.images)
    assert read_samples(directory, open_source(directory), 4)["label"].to_pylist() == [2, 2, 0, 0]
    with pytest.raises(UserError, match="real: subset is for evaluation sets; training images are of every class"):
        _plan(tmp_path, "real.subset=true")


def test_directories_named_by_wnid_are_known_from_a_list_of_ones_own(tmp_path):
    _photos(tmp_path / "train", names=["n02084071", "cat", "bird"])
    _photos(tmp_path / "val", names=["n02084071", "cat", "bird"])
    plan = _plan(tmp_path, "classes=[{name: dog, wnid: n02084071}, cat, bird]")
    plan.check_images()
    described = _plan(tmp_path, "classes=[{name: dog, wnid: n02084071, description: barks}, cat, bird]")
    assert described.curves[0].source.fingerprint == plan.curves[0].source.fingerprint
    with pytest.raises(UserError, match=r"of none of the 3 classes \('n02084071'\)"):
        _plan(tmp_path).check_images()


def test_embedded_images_are_of_their_own_classes(tmp_path):
    with pytest.raises(UserError, match=r"^classes: the embedded images 'pool' are of t-shirt, "):
        StudyPlan(load_study("quickstart", ["classes=[bag, coat]"]), Storage(tmp_path)).check_images()


def test_scores_ask_for_images_too(folders):
    _plan(folders, "score={classifier: 'embedded:classifier', images_per_class: 8}").check_sizes()
    for changes, message in (
        (
            ["score={classifier: 'embedded:classifier'}"],
            "score.images_per_class: 50 is beyond 'real-train', which has 24 class-balanced images; give at most 8",
        ),
        (
            ["dataset_sizes=[3,6,12,30]"],
            "dataset_sizes: 30 is beyond 'real-train', which has 24 class-balanced images; give at most 24",
        ),
    ):
        with pytest.raises(UserError) as caught:
            _plan(folders, *changes).check_sizes()
        assert str(caught.value) == message


def test_images_that_move_are_the_same_source_and_images_that_change_are_refused(folders):
    plan = _plan(folders)
    source = plan.curves[0].source
    _make(source, plan.images, 6)
    (folders / "train").rename(folders / "moved")
    moved = _plan(folders, train="moved")
    assert moved.curves[0].source.fingerprint == source.fingerprint
    directory = _make(moved.curves[0].source, plan.images, 12)
    assert read_samples(directory, open_source(directory), 12)["sample_index"].to_pylist() == list(range(12))
    moved.check_images(unchanged=True)

    _photos(folders / "other", images=9)
    other = _plan(folders, train="other")
    other.check_images()
    expected = f"source 'real-train': '{folders}/other' does not hold the images that it was begun with"
    for attempt in (lambda: _make(other.curves[0].source, plan.images, 24), lambda: other.check_images(unchanged=True)):
        with pytest.raises(UserError) as caught:
            attempt()
        assert str(caught.value).startswith(expected)
    with pytest.raises(UserError, match="does not hold the images that it was begun with"):
        open_study(other.config, folders / "s")


def test_one_name_is_one_folder(folders):
    """What is made of images is called by their name: two folders of one name would be one source."""
    second = f"evaluation_sets.more={{kind: folder, path: '{folders}/train', name: val}}"
    with pytest.raises(UserError) as caught:
        _plan(folders, second)
    assert str(caught.value) == (
        f"quickstart: evaluation_sets, downstream: 'val' names the images in '{folders}/val' and those in "
        f"'{folders}/train'; give each a name of its own"
    )
    captions = f"prompt_sets.c={{kind: model_captions, images: {{kind: folder, path: '{folders}/val', name: train}}}}"
    with pytest.raises(UserError, match=r"real, prompt_sets: 'train' names the images in"):
        _plan(folders, captions)


def test_a_study_as_it_was_understood_is_the_same_study(folders):
    """study.yaml, every default filled in, and what actors are sent."""
    given = {"dog": 0, "cat": "cat", "zebra": None}
    _photos(folders / "train", names=["zebra"])
    labels = json.dumps(given)
    scores = "score={classifier: 'embedded:classifier', images_per_class: 2, labels: {dog: [1, bag], cat: 2, bird: 3}}"
    plan = open_study(_plan(folders, f"real.labels={labels}", scores).config, folders / "s")
    again = load_study(str(folders / "s" / "studies" / "quickstart" / "study.yaml"), ["name=quickstart"])
    assert again == plan.config
    source: Any = plan.curves[0].source
    assert type(source).model_validate_json(source.model_dump_json()) == source
    assert dict(source.images.labels) == given


def test_a_study_is_planned_where_its_images_are_not(capsys, folders, tmp_path):
    absent = _plan(folders, train="gone", val="gone too")
    assert absent.curves[0].source.fingerprint == _plan(folders).curves[0].source.fingerprint
    absent.check_images(unchanged=True)
    changes = [part for change in _changes("/none/train", "/none/val") for part in ("--set", change)]
    with pytest.raises(SystemExit):
        main(["plan", "quickstart", "--storage", str(tmp_path / "s"), *changes])
    assert "images real: '/none/train' is not on this machine" in capsys.readouterr().out


def test_a_shard_does_not_say_where_images_lay_and_is_made_again_all_the_same(folders):
    plan = _plan(folders)
    source = plan.curves[0].source
    directory = _make(source, plan.images, 12)
    first = open_source(directory).shards[0]
    assert str(folders) not in json.dumps(read_provenance(directory, first))
    said = show_sample(directory, 7, folders / "out.png", regenerate=True)
    assert said.endswith("made again: the same bytes")
    elsewhere = _make(source, Storage(folders / "elsewhere"), 12)
    assert open_source(elsewhere).shards[0].sha256 == first.sha256


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"nothing", "it is no image file"),
        (_png(3)[:-30], "image file is truncated"),  # of the form that is wanted: its header alone would pass
    ],
)
def test_a_broken_image_is_named(folders, content, reason):
    broken = folders / "train" / "cat" / "3.png"
    broken.write_bytes(content)
    with pytest.raises(GenerationError) as caught:
        _make(_plan(folders).curves[0].source, Storage(folders / "s"), 24)
    message = str(caught.value)
    assert message.startswith("source 'real-train', sample ")
    assert f": '{broken}' does not decode ({reason}" in message
    assert message.endswith("restore it, or take it out of its folder and give the set another name")
