"""A file of prompts: one a sample, of the class that the sample index says."""

import json

import pandas as pd
import pytest

from syn_ray.core.config import validate
from syn_ray.core.errors import UserError
from syn_ray.prompts.config import TextFile
from syn_ray.prompts.sets import make_prompt_set

CLASSES = ("cat", "dog")
ROWS = [("one cat", 0), ("one dog", 1), ("two cats", 0), ("two dogs", 1)]


def _file(folder, suffix, rows=ROWS):
    path = folder / f"prompts{suffix}"
    table = pd.DataFrame(rows, columns=["text", "label"])
    if suffix == ".csv":
        table.to_csv(path, index=False)
    elif suffix == ".parquet":
        table.to_parquet(path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    else:
        path.write_text("\n".join(text for text, _ in rows) + "\n")
    return str(path)


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl", ".parquet"])
def test_row_i_is_sample_is(tmp_path, suffix):
    prompts = make_prompt_set(TextFile(path=_file(tmp_path, suffix)), CLASSES, 0)
    assert [prompts.prompt(i) for i in range(6)] == [*(text for text, _ in ROWS), "one cat", "one dog"]


def test_a_line_ends_with_a_line_feed_and_nothing_else(tmp_path):
    """Unicode has seven more line breaks; a prompt cut at one would move all that follow to other classes."""
    odd = "one\x85cat\u2028of\u2029the\x0ckind\x0b\x1c"
    (tmp_path / "p.txt").write_bytes(f"\ufeff{odd}\r\none dog\r\ntwo cats\ntwo dogs\r\n".encode())
    prompts = make_prompt_set(TextFile(path=str(tmp_path / "p.txt")), CLASSES, 0)
    assert prompts.prompts == ((odd, "two cats"), ("one dog", "two dogs"))


def test_a_file_that_is_no_text_is_said(tmp_path):
    (tmp_path / "p.txt").write_bytes(b"one cat\nein Dackel f\xfcr mich\n")
    with pytest.raises(UserError) as caught:
        make_prompt_set(TextFile(path=str(tmp_path / "p.txt")), CLASSES, 0)
    assert str(caught.value) == f"texts '{tmp_path}/p.txt', row 1: it is not UTF-8 text; save the file as such"


def test_a_text_is_the_same_wherever_it_lies_and_another_where_it_is_read_otherwise(tmp_path):
    (tmp_path / "moved to").mkdir()
    here, there = _file(tmp_path, ".txt"), _file(tmp_path / "moved to", ".txt")
    other = tmp_path / "prompts.csv"
    other.write_bytes((tmp_path / "prompts.txt").read_bytes())
    assert TextFile(path=here).fingerprint == TextFile(path=there).fingerprint != TextFile(path=str(other)).fingerprint
    assert make_prompt_set(TextFile(path=there), CLASSES, 0) == make_prompt_set(TextFile(path=here), CLASSES, 0)


def test_labels_may_be_names_and_columns_have_others(tmp_path):
    pd.DataFrame({"prompt": ["a", "b"], "class": ["cat", "dog"]}).to_csv(tmp_path / "p.csv", index=False)
    config = TextFile(path=str(tmp_path / "p.csv"), column="prompt", label_column="class")
    assert make_prompt_set(config, CLASSES, 0).prompts == (("a",), ("b",))


def test_another_text_is_another_source_and_a_changed_file_is_said(tmp_path):
    path = _file(tmp_path, ".csv")
    config = TextFile(path=path)
    _file(tmp_path, ".csv", ROWS[::-1])
    assert TextFile(path=path).fingerprint != config.fingerprint
    with pytest.raises(UserError, match=r"^texts '.*prompts.csv' is not the file it was \(sha256 .{12}\); restore it$"):
        make_prompt_set(config, CLASSES, 0)


@pytest.mark.parametrize(
    ("suffix", "rows", "settings", "message"),
    [
        (
            ".csv",
            ROWS[::-1],
            {},
            "texts '{path}', row 0: its label is 1, sample 0 is of class 0 ('cat'); order the rows so that row i "
            "has label i mod 2",
        ),
        (".jsonl", [*ROWS, (" ", 0)], {}, "texts '{path}', row 4: there is no prompt; give every sample one"),
        (".parquet", ROWS[:1], {}, "texts '{path}' has 1 prompts for 2 classes; give one a class"),
        (".csv", ROWS, {"column": "texts"}, "texts '{path}': there is no column 'texts'; did you mean 'text'?"),
        (
            ".csv",
            ROWS,
            {"label_column": "class"},
            "texts '{path}' has no column 'class' that says what class a prompt is for; add it, or set label_column: "
            "null if row i is of class i mod 2",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, suffix, rows, settings, message):
    path = _file(tmp_path, suffix, rows)
    with pytest.raises(UserError) as caught:
        make_prompt_set(TextFile(path=path, **settings), CLASSES, 0)
    assert str(caught.value) == message.format(path=path)


def test_files_of_other_kinds_and_files_that_are_gone(tmp_path):
    (tmp_path / "a.doc").write_text("x")
    with pytest.raises(UserError, match=r"files end in .txt, .csv, .jsonl, .parquet; convert it$"):
        make_prompt_set(TextFile(path=str(tmp_path / "a.doc")), CLASSES, 0)
    (tmp_path / "a.parquet").write_text("x")
    with pytest.raises(UserError, match=r"^texts '.*a.parquet' is no .parquet file: [^\n]*$"):
        make_prompt_set(TextFile(path=str(tmp_path / "a.parquet")), CLASSES, 0)
    with pytest.raises(UserError, match=r"^study: there is no prompt file '.*no.csv'; correct its path$"):
        validate(TextFile, {"path": str(tmp_path / "no.csv")}, "study")
