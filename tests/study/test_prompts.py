"""The prompts of a study: shown whole, and too long ones said before an image is made."""

import io
import re

import pytest
from rich.console import Console

from syn_ray.cli import main
from syn_ray.core.errors import UserError
from syn_ray.core.storage import Storage
from syn_ray.study.load import load_study
from syn_ray.study.plan import StudyPlan
from syn_ray.study.prompt_remarks import long_prompts, unlearned_prompts
from syn_ray.study.prompt_table import describe_prompts
from syn_ray.study.prompts import unwritten

LONG = "a dark dress " * 15


def _plan(folder, *overrides):
    return StudyPlan(load_study("quickstart", ["curves.1.guidance_scale=2", *overrides]), Storage(folder))


def _shown(plan, show=2, classes=3):
    said = io.StringIO()
    console = Console(file=said, width=200)
    for part in describe_prompts(plan, show, classes):
        console.print(part, markup=False, soft_wrap=True)
    return said.getvalue()


@pytest.fixture
def texts(tmp_path):
    """Twenty prompts, two a class; the last class's first is too long."""
    lines = ["a dress"] * 10 + ["a bright dress"] * 10
    lines[9] = LONG
    (tmp_path / "mine.txt").write_text("\n".join(lines))
    return [f"prompt_sets.mine={{kind: texts, path: '{tmp_path}/mine.txt'}}", "curves.1.prompts=mine"]


def test_prompts_are_shown_with_their_numbers(tmp_path):
    shown = _shown(_plan(tmp_path, "curves.1.prompts=[captions, clip_templates_7]"))
    assert "prompt set captions of sd-captions-g2" in shown
    assert re.search(r"│ t-shirt +│ 18 +│ \d+ +│ 0 +│ t-shirt, a ", shown)
    assert "and 7 more" in shown
    assert re.search(r"│ trouser +│ 7 +│ 30 +│ 0 +│ itap of a trouser\.", shown)  # 205 samples share 7 prompts
    assert "distinct prompts of a class: 7; samples that share one, at most, of 2,048: 30" in shown
    assert "generator 'sd' takes all 70 whole: 24 tokens (the tokenizer of embedded:stable-diffusion)" in shown


def test_what_a_model_would_write_is_told_where_it_cannot(tmp_path):
    plan = _plan(tmp_path, "curves.1.prompts=word2sen", "prompt_sets.word2sen={kind: word2sen, model: none/such}")
    assert [use.name for use in unwritten(plan)] == ["word2sen"]
    assert (
        "prompt set word2sen of sd-word2sen-g2: 100 sentences a class, to be written by none/such; the model is not on "
        "this machine (`hf download none/such`)" in _shown(plan)
    )


def test_long_prompts_are_counted_and_shown(tmp_path, texts):
    plan = _plan(tmp_path, *texts)
    line = (
        "1 of 3 prompts of 'mine' are longer than the 24 tokens that generator 'sd' takes (the tokenizer of "
        f"embedded:stable-diffusion): 47 in '{LONG}'; long_prompts: truncate"
    )
    assert list(long_prompts(plan)) == [line]
    assert line in _shown(plan, classes=10)
    dropped = _plan(tmp_path, *texts, "long_prompts=drop")
    assert LONG not in _shown(dropped, classes=10).split("distinct prompts")[0]
    with pytest.raises(UserError) as caught:
        list(long_prompts(_plan(tmp_path, *texts, "long_prompts=stop")))
    assert str(caught.value) == (
        f"long_prompts: {line.removesuffix('; long_prompts: truncate')}; set it to truncate or drop, or take another "
        "prompt set"
    )
    assert list(long_prompts(_plan(tmp_path, "long_prompts=stop"))) == []  # captions fit


def test_words_that_an_embedded_generator_never_learned_are_said(tmp_path):
    (tmp_path / "mine.txt").write_text("\n".join(["a dress"] * 10 + ["a dress on a zebra"] * 10))
    texts = [f"prompt_sets.mine={{kind: texts, path: '{tmp_path}/mine.txt'}}", "curves.1.prompts=mine"]
    plan = _plan(tmp_path, *texts)
    line = (
        "1 of 2 prompts of 'mine' have words that generator 'sd' (embedded:stable-diffusion) never learned, and draws "
        "anything for: 'on' in 'a dress on a zebra'"
    )
    assert list(unlearned_prompts(plan)) == [line]
    assert line in _shown(plan, classes=10)
    every = _plan(tmp_path, "curves.1.prompts=[captions, classnames, clip_templates_7, clip_templates_80]")
    assert list(unlearned_prompts(every)) == []
    assert list(unlearned_prompts(_plan(tmp_path, "curves.1.prompts=descriptions"))) != []
    large = "generators.sd={family: stable_diffusion, model_id: someone/some-diffusion}"
    assert list(unlearned_prompts(_plan(tmp_path, *texts, large))) == []


def test_prompts_that_nobody_can_count_are_said_and_stop_a_study_that_says_stop(tmp_path):
    """T5's tokenizer of a cascade that is not on this machine; CLIP's would stand in for CLIP's."""
    cascade = ["generators.sd={family: imagen, model_id: someone/some-cascade}", "curves.1.prompts=classnames"]
    line = (
        "prompts of 'classnames' for generator 'sd': too long prompts cannot be counted, its tokenizer is not on this "
        "machine"
    )
    assert list(long_prompts(_plan(tmp_path, *cascade))) == [f"{line}; long_prompts: truncate"]
    with pytest.raises(UserError) as caught:
        list(long_prompts(_plan(tmp_path, *cascade, "long_prompts=stop")))
    assert str(caught.value) == (
        f"long_prompts: {line}; fetch the generator with `hf download someone/some-cascade`, or set it to truncate"
    )


def _run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    captured = capsys.readouterr()
    return ended.value.code or 0, captured.out, captured.err


def test_the_papers_study_is_planned_and_shown_without_images_and_weights(capsys, tmp_path):
    code, out, _ = _run(capsys, "plan", "paper-supervised", "--storage", str(tmp_path / "none"))
    assert code == 0
    assert out.count("0/1300000") == 48
    assert out.count("0/8000000") == 2
    assert out.count("0/64000000") == 4
    assert out.count("sd15-hyper") == 6  # the rest of a name is on the next line
    assert "images real: 'imagenet/train' is not on this machine" in out
    code, out, _ = _run(capsys, "prompts", "paper-supervised", "--show", "2", "--classes", "1")
    assert code == 0
    assert "classes that share a name, and so their prompts: missile (657, 744), sunglasses (836, 837)" in out
    assert out.count("and 999 more") == 5
    assert "Tinca tinca" in " ".join(out.split())
    assert "to be written by Salesforce/blip2-opt-2.7b; the images 'imagenet/train' are not on this machine" in out
    assert "to be written by mrm8488/t5-base-finetuned-common_gen; the model is not on this machine" in out


@pytest.mark.parametrize("verb", ["plan", "prompts", "generate"])
def test_words_that_a_generator_never_learned_are_one_line_and_exit_code_two(capsys, tmp_path, verb):
    (tmp_path / "five.yaml").write_text("[bag, coat, dress, husky dog, zebra]")
    changes = ["--set", f"classes={tmp_path}/five.yaml", "--set", "curves.1.prompts=classnames"]
    code, _, error = _run(capsys, verb, "quickstart", *changes, "--storage", str(tmp_path / "s"))
    assert code == 2
    assert error.startswith("syn-ray: classes: generator 'embedded:stable-diffusion' never learned the word 'husky'")
    assert error.count("\n") == 1


@pytest.mark.ray
@pytest.mark.slow
def test_five_classes_of_ones_own_are_planned_shown_and_drawn(capsys, tmp_path, ray_cluster):
    """Real images of the embedded world have ten classes; five of one's own come with folders of one's own."""
    from syn_ray.core.resources import Resources
    from syn_ray.datasets.config import EmbeddedImages
    from syn_ray.datasets.real import open_images
    from syn_ray.shards.reader import open_source, read_samples
    from syn_ray.study.session import run_stage

    pool = open_images(EmbeddedImages(name="val"))
    chosen = {"0": 0, "1": 3, "2": 4, "3": 8, "4": 9}
    for name, label in chosen.items():
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        positions = [int(p) for p in (pool.labels == label).nonzero()[0][:4]]
        for number, real in enumerate(pool.read(positions)):
            (folder / f"{number}.png").write_bytes(real.image)
    (tmp_path / "five.yaml").write_text("- t-shirt\n- {name: dress, wnid: n03236735}\n- coat\n- bag\n- ankle boot\n")
    photos = f"{{kind: folder, path: '{tmp_path}/photos', name: mine}}"
    plan = StudyPlan(
        load_study(
            "quickstart",
            [
                f"classes={tmp_path}/five.yaml",
                f"real={photos}",
                f"evaluation_sets={{val: {photos}}}",
                "curves=[{source: synthetic, generator: sd, prompts: clip_templates_7, guidance_scale: 2}]",
                "dataset_sizes=[5,10,20]",
                "fit_window=[5,20]",
                "reference_size=20",
                "score.images_per_class=4",
                "generators.sd.num_inference_steps=2",
            ],
        ),
        Storage(tmp_path / "s"),
    )
    assert "a bad photo of the ankle boot." in _shown(plan, classes=5)
    said = io.StringIO()
    run_stage("generate", plan, Resources(), Console(file=said))
    assert "stable-diffusion-clip_templates_7-g2: 20 images" in said.getvalue()
    (curve,) = plan.curves
    directory = plan.source_directory(curve.parts[0])
    table = read_samples(directory, open_source(directory), 20, ["label", "text"])
    assert table["label"].to_pylist() == [i % 5 for i in range(20)]
    assert table["text"].to_pylist()[:5] == [
        f"itap of a {n}." for n in ("t-shirt", "dress", "coat", "bag", "ankle boot")
    ]
