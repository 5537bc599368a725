"""`status` says what a run is doing, or that it was killed."""

import datetime as dt

import pytest

from syn_ray.cli import main
from syn_ray.core.storage import Storage
from syn_ray.study import heartbeat


@pytest.fixture
def study(tmp_path):
    return Storage(tmp_path) / "studies/quickstart"


def _status(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["status", "quickstart", "--storage", str(tmp_path)])
    assert not ended.value.code
    return capsys.readouterr().out


def test_nothing_runs_where_nothing_beats(tmp_path, capsys):
    printed = _status(tmp_path, capsys)
    assert " now " not in printed
    assert "running" not in printed


def test_a_running_study_says_what_each_curve_does(study, tmp_path, capsys):
    heartbeat.beat(study, {"real": "training"}, "12 s | images 0/6144")
    printed = _status(tmp_path, capsys)
    (line,) = (line for line in printed.splitlines() if line.startswith("│ real "))
    assert line.split("│")[-2].strip() == "training"
    assert printed.splitlines()[-1] == "running; 0 s ago: 12 s | images 0/6144"


def test_a_killed_study_is_not_called_running(study, tmp_path, capsys):
    then = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=heartbeat.SILENT_SECONDS + 1)
    beat = heartbeat.Heartbeat(time=then, doing={"real": "training"}, words="12 s")
    study.write_bytes(heartbeat.FILE, beat.model_dump_json().encode())
    assert _status(tmp_path, capsys).splitlines()[-1] == "killed, run it again to go on; 61 s ago: 12 s"


def test_a_run_that_ends_takes_its_beat_away(study):
    heartbeat.beat(study, {}, "")
    heartbeat.end(study)
    heartbeat.end(study)
    assert heartbeat.last_beat(study) is None
