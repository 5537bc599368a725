"""A study opened again with other settings: what may change, and what would take finished results out of the tables."""

import logging

import pytest

from syn_ray.core.artifact import write_artifact
from syn_ray.core.errors import UserError
from syn_ray.core.storage import Storage
from syn_ray.study.changes import differences
from syn_ray.study.load import load_study
from syn_ray.study.plan import StudyPlan
from syn_ray.study.runner import open_study

SEEDS = ["seeds=[0, 1, 2]"]


def _finish(directory, fingerprint):
    write_artifact(directory, kind="k", name="n", fingerprint=fingerprint, config={}, seconds=0.0, result={})


@pytest.fixture
def storage(tmp_path):
    """quickstart with three seeds, of which the real curve has been trained and judged on every set."""
    plan = open_study("quickstart", tmp_path, SEEDS)
    for run in plan.runs(plan.curves[0]):
        _finish(run.directory, run.fingerprint)
        for evaluation in plan.evaluations(run):
            _finish(evaluation.directory, evaluation.fingerprint)
    return tmp_path


def _study_file(storage):
    return (storage / "studies/quickstart/study.yaml").read_bytes()


def test_settings_that_would_drop_results_are_refused_with_the_keys_and_the_way_on(storage):
    before = _study_file(storage)
    with pytest.raises(UserError) as refused:
        open_study("quickstart", storage)
    assert str(refused.value) == (  # two of three seeds at four sizes, on five sets
        "study 'quickstart' was run with other settings: seeds: [0, 1, 2], now [0]. Its tables would lose 8 finished "
        f"trainings, 40 finished evaluations; go on with '{storage}/studies/quickstart/study.yaml', or give --set "
        "name=NAME for a study of its own"
    )
    assert _study_file(storage) == before
    with pytest.raises(UserError, match=r"now \[0\]; train.batch_size: 64, now 32\. Its tables would lose 12 fin"):
        open_study("quickstart", storage, ["train.batch_size=32"])
    one_set = "evaluation_sets={val: {kind: embedded, name: val}}"
    with pytest.raises(
        UserError, match=r"evaluation_sets.sketch: .*, now nothing; .* and 1 more\. Its tables would lose 48"
    ):
        open_study("quickstart", storage, [*SEEDS, one_set])


def test_both_ways_on_work(storage):
    own = open_study(str(storage / "studies/quickstart/study.yaml"), storage)
    assert own.config.seeds == (0, 1, 2)
    assert open_study("quickstart", storage, ["name=one-seed"]).root.uri.endswith("studies/one-seed")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "dataset_sizes=[256, 512, 1024, 2048, 4096]",
            "dataset_sizes: [256, 512, 1024, 2048], now [256, 512, 1024, 2048, 4096]",
        ),
        ("fit_window=[256, 1024]", "fit_window: [256, 2048], now [256, 1024]"),
        ("seeds=[0, 1, 2, 3]", "seeds: [0, 1, 2], now [0, 1, 2, 3]"),
    ],
)
def test_a_study_may_grow_and_be_fitted_anew(storage, caplog, change, words):
    with caplog.at_level(logging.WARNING):
        open_study("quickstart", storage, [*SEEDS, change])
    assert [record.getMessage() for record in caplog.records] == [
        f"study 'quickstart' was run with other settings before: {words}"
    ]
    caplog.clear()
    open_study("quickstart", storage, [*SEEDS, change])  # it is the study's file now
    assert caplog.records == []


def test_what_was_never_run_may_be_changed(tmp_path):
    open_study("quickstart", tmp_path, SEEDS)
    assert open_study("quickstart", tmp_path).config.seeds == (0,)


def test_a_file_that_this_version_does_not_understand_is_written_anew(tmp_path):
    plan = StudyPlan(load_study("quickstart"), Storage(tmp_path))
    for text in (b"no_such_key: 1\n", b"{"):
        plan.root.write_bytes("study.yaml", text)
        open_study("quickstart", tmp_path)
        assert _study_file(tmp_path).startswith(b"name: quickstart\n")


def test_differences_name_the_place_and_both_values():
    earlier = {"a": {"b": 1, "c": [1, 2]}, "d": "x" * 60, "e": 0}
    now = {"a": {"b": 2, "c": [1, 2]}, "d": None, "f": 0}
    assert list(differences(earlier, now)) == [
        "a.b: 1, now 2",
        f'd: "{"x" * 36}..., now null',
        "e: 0, now nothing",
        "f: nothing, now 0",
    ]
