"""The house rules that a reader relies on."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "syn_ray").rglob("*.py"))


def test_layers_and_rays_place_hold():
    pytest.importorskip("importlinter", reason="import-linter comes with the extra 'dev'")
    tool = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([tool], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_ray_is_imported_by_stages_and_the_study_only():
    guilty = []
    for path in SOURCES:
        module = path.relative_to(ROOT / "syn_ray").as_posix()
        imported = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (
                [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            )
        }
        if "ray" in imported and not module.endswith("/stage.py") and not module.startswith("study/"):
            guilty.append(module)
    assert guilty == []


def test_files_and_functions_fit_the_eye():
    long_files = {path.name: lines for path in SOURCES if (lines := len(path.read_text().splitlines())) > 300}
    long_functions = {
        f"{path.name}:{node.name}": lines
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > 80  # docstrings included
    }
    assert (long_files, long_functions) == ({}, {})


@pytest.mark.parametrize("job", sorted((ROOT / "jobs").glob("*.py")), ids=lambda path: path.name)
def test_jobs_are_thin(job):
    assert len(job.read_text().splitlines()) <= 12
    assert "from syn_ray.cli import main" in job.read_text()
