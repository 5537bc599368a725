"""A user's file of prompts, one a sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from syn_ray.core.errors import UserError, nearest
from syn_ray.prompts.config import TextFile, read_text_file, text_revision
from syn_ray.prompts.prompt_set import PromptSet

READERS = {".csv": pacsv.read_csv, ".jsonl": pajson.read_json, ".parquet": pq.read_table}


def read_texts(config: TextFile, names: Sequence[str] | None) -> PromptSet:
    """The prompts of a file, by class: row `i` is of class `i mod num_classes`.

    Args:
        config: which file.
        names: of the classes; None where there are none.

    Raises:
        UserError: the file is gone or another one, has no such column, an empty prompt, or a label that is not what the
            sample index says.
    """
    table = _read_table(config)
    texts = _column(config, table, config.column)
    for row, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"texts '{config.path}', row {row}: there is no prompt; give every sample one")
    if names is None:
        return PromptSet((tuple(texts),), labelled=False)
    if len(texts) < len(names):
        raise UserError(f"texts '{config.path}' has {len(texts)} prompts for {len(names)} classes; give one a class")
    if config.label_column is not None and config.label_column in table.column_names:
        _check_labels(config, table[config.label_column].to_pylist(), names)
    elif config.label_column is not None and config.suffix != ".txt":
        raise UserError(
            f"texts '{config.path}' has no column '{config.label_column}' that says what class a prompt is for; "
            f"add it, or set label_column: null if row i is of class i mod {len(names)}"
        )
    return PromptSet(tuple(tuple(texts[label :: len(names)]) for label in range(len(names))))


def _read_table(config: TextFile) -> pa.Table:
    try:
        data = read_text_file(config.path)
    except ValueError as error:
        raise UserError(f"texts: {error}") from None
    if text_revision(config.path, data) != config.revision:
        raise UserError(f"texts '{config.path}' is not the file it was (sha256 {config.revision[:12]}); restore it")
    suffix = config.suffix
    if suffix == ".txt":
        return pa.table({config.column: _lines(config, data)})
    if suffix not in READERS:
        raise UserError(f"texts '{config.path}': files end in .txt, {', '.join(READERS)}; convert it")
    try:
        return READERS[suffix](pa.BufferReader(data))
    except pa.ArrowException as error:
        raise UserError(f"texts '{config.path}' is no {suffix} file: {str(error).splitlines()[0]}") from None


def _lines(config: TextFile, data: bytes) -> list[str]:
    """Lines end with a line feed, or a carriage return before it, as editors write them; no other mark ends one."""
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start)
        raise UserError(f"texts '{config.path}', row {line}: it is not UTF-8 text; save the file as such") from None
    return [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]


def _column(config: TextFile, table: pa.Table, name: str) -> list[Any]:
    if name not in table.column_names:
        raise UserError(f"texts '{config.path}': there is no column '{name}'{nearest(name, table.column_names)}")
    return list(table[name].to_pylist())


def _check_labels(config: TextFile, labels: Sequence[Any], names: Sequence[str]) -> None:
    for row, label in enumerate(labels):
        expected = row % len(names)
        if label not in (expected, names[expected]):
            raise UserError(
                f"texts '{config.path}', row {row}: its label is {label!r}, sample {row} is of class {expected} "
                f"('{names[expected]}'); order the rows so that row i has label i mod {len(names)}"
            )
