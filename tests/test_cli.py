"""The command line: exit codes, one line for a mistake, and what needs no Ray answers without it."""

import re
import subprocess
import sys

import pytest

from syn_ray.cli import main


def _run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    captured = capsys.readouterr()
    return ended.value.code or 0, captured.out, captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "quikstart"], "syn-ray: there is no study 'quikstart'; did you mean 'quickstart'?"),
        (["run", "quickstart", "--storage", "{file}/x"], "syn-ray: storage '{file}/x' cannot be written"),
        (["run", "quickstart", "--resources", "{file}x"], "syn-ray: resources file '{file}x' cannot be read"),
        (
            ["plan", "quickstart", "--set", "dataset_sizes=[256,512,1024,99999]"],
            "syn-ray: dataset_sizes: 99999 is beyond 'real-pool'",
        ),
        (["verify", "{file}x"], "syn-ray: '{file}x' does not exist; give a storage or a directory under images/"),
        (
            ["show", "{folder}"],
            "syn-ray: '{folder}' holds no shards (no manifest.json); give a directory under images/",
        ),
        (
            ["fit", "quickstart", "--storage", "{folder}"],
            "syn-ray: study 'quickstart' has no results yet; run `syn-ray run`",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(capsys, tmp_path, arguments, message):
    (tmp_path / "file").write_text("")
    names = {"file": str(tmp_path / "file"), "folder": str(tmp_path)}
    code, _, error = _run(capsys, *(argument.format(**names) for argument in arguments))
    assert error.startswith(message.format(**names))
    assert error.count("\n") == 1
    assert code == (1 if arguments[0] == "fit" else 2)


def test_the_plan_lists_curves_images_and_runs(capsys, tmp_path):
    code, out, _ = _run(capsys, "plan", "quickstart", "--storage", str(tmp_path / "none"))
    assert code == 0
    assert re.search(r"sd-captions-g7.5 +│ 0/2048 +│ no +│ 0/4", out)
    assert "dataset sizes 256, 512, 1024, 2048; seeds 1; evaluation sets val, sketch, rendition, v2, adversarial" in out
    assert not (tmp_path / "none").exists()


def test_prompts_and_studies_are_shown(capsys):
    assert "ankle boot" in _run(capsys, "prompts", "quickstart", "--show", "1")[1]
    assert "embedded-effects" in _run(capsys, "studies")[1]
    assert _run(capsys, "studies", "--print", "quickstart")[1].startswith("# The first study")


def test_what_needs_neither_ray_nor_torch_loads_neither():
    code = (
        "import sys\nfrom syn_ray.cli import main\n"
        "try: main(['plan', 'quickstart'])\nexcept SystemExit: pass\n"
        "print([m for m in ('ray', 'torch', 'diffusers', 'timm', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
