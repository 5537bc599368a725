"""`status` says what a run is doing, or that it was killed; a second run keeps off."""

import datetime as dt
import os
import re
import socket
import subprocess
import sys
import threading
import time

import pytest

from syn_ray.cli import main
from syn_ray.core.errors import SynRayError
from syn_ray.core.storage import Storage
from syn_ray.study import heartbeat, run_study


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
    last = _status(tmp_path, capsys).splitlines()[-1]
    assert re.fullmatch(r"killed, run it again to go on; 6\d s ago: 12 s", last)  # a second passes on a busy machine


def test_a_run_that_ends_takes_its_beat_away(study):
    heartbeat.beat(study, {}, "")
    heartbeat.end(study)
    heartbeat.end(study)
    assert heartbeat.last_beat(study) is None


def _write(study, host, pid, age_seconds=0.0):
    then = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=age_seconds)
    found = heartbeat.Heartbeat(time=then, doing={}, words="12 s", host=host, pid=pid)
    study.write_bytes(heartbeat.FILE, found.model_dump_json().encode())


@pytest.fixture
def another(study, monkeypatch):
    """A driver on another machine that goes on beating."""
    monkeypatch.setattr(heartbeat, "LOOK_SECONDS", 0.02)
    stop = threading.Event()

    def go_on():
        while not stop.is_set():
            _write(study, "another-machine", 7)
            stop.wait(0.1)

    thread = threading.Thread(target=go_on)
    _write(study, "another-machine", 7)
    thread.start()
    yield
    stop.set()
    thread.join()


def test_a_second_run_keeps_off_while_the_first_is_alive(another, study, tmp_path):
    with pytest.raises(SynRayError) as refused:
        run_study("quickstart", tmp_path)
    assert re.fullmatch(
        rf"the study in '{study.display}' is being run on another-machine, process 7, and said so \d s ago; wait for "
        r"its end \(`syn-ray status` says how far it is\) or stop it first",
        str(refused.value),
    )
    assert refused.value.exit_code == 1
    found = heartbeat.last_beat(study)
    assert found is not None
    assert found.host == "another-machine"  # the second took nothing away


def test_a_run_killed_on_another_machine_is_waited_for_until_it_is_silent(study, monkeypatch):
    monkeypatch.setattr(heartbeat, "LOOK_SECONDS", 0.02)
    said: list[str] = []
    started = time.monotonic()
    _write(study, "another-machine", 7, age_seconds=heartbeat.SILENT_SECONDS - 1)
    with heartbeat.only_driver(study, said.append):
        assert time.monotonic() - started > 0.99  # a second, less what two clocks may differ by
        found = heartbeat.last_beat(study)
        assert found is not None
        assert (found.host, found.pid) == (socket.gethostname(), os.getpid())
    assert len(said) == 1
    assert said[0].endswith(" s ago; waiting to see whether it was killed")
    assert heartbeat.last_beat(study) is None


def test_a_run_killed_here_is_followed_at_once(study, tmp_path, capsys):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    _write(study, socket.gethostname(), gone.pid)
    assert _status(tmp_path, capsys).splitlines()[-1].startswith("killed, run it again to go on; 0 s ago")
    with heartbeat.only_driver(study, pytest.fail):
        pass


def test_the_beats_go_on_while_a_stage_is_prepared(study, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.02)
    with heartbeat.only_driver(study, pytest.fail), heartbeat.beating(study, "stage train"):
        time.sleep(0.2)
        first = heartbeat.last_beat(study)
        time.sleep(0.2)
        second = heartbeat.last_beat(study)
        assert first is not None
        assert second is not None
        assert second.words == "stage train"
        assert second.time > first.time
    assert heartbeat.last_beat(study) is None
