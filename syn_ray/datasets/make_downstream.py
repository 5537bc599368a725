"""Makes `data/downstream.json.xz`, CLIP's class names and templates of the paper's sets, and `data/digits.csv.xz`.

To make both again (seconds; nothing of the packages is installed or run):

    pip download --no-deps clip-benchmark==1.6.2 fusion-bench==0.2.33 scikit-learn==1.9.1
    python -m syn_ray.datasets.make_downstream clip_benchmark-*.whl fusion_bench-*.whl scikit_learn-*.whl

Both packages of prompts carry parts of the list in CLIP's repository (`data/prompts.md`). Put together they are that
list, to the letter but for this: labels are in the data sets' order as torchvision has it, so EuroSAT's and Pets' names
stand in another; Pets are capitalised, which tokenizers undo; and GTSRB's bicycle is spelt right. Both files say where
they come from and under which licence.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import lzma
import zipfile
from pathlib import Path
from typing import Any

from syn_ray.datasets.derived import DIGITS
from syn_ray.datasets.downstream import DOWNSTREAM, PROMPTS

CLIP_BENCHMARK = {"aircraft": "fgvc_aircraft"}
"""What clip-benchmark calls the sets that it names otherwise."""
FUSION_BENCH = {
    "food101": "food101",
    "cifar10": "cifar10",
    "cifar100": "cifar100",
    "sun397": "sun397",
    "cars": "stanford_cars",
    "dtd": "dtd",
    "stl10": "stl10",
    "resisc45": "resisc45",
}
"""Modules of fusion-bench with the class names that clip-benchmark leaves to the data sets."""
AIRCRAFT = (
    "707-320;727-200;737-200;737-300;737-400;737-500;737-600;737-700;737-800;737-900;747-100;747-200;747-300;"
    "747-400;757-200;757-300;767-200;767-300;767-400;777-200;777-300;A300B4;A310;A318;A319;A320;A321;A330-200;"
    "A330-300;A340-200;A340-300;A340-500;A340-600;A380;ATR-42;ATR-72;An-12;BAE 146-200;BAE 146-300;BAE-125;"
    "Beechcraft 1900;Boeing 717;C-130;C-47;CRJ-200;CRJ-700;CRJ-900;Cessna 172;Cessna 208;Cessna 525;Cessna 560;"
    "Challenger 600;DC-10;DC-3;DC-6;DC-8;DC-9-30;DH-82;DHC-1;DHC-6;DHC-8-100;DHC-8-300;DR-400;Dornier 328;E-170;"
    "E-190;E-195;EMB-120;ERJ 135;ERJ 145;Embraer Legacy 600;Eurofighter Typhoon;F-16A/B;F/A-18;Falcon 2000;"
    "Falcon 900;Fokker 100;Fokker 50;Fokker 70;Global Express;Gulfstream IV;Gulfstream V;Hawk T1;Il-76;L-1011;"
    "MD-11;MD-80;MD-87;MD-90;Metroliner;Model B200;PA-28;SR-20;Saab 2000;Saab 340;Spitfire;Tornado;Tu-134;Tu-154;"
    "Yak-42"
)
"""The variants of FGVC-Aircraft in the data set's order; neither package lists them."""
RESISC45_TEMPLATES = tuple(
    f"{what} of {article}{{}}."
    for article in ("", "a ", "the ")
    for what in (
        "satellite imagery",
        "aerial imagery",
        "satellite photo",
        "aerial photo",
        "satellite view",
        "aerial view",
    )
)
"""CLIP's 18; clip-benchmark has four of its own, for the set's copy in VTAB."""
SOURCES = (
    "Class names and templates: CLIP's data/prompts.md, Copyright (c) 2021 OpenAI (MIT licence), as carried by "
    "clip-benchmark 1.6.2, Copyright (c) 2022 Mehdi Cherti (MIT licence), and fusion-bench 0.2.33, Copyright (c) 2024 "
    "Anke Tang (MIT licence)."
)
DIGITS_SOURCE = """\
# Optical Recognition of Handwritten Digits, E. Alpaydin, C. Kaynak 1998, UCI Machine Learning Repository (CC BY 4.0):
# its test set, unchanged, as scikit-learn 1.9.1 (BSD-3-Clause) carries it. 64 grey levels 0 to 16 by rows; the digit.
"""


def main() -> None:
    """Writes both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for package in ("clip_benchmark", "fusion_bench", "scikit_learn"):
        parser.add_argument(package, type=Path, help="its wheel")
    given = parser.parse_args()
    with zipfile.ZipFile(given.clip_benchmark) as clip, zipfile.ZipFile(given.fusion_bench) as fusion:
        licence = clip.read("clip_benchmark-1.6.2.dist-info/LICENSE").decode()
        sets = {
            name: {"classes": _classes(name, clip, fusion), "templates": _templates(name, clip)} for name in DOWNSTREAM
        }
    record = {"sources": SOURCES, "licence": licence[licence.index("Permission") :], "sets": sets}
    PROMPTS.write_bytes(lzma.compress(json.dumps(record, indent=1).encode(), preset=9))
    with zipfile.ZipFile(given.scikit_learn) as scikit:
        rows = gzip.decompress(scikit.read("sklearn/datasets/data/digits.csv.gz")).decode()
    DIGITS.write_bytes(lzma.compress((DIGITS_SOURCE + rows).encode(), preset=9))


def _classes(name: str, clip: zipfile.ZipFile, fusion: zipfile.ZipFile) -> list[str]:
    if name == "aircraft":
        return AIRCRAFT.split(";")
    if name not in FUSION_BENCH:
        names: list[str] = json.loads(clip.read("clip_benchmark/datasets/en_classnames.json"))[name]
        return names
    lists = _lists(fusion.read(f"fusion_bench/tasks/clip_classification/{FUSION_BENCH[name]}.py").decode())
    if name == "cifar100":  # the data set's own words there: underscores, and a crab that lost its last letter
        return ["crab" if word == "cra" else word.replace("_", " ") for word in lists["fine_label"]]
    return lists["classnames"]


def _lists(module: str) -> dict[str, list[str]]:
    """The lists of strings that a module assigns, read without running it."""
    found: dict[str, list[str]] = {}
    for statement in ast.parse(module).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            try:
                value: Any = ast.literal_eval(statement.value)
            except ValueError:
                continue
            found[statement.targets[0].id] = value
    return found


def _templates(name: str, clip: zipfile.ZipFile) -> list[str]:
    if name == "resisc45":
        return list(RESISC45_TEMPLATES)
    known = json.loads(clip.read("clip_benchmark/datasets/en_zeroshot_classification_templates.json"))
    return [template.replace("{c}", "{}") for template in known[CLIP_BENCHMARK.get(name, name)]]


if __name__ == "__main__":
    main()
