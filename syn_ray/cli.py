"""`syn-ray ...`. Exit codes: 0 done, 2 the user's input is wrong (one line says how), 1 anything else."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from syn_ray.core.errors import SynRayError, UserError
from syn_ray.core.resources import load_resources
from syn_ray.core.storage import Storage
from syn_ray.study.environment import set_environment
from syn_ray.study.heartbeat import last_beat
from syn_ray.study.load import built_in_studies, load_study
from syn_ray.study.plan import StudyPlan
from syn_ray.study.runner import DEFAULT_STORAGE, open_study, run_study
from syn_ray.study.status import describe_status

app = typer.Typer(help=__doc__, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
console = Console(stderr=True)
output = Console(soft_wrap=True, highlight=False)

Study = Annotated[str, typer.Argument(help="A built-in study (`syn-ray studies`) or a path that ends in .yaml.")]
StorageUri = Annotated[str, typer.Option("--storage", help="Where results are: a local path, s3:// or gs:// URI.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Change a value of the study: a.b=c. May be repeated.")]
ResourcesFile = Annotated[Path | None, typer.Option("--resources", help="YAML file: workers, GPUs, batch sizes.")]
ShardPath = Annotated[str, typer.Argument(help="A storage, or a directory under images/ or prompts/.")]
SourcePath = Annotated[str, typer.Argument(help="The directory of one source, under images/.")]


@app.command()
def run(study: Study, storage: StorageUri = DEFAULT_STORAGE, set_: Set = None, resources: ResourcesFile = None) -> None:
    """Runs a whole study; run again, it does what is missing. Prints the report's path last."""
    result = run_study(study, storage, overrides=set_ or [], resources=load_resources(resources), console=console)
    output.print(result.report)


@app.command()
def plan(study: Study, storage: StorageUri = DEFAULT_STORAGE, set_: Set = None) -> None:
    """Lists a study's curves, images and trainings, and what of them is there already."""
    from syn_ray.study.prompts import unwritten

    opened = _plan(study, storage, set_)
    _print(describe_status(opened, "to do", {}))
    for use in unwritten(opened):
        output.print(f"prompts {use.name}: {use.to_do}", markup=False)
    for name, path in opened.absent_images.items():
        output.print(f"images {name}: '{path}' is not on this machine", markup=False)


@app.command()
def status(study: Study, storage: StorageUri = DEFAULT_STORAGE, set_: Set = None) -> None:
    """Shows what of a study is done, what a run does at this moment, and what is missing."""
    opened = _plan(study, storage, set_)
    beat = last_beat(opened.root)
    _print(describe_status(opened, "status", beat.doing if beat and beat.alive else {}))
    if beat:
        state = "running" if beat.alive else "killed, run it again to go on"
        output.print(f"{state}; {beat.age_seconds:.0f} s ago: {beat.words}", markup=False)


@app.command()
def prompts(
    study: Study,
    storage: StorageUri = DEFAULT_STORAGE,
    set_: Set = None,
    resources: ResourcesFile = None,
    show: Annotated[int, typer.Option(help="Prompts shown of each class.")] = 3,
    classes: Annotated[int, typer.Option(help="Classes shown of each prompt set.")] = 10,
) -> None:
    """Makes and shows the prompt sets; one whose model or images are not on this machine is told, not made."""
    from syn_ray.study.prompt_table import describe_prompts
    from syn_ray.study.prompts import unwritten

    opened = _plan(study, storage, set_)
    writable = [use for use in unwritten(opened) if use.lacking is None]
    if writable:
        set_environment()
        from syn_ray.study.cluster import connected  # loads Ray
        from syn_ray.study.session import write_sets

        asked = load_resources(resources)
        with connected(asked):
            write_sets(opened, writable, asked, console)
    _print(describe_prompts(opened, show, classes))


def _stage(name: str, help_text: str) -> Callable[..., None]:
    def command(
        study: Study, storage: StorageUri = DEFAULT_STORAGE, set_: Set = None, resources: ResourcesFile = None
    ) -> None:
        set_environment()
        from syn_ray.study.session import run_stage  # loads Ray and torch

        run_stage(name, open_study(study, storage, set_ or []), load_resources(resources), output)

    command.__doc__ = help_text
    return app.command(name)(command)


generate = _stage("generate", "Makes the images of every curve, and the evaluation sets.")
score = _stage("score", "Scores every curve's images: recognizability and diversity.")
train = _stage("train", "Trains every run of every curve.")
evaluate = _stage("evaluate", "Judges every trained run on every evaluation set.")


@app.command()
def judge(
    study: Study,
    weights: Annotated[list[Path], typer.Argument(help="Files of weights: flat state dicts, as the authors' are.")],
    storage: StorageUri = DEFAULT_STORAGE,
    set_: Set = None,
    resources: ResourcesFile = None,
) -> None:
    """Judges weights from elsewhere, of the model that a study trains, on its evaluation sets."""
    set_environment()
    from syn_ray.study.released import judge_weights
    from syn_ray.study.session import at_work

    opened, asked = open_study(study, storage, set_ or []), load_resources(resources)
    with at_work(opened, asked, "judging weights", console):
        found = judge_weights(opened, weights, asked)
    wide = found.pivot_table(index=["weights", "eval_set"], columns="metric", values="value", sort=False)
    output.print(wide.reset_index().to_string(index=False, float_format="{:.4f}".format))


@app.command()
def fit(study: Study, storage: StorageUri = DEFAULT_STORAGE, set_: Set = None) -> None:
    """Writes results.parquet and fits.parquet from what is finished, and prints the laws."""
    from syn_ray.study.publish import write_tables

    opened = open_study(study, storage, set_ or [], makes_images=False)
    output.print(write_tables(opened).fits.to_string(index=False))


@app.command()
def report(study: Study, storage: StorageUri = DEFAULT_STORAGE, set_: Set = None) -> None:
    """Writes the report from what is finished, and prints its path."""
    from syn_ray.study.publish import write_report, write_tables

    opened = open_study(study, storage, set_ or [], makes_images=False)
    output.print((write_report(opened, write_tables(opened)) / "index.html").display)


@app.command()
def verify(path: ShardPath) -> None:
    """Looks at every shard: readable, right rows, right sums, every image decodes. Names what is broken."""
    from syn_ray.shards.verify import verify as look

    found = look(_existing(path))
    for problem in found.problems:
        output.print(str(problem), markup=False)
    for directory in found.unfinished:
        output.print(f"{directory.display}: not finished (no artifact.json); run again to go on", markup=False)
    texts = f", {found.texts} texts" if found.texts else ""
    output.print(
        f"{found.sources} sources, {found.shards} shards, {found.samples} samples{texts}: "
        f"{len(found.problems)} problems"
    )
    if found.problems:
        raise typer.Exit(1)


@app.command()
def show(
    path: SourcePath,
    index: Annotated[int | None, typer.Option(help="One sample: its image and how it came to be.")] = None,
    regenerate: Annotated[bool, typer.Option(help="Make the sample again and compare.")] = False,
    out: Annotated[Path, typer.Option(help="The file that is written.")] = Path("syn_ray_show.png"),
) -> None:
    """Writes a contact sheet of a source, or one image with its provenance."""
    from syn_ray.study.preview import show_sample, show_sheet

    directory = _existing(path)
    if index is None:
        output.print(show_sheet(directory, out))
    else:
        output.print(show_sample(directory, index, out, regenerate=regenerate), markup=False)


@app.command()
def studies(
    print_: Annotated[
        str | None, typer.Option("--print", help="Print a built-in study's file, to start your own from.")
    ] = None,
) -> None:
    """Lists the built-in studies and what each costs."""
    known = built_in_studies()
    if print_ is not None:
        if print_ not in known:
            load_study(print_)
        output.print(known[print_].read_text(), markup=False, end="")
        return
    table = Table("study", "curves", "images", "trainings", "question")
    for name in known:
        config = load_study(name)
        opened = StudyPlan(config, Storage(DEFAULT_STORAGE))
        images = sum(request.dataset_size or 0 for request in opened.image_requests)
        trainings = sum(len(opened.runs(curve)) for curve in opened.curves)
        table.add_row(name, str(len(opened.curves)), f"{images:,}", str(trainings), config.question)
    output.print(table)


def _plan(study: str, storage: str, overrides: list[str] | None) -> StudyPlan:
    opened = StudyPlan(load_study(study, overrides or []), Storage(storage))
    opened.check_prompts()
    opened.check_images()
    if "real" not in opened.absent_images:
        opened.check_sizes()
    return opened


def _print(parts: Iterable[Table | str]) -> None:
    for part in parts:
        output.print(part, markup=False)


def _existing(path: str) -> Storage:
    storage = Storage(path)
    if not storage.exists():
        raise UserError(f"'{path}' does not exist; give a storage or a directory under images/")
    return storage


def main(arguments: list[str] | None = None) -> None:
    """The command line; ends the process with its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app(args=arguments)
    except SynRayError as error:
        print(f"syn-ray: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"syn-ray: {error}; check the storage and its rights", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
