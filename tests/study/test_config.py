"""Study files: what they expand to, and what is said of mistakes in them."""

import itertools
from typing import Any

import pytest

from syn_ray.core.errors import UserError
from syn_ray.core.resources import GenerateResources
from syn_ray.core.storage import Storage
from syn_ray.generate.config import SyntheticSource
from syn_ray.study.load import built_in_studies, load_study
from syn_ray.study.plan import StudyPlan
from syn_ray.study.results import describe
from syn_ray.train.config import ClassifyConfig
from syn_ray.train.schedule import train_steps


def test_built_in_studies_resolve():
    assert {"quickstart", "embedded-effects", "paper-supervised"} <= set(built_in_studies())
    quickstart = load_study("quickstart")
    assert [curve.name for curve in quickstart.cells()] == [
        "real",
        "sd-captions-g1",
        "sd-captions-g2",
        "sd-captions-g7.5",
    ]
    effects = load_study("embedded-effects")
    assert len(effects.cells()) == 11
    assert effects.dataset_sizes == (256, 512, 1024, 2048, 4096, 8192)
    assert effects.seeds == (0, 1, 2)


def test_a_list_of_lists_makes_one_curve_of_each_pair():
    study = load_study("quickstart", ["curves.1.prompts=[captions, classnames]", "curves.1.guidance_scale=[1, 3]"])
    names = [curve.name for curve in study.cells()[1:]]
    assert names == ["sd-captions-g1", "sd-captions-g3", "sd-classnames-g1", "sd-classnames-g3"]


def test_curves_of_one_source_share_its_images_across_studies(tmp_path):
    one, two = (StudyPlan(load_study(name), Storage(tmp_path)) for name in ("quickstart", "embedded-effects"))
    for curve in one.curves:
        twin = next(other for other in two.curves if other.name == curve.name)
        assert one.source_directory(curve.parts[0]).uri == two.source_directory(twin.parts[0]).uri


def test_identity_is_what_is_computed_and_nothing_else(tmp_path):
    plain, moved = (StudyPlan(load_study("quickstart"), Storage(tmp_path / name)) for name in "ab")
    renamed = StudyPlan(load_study("quickstart", ["question=Other?", "name=other"]), Storage(tmp_path))
    changed = StudyPlan(load_study("quickstart", ["train.batch_size=32"]), Storage(tmp_path))
    runs = [[run.fingerprint for curve in plan.curves for run in plan.runs(curve)] for plan in (plain, moved, renamed)]
    assert runs[0] == runs[1] == runs[2]
    assert not set(runs[0]) & {run.fingerprint for curve in changed.curves for run in changed.runs(curve)}
    assert [curve.source.fingerprint for curve in changed.curves] == [
        curve.source.fingerprint for curve in plain.curves
    ]
    assert len(set(runs[0])) == 16


def test_curves_may_have_sizes_of_their_own(tmp_path):
    plan = StudyPlan(load_study("quickstart", ["curves.0.dataset_sizes=[128,256]"]), Storage(tmp_path))
    real, synthetic, *_ = plan.curves
    assert [run.dataset_size for run in plan.runs(real)] == [128, 256]
    assert [run.dataset_size for run in plan.runs(synthetic)] == [256, 512, 1024, 2048]
    assert (plan.images_needed(real), plan.images_needed(synthetic)) == (500, 2048)  # 50 of each class are scored
    assert plan.resolve_shard_size(GenerateResources()).shard_size == 128
    with pytest.raises(UserError, match=r"quickstart: curves\.0\.dataset_sizes: dataset sizes must rise, each"):
        load_study("quickstart", ["curves.0.dataset_sizes=[256,128]"])


def test_the_papers_study_is_the_reconstruction(tmp_path):
    plan = StudyPlan(load_study("paper-supervised"), Storage(tmp_path))
    real, *synthetic = plan.curves
    assert real.name == "real"
    grid = itertools.product(
        ("classnames", "descriptions", "hypernyms", "word2sen", "clip_templates_7", "clip_templates_80", "captions"),
        ("1.5", "2", "3", "5", "7.5", "10"),
    )
    imagen = [f"if-captions-g{scale}" for scale in ("1", "1.2", "1.4", "1.6", "1.8", "2")]
    muse = [f"amused-captions-g{scale}" for scale in ("1.1", "1.3", "1.5", "1.7", "1.9", "2")]
    assert sorted(c.name for c in synthetic) == sorted(
        [f"sd15-{prompts}-g{scale}" for prompts, scale in grid] + imagen + muse
    )
    assert len(synthetic) == 54
    assert all(1_300_000 in curve.dataset_sizes for curve in synthetic)
    scaling = {curve.name: curve.dataset_sizes[-1] for curve in synthetic if len(curve.dataset_sizes) > 1}
    of_64m = ("captions-g2", "clip_templates_80-g2", "classnames-g2", "classnames-g7.5")
    of_8m = {"if-captions-g2": 8_000_000, "amused-captions-g2": 8_000_000}
    assert scaling == {f"sd15-{name}": 64_000_000 for name in of_64m} | of_8m
    assert isinstance(plan.config.train, ClassifyConfig)
    steps = plan.config.train.steps
    assert [round(train_steps(steps, size), -3) for size in (2_000_000, 64_000_000)] == [210_000, 315_000]


def _prompts(study):
    return [curve.source.prompts for curve in study.cells() if isinstance(curve.source, SyntheticSource)]


def test_captions_are_a_models_where_the_images_carry_none():
    study = load_study("quickstart", ["curves.1.prompts=[captions, model_captions]", "curves.1.guidance_scale=1"])
    assert [prompts.kind for prompts in _prompts(study)] == ["captions", "model_captions"]
    folder = ["real={kind: folder, path: photos, name: mine}", "curves.1.guidance_scale=1"]
    assert _prompts(load_study("quickstart", folder))[0].kind == "model_captions"


def test_a_prompt_set_has_settings_of_its_own(tmp_path):
    (tmp_path / "mine.txt").write_text("a dress\n" * 10)
    study = load_study(
        "quickstart",
        [
            "prompt_sets.few={kind: word2sen, sentences: 7, model: someone/writer}",
            "prompt_sets.captions={kind: model_captions, model: {model_id: someone/captioner, num_beams: 2}}",
            f"prompt_sets.mine={{kind: texts, path: '{tmp_path}/mine.txt'}}",
            "curves.1.prompts=[few, captions, mine]",
            "curves.1.guidance_scale=2",
        ],
    )
    few, captions, mine = _prompts(study)
    assert (few.sentences, few.model.model_id, few.model.max_new_tokens) == (7, "someone/writer", 20)
    assert (captions.model.model_id, captions.model.num_beams, captions.images) == ("someone/captioner", 2, study.real)
    assert mine.kind == "texts"
    assert [curve.name for curve in study.cells()[1:]] == ["sd-few-g2", "sd-captions-g2", "sd-mine-g2"]


def test_what_is_done_with_long_prompts_changes_a_source_only_where_it_changes_prompts(tmp_path):
    plans = {
        policy: StudyPlan(load_study("quickstart", [f"long_prompts={policy}"]), Storage(tmp_path))
        for policy in ("truncate", "stop", "drop")
    }
    prints = {policy: plan.curves[1].source.fingerprint for policy, plan in plans.items()}
    assert prints["truncate"] == prints["stop"] != prints["drop"]
    assert _prompts(plans["drop"].config)[0].model_id == "embedded:stable-diffusion"


def test_classes_of_ones_own(tmp_path):
    (tmp_path / "five.yaml").write_text(
        "[ankle boot, {name: bag, description: to carry things}, coat, dress, dark shirt]"
    )
    study = load_study("quickstart", [f"classes={tmp_path}/five.yaml", "curves.1.prompts=classnames"])
    assert study == load_study(
        "quickstart",
        [
            "classes=[ankle boot, {name: bag, description: to carry things}, coat, dress, dark shirt]",
            "curves.1.prompts=classnames",
        ],
    )
    StudyPlan(study, Storage(tmp_path)).check_prompts()
    bare = load_study("quickstart", ["classes=[ankle boot, bag, coat, dress, dark shirt]"])
    assert bare.cells()[0].source.fingerprint == study.cells()[0].source.fingerprint  # real images are the same


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["classes=[bag, zebra]"],
            "classes: generator 'embedded:stable-diffusion' never learned the word 'zebra' of class 'zebra' (1 of 2",
        ),
        (
            ["classes=[bag, coat]", "curves.1.prompts=descriptions"],
            "prompts 'descriptions': class 0 ('bag') has no description; give it 'description' or a 'wnid'",
        ),
        (
            ["classes=[bag, coat]", "curves.1.prompts=hypernyms", "long_prompts=drop"],
            "prompts 'hypernyms': class 0 ('bag') has no hypernyms; give it 'hypernyms' or a 'wnid'",
        ),
    ],
)
def test_classes_that_a_prompt_set_or_a_generator_cannot_do_with(tmp_path, overrides, message):
    plan = StudyPlan(load_study("quickstart", overrides), Storage(tmp_path))
    with pytest.raises(UserError) as caught:
        plan.check_prompts()
    assert str(caught.value).startswith(message)


def test_a_larger_size_leaves_the_runs_of_the_others(tmp_path):
    small = StudyPlan(load_study("quickstart"), Storage(tmp_path))
    grown = StudyPlan(load_study("quickstart", ["dataset_sizes=[256,512,1024,2048,4096]"]), Storage(tmp_path))
    known = {run.fingerprint for run in small.runs(small.curves[1])}
    assert known < {run.fingerprint for run in grown.runs(grown.curves[1])}


def test_muse_takes_its_own_guidance(tmp_path):
    muse = "generators.m={preset: amused-256}"
    curve = "curves.1={source: synthetic, generator: m, prompts: classnames, %s}"
    native: Any = load_study("quickstart", [muse, curve % "native_guidance: [0, 0.1, 1]"]).cells()[1:]
    scale = load_study("quickstart", [muse, curve % "guidance_scale: [1, 1.1, 2]"]).cells()[1:]
    assert native == scale
    assert [cell.name for cell in native] == ["m-classnames-g1", "m-classnames-g1.1", "m-classnames-g2"]
    assert [cell.source.native_guidance for cell in native] == [0, 0.1, 1]
    plan = StudyPlan(load_study("quickstart", [muse, curve % "native_guidance: 0.1"]), Storage(tmp_path))
    row = describe(plan, plan.curves[1])
    assert (row["guidance_scale"], row["native_guidance"]) == (1.1, 0.1)
    latent: Any = load_study(
        "quickstart", ["curves.1={source: synthetic, generator: sd, prompts: captions, native_guidance: 2}"]
    )
    assert latent.cells()[1].source.guidance_scale == 2


def test_auto_shards_are_of_the_smallest_size(tmp_path):
    plan = StudyPlan(load_study("quickstart"), Storage(tmp_path))
    assert plan.resolve_shard_size(GenerateResources()).shard_size == 256
    assert plan.resolve_shard_size(GenerateResources(shard_size=7)).shard_size == 7


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("curves.1.generator=sdd", "quickstart: curves: there is no generator 'sdd'; did you mean 'sd'?"),
        ("curves.1.prompts=caption", "quickstart: curves: there is no prompt set 'caption'; did you mean 'captions'?"),
        (
            "curves.1.native_guidance=1",
            "quickstart: curves.1: give guidance_scale or native_guidance, one of the two; both is there",
        ),
        (
            "curves.1={source: synthetic, generator: sd, prompts: captions}",
            "quickstart: curves.1: give guidance_scale or native_guidance, one of the two; neither is there",
        ),
        (
            "curves.1={source: synthetic, generator: sd, prompts: captions, native_guidance: low}",
            "quickstart: curves: native_guidance 'low' is not a number",
        ),
        (
            "generators.sd.family=latent",
            "quickstart: generators.sd: there is no generator family 'latent'; "
            "choose from imagen, muse, stable_diffusion",
        ),
        (
            "generators.sd.temperature=1",
            "quickstart: unknown key 'generators.sd.temperature'; choose from dtype, eta, family, height, lora, "
            "max_sequence_length, model_id, negative_prompt, num_inference_steps, revision, scheduler, "
            "scheduler_config, variant, width",
        ),
        (
            "curves.1.prompts=texts",
            "quickstart: curves: there is no prompt set 'texts'; give its file: prompt_sets: {texts: {kind: "
            "texts, path: FILE}}",
        ),
        (
            "prompt_sets.a={kind: word2sen, sentence: 3}",
            "quickstart: unknown key 'prompt_sets.a.sentence'; did you mean 'sentences'?",
        ),
        (
            "prompt_sets.a={kind: word2sen, model: {model_id: b, prompt: words}}",
            "quickstart: prompt_sets.a.model.prompt: the prompt has no place for the class name; put {} where it "
            'stands, once (given: "words")',
        ),
        (
            "prompt_sets.a={kind: model_captions, model: {do_sample: true}}",
            "quickstart: prompt_sets.a.model: num_beams 5 does not go with do_sample; set one of them to its default",
        ),
        (
            "prompt_sets.a={kind: texts, path: none.csv}",
            "quickstart: prompt_sets.a: there is no prompt file 'none.csv'; correct its path",
        ),
        (
            "long_prompts=cut",
            "quickstart: long_prompts: input should be 'truncate', 'drop' or 'stop' (given: \"cut\")",
        ),
        (
            "classes=[bag, {name: coat, hypernym: garment}]",
            "quickstart: classes: class 1: unknown key 'hypernym'; did you mean 'hypernyms'? "
            '(given: ["bag", {"name": "coat", "hypernym": "garment"}])',
        ),
        (
            "curves.1.guidance_scale=0.5",
            "quickstart: curves: guidance_scale 0.5 is below what stable_diffusion takes; give 1 (no guidance) or more",
        ),
        ("curves.1.guidance_scale=[1,1]", "quickstart: curves: 'sd-captions-g1' is there twice; give each curve once"),
        (
            "curves.1.guidance_scale=[]",
            "quickstart: curves.1.guidance_scale: the list is empty, which makes no curve; give at least one value "
            "(given: [])",
        ),
        (
            "curves.1.prompts=[]",
            "quickstart: curves.1.prompts: the list is empty, which makes no curve; give at least one value "
            "(given: [])",
        ),
        (
            "generators={sd 1.5: {model_id: a/b}}",
            "quickstart: generators.sd 1.5: a name has letters, digits, '.', '_' and '-', and begins with a letter or "
            'digit (given: "sd 1.5")',
        ),
        (
            "prompt_sets={my#set: {kind: word2sen}}",
            "quickstart: prompt_sets.my#set: a name has letters, digits, '.', '_' and '-', and begins with a letter or "
            'digit (given: "my#set")',
        ),
        (
            "evaluation_sets={a/b: {kind: embedded, name: val}}",
            "quickstart: evaluation_sets.a/b: a name has letters, digits, '.', '_' and '-', and begins with a letter "
            'or digit (given: "a/b")',
        ),
        (
            "evaluation_sets={images: {kind: embedded, name: val}}",
            "quickstart: evaluation_sets: 'images' is what image scores are called in results; rename it",
        ),
        ("curves.1.guidance_scale=high", "quickstart: curves: guidance_scale 'high' is not a number"),
        (
            "dataset_sizes=[512,256]",
            "quickstart: dataset_sizes: dataset sizes must rise, each given once (given: [512, 256])",
        ),
        ("dataset_sizes=[-5,256]", "quickstart: dataset_sizes.0: input should be greater than 0 (given: -5)"),
        ("train.batchsize=3", "quickstart: unknown key 'train.batchsize'; did you mean 'batch_size'?"),
        (
            "curves.1.guidanc_scale=2",
            "quickstart: unknown key 'curves.1.guidanc_scale'; did you mean 'guidance_scale'?",
        ),
        ("generators.sd.famly=x", "quickstart: unknown key 'generators.sd.famly'; did you mean 'family'?"),
        ("classes=fashon", "quickstart: classes: there is no vocabulary 'fashon'; did you mean 'fashion'?"),
        (
            "fit_window=[256,512]",
            "quickstart: fit_window [256, 512] holds 2 of the dataset sizes; a law needs 3",
        ),
        ("fit_window=[9,9]", "quickstart: fit_window [9, 9] is empty; give [smallest D, largest D]"),
        ("seeds=[1", "--set seeds=[1: '[1' is not YAML; quote it, or close its brackets"),
        ("nonsense", "--set nonsense: give it as a.b=value"),
        ("curves.9.source=real", "--set curves.9.source: '9' is no position in a list of 2"),
    ],
)
def test_mistakes_are_answered_in_one_line(override, message):
    with pytest.raises(UserError) as caught:
        load_study("quickstart", [override])
    assert str(caught.value) == message


def test_studies_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match="there is no study 'quikstart'; did you mean 'quickstart'"):
        load_study("quikstart")
    with pytest.raises(UserError, match=r"study file '.*/no.yaml' cannot be read: No such file"):
        load_study(str(tmp_path / "no.yaml"))
    (tmp_path / "bad.yaml").write_text("a: [1\n")
    with pytest.raises(UserError, match=r"study file '.*bad.yaml' is not YAML"):
        load_study(str(tmp_path / "bad.yaml"))
    (tmp_path / "latin.yaml").write_bytes("question: Größe?\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"^study file '.*latin\.yaml' is not UTF-8 text; save it as such$"):
        load_study(str(tmp_path / "latin.yaml"))


@pytest.mark.parametrize(
    ("stem", "proposed"), [("My Study", "my-study"), ("Größe 2", "gr-e-2"), ("_", "my-study"), ("-a-", "a-")]
)
def test_a_file_whose_name_is_no_name_for_a_study(tmp_path, stem, proposed):
    text = built_in_studies()["quickstart"].read_text()
    path = tmp_path / f"{stem}.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_study(str(path))
    assert str(caught.value) == (
        f"study file '{path}': a study is called as its file, and '{stem}' is no name for one; rename the file, or "
        f"give it a name: {proposed}"
    )
    assert load_study(str(path), [f"name={proposed}"]).name == proposed


def test_a_size_beyond_the_real_pool(tmp_path):
    plan = StudyPlan(load_study("quickstart", ["dataset_sizes=[256,512,1024,99999]"]), Storage(tmp_path))
    with pytest.raises(UserError) as caught:
        plan.check_sizes()
    expected = "dataset_sizes: 99999 is beyond 'real-pool', which has 19490 class-balanced images; give at most 19490"
    assert str(caught.value) == expected
