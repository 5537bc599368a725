"""What the README promises exists."""

import re
from pathlib import Path

import pytest
import yaml

from syn_ray.cli import app
from syn_ray.core.config import validate
from syn_ray.study.config import StudyConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_two_commands_stand_there():
    assert "pip install -c constraints.txt -e . && syn-ray run quickstart" in README
    assert "pip install -c constraints.txt -e '.[test]' && pytest" in README


def test_every_verb_is_a_command():
    verbs = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    mentioned = set(re.findall(r"syn-ray ([a-z]+)", README)) | set(re.findall(r"· `([a-z]+)", README))
    assert mentioned <= verbs
    assert verbs == {
        *("run", "plan", "prompts", "generate", "score", "train", "evaluate", "fit", "report", "status"),
        *("verify", "show", "studies", "judge"),
    }


@pytest.mark.parametrize("target", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_links_lead_somewhere(target):
    assert (ROOT / target).exists()


def test_the_studies_in_the_readme_are_studies():
    texts = [part.split("```")[0] for part in README.split("```yaml\n")[1:]]
    studies = [validate(StudyConfig, {"name": "mine"} | yaml.safe_load(text), "README") for text in texts]
    assert [len(study.cells()) for study in studies] == [7, 4]
    assert [study.trains_clip for study in studies] == [False, True]
