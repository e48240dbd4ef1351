# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import gzip
import json
import logging
import re
from pathlib import Path

import pytest

from resrank_evals.beir import choose_split, collection_name, is_beir, load_beir, splits
from resrank_evals.collection import Passage

HEADER = "query-id\tcorpus-id\tscore\n"
PASSAGES = [
    {"_id": "d1", "title": "Zinc", "text": "Zinc is a metal.", "metadata": {"year": 1}},
    {"_id": "d2", "text": "Tin is one too."},
    {"_id": "d3", "title": None, "text": ""},
]
QUERIES = [
    {"_id": "q2", "text": "what is tin"},
    {"_id": "q1", "text": "is zinc a metal"},
    {"_id": "q3", "text": "a query of another split"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PASSAGES), encoding="utf-8")
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in QUERIES), encoding="utf-8")
    (folder / "qrels" / "test.tsv").write_text(f"{HEADER}q1\td1\t2\nq1\td2\t-1\nq2\td3\t0\n", encoding="utf-8")
    return folder


def error(where: Path, line: int | None, text: str) -> str:
    return re.escape(f"{where}:{line}: {text}" if line else f"{where}: {text}")


def test_reads_a_collection(folder):
    collection = load_beir(folder)
    assert (collection.name, collection.split, collection.source) == ("tiny", "test", str(folder))
    assert dict(collection.passages) == {
        "d1": Passage("Zinc is a metal.", "Zinc"),
        "d2": Passage("Tin is one too."),
        "d3": Passage(""),
    }
    assert list(collection.passages) == ["d1", "d2", "d3"]
    assert list(collection.queries) == ["q2", "q1"]  # the order of the file; q3 has no qrels here
    # A query without any relevant passage is kept, and so is a negative grade.
    assert collection.qrels == {"q1": {"d1": 2, "d2": -1}, "q2": {"d3": 0}}
    assert len(collection.fingerprint) == 16


def test_gzip_byte_order_mark_line_ends_and_blank_lines_change_nothing(folder):
    expected = load_beir(folder).fingerprint
    corpus = (folder / "corpus.jsonl").read_text(encoding="utf-8")
    (folder / "corpus.jsonl").unlink()
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(f"\ufeff{corpus}\n  \n".encode()))
    qrels = folder / "qrels" / "test.tsv"
    qrels.write_bytes(qrels.read_bytes().replace(b"\n", b"\r\n"))
    assert load_beir(folder).fingerprint == expected


def test_is_beir_asks_for_a_corpus(folder, tmp_path):
    assert is_beir(folder)
    (folder / "queries.jsonl").unlink()
    assert is_beir(folder)  # damaged, and load_beir says how
    assert not is_beir(tmp_path)
    assert not is_beir(tmp_path / "nowhere")


def test_the_name_of_a_relative_folder(folder, monkeypatch):
    monkeypatch.chdir(folder / "qrels")
    assert collection_name(Path("..")) == "tiny"
    assert load_beir(Path("..")).name == "tiny"


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["dev", "test", "train"], "test"),
        (["dev", "train"], "dev"),
        (["train"], "train"),
        (["validation"], "validation"),
    ],
)
def test_the_split_that_counts_when_none_is_named(folder, names, chosen):
    (folder / "qrels" / "test.tsv").rename(folder / "all.tsv")
    for name in names:
        (folder / "qrels" / f"{name}.tsv").write_text(f"{HEADER}q1\td1\t1\n", encoding="utf-8")
    assert splits(folder) == names
    assert choose_split(folder) == chosen
    assert load_beir(folder).split == chosen
    assert load_beir(folder, names[0]).split == names[0]
    assert load_beir(folder, names[0]).name == "tiny"


def test_splits_that_cannot_be_chosen(folder):
    with pytest.raises(ValueError, match=error(folder, None, "expected one of the splits test, got 'dev'; ask for")):
        load_beir(folder, "dev")
    (folder / "qrels" / "test.tsv").rename(folder / "qrels" / "a.tsv")
    (folder / "qrels" / "b.tsv").write_text("x", encoding="utf-8")
    message = "expected a split named test or dev, or only one split, got a, b; name the split"
    with pytest.raises(ValueError, match=error(folder, None, message)):
        load_beir(folder)
    for name in "ab":
        (folder / "qrels" / f"{name}.tsv").unlink()
    with pytest.raises(ValueError, match=error(folder / "qrels", None, "expected a file <split>.tsv, got none; write")):
        load_beir(folder)


def test_missing_and_doubled_files(folder):
    (folder / "queries.jsonl.gz").write_bytes(b"")
    message = "expected one of queries.jsonl and queries.jsonl.gz, got both; move one of them elsewhere"
    with pytest.raises(ValueError, match=error(folder, None, message)):
        load_beir(folder)
    (folder / "queries.jsonl.gz").unlink()
    (folder / "queries.jsonl").unlink()
    message = "expected queries.jsonl or queries.jsonl.gz, got neither; docs/data.md describes"
    with pytest.raises(FileNotFoundError, match=error(folder, None, message)):
        load_beir(folder)


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl"])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"_id": "x", "text": ', "expected a JSON object, got "),
        ("[" * 100_000, "expected a JSON object, got '[[["),
        ('["x"]', "expected a JSON object, got ['x']; write one object a line"),
        ('{"id": "x", "text": "t"}', "expected the field `_id`, got the fields `id`, `text`; add the field"),
        ("{}", "expected the field `_id`, got the fields none; add the field"),
        ('{"_id": 7, "text": "t"}', "expected a text as `_id`, got 7 (int); write it as a JSON string"),
        ('{"_id": " ", "text": "t"}', "expected an id, got ' '; give each row an id of its own"),
        ('{"_id": "x"}', "expected the field `text`, got the fields `_id`; add the field"),
        ('{"_id": "x", "text": null}', "expected a text as `text`, got None (NoneType); write it as a JSON string"),
    ],
)
def test_damaged_rows(folder, name, line, message):
    path = folder / name
    path.write_text(path.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=error(path, 5, message)):
        load_beir(folder)


def test_a_title_that_is_no_text(folder):
    path = folder / "corpus.jsonl"
    path.write_text('{"_id": "d1", "title": ["a"], "text": "t"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=error(path, 1, "expected a text as `title`, got ['a'] (list)")):
        load_beir(folder)


def test_a_blank_query(folder):
    path = folder / "queries.jsonl"
    path.write_text('{"_id": "q1", "text": "fine"}\n{"_id": "q2", "text": " \\n"}\n', encoding="utf-8")
    message = r"expected the text of query 'q2', got the blank text ' \n'; write the query, or take it out"
    with pytest.raises(ValueError, match=error(path, 2, message)):
        load_beir(folder)


@pytest.mark.parametrize(("name", "what"), [("corpus.jsonl", "passage id 'd2'"), ("queries.jsonl", "query id 'q2'")])
def test_different_texts_under_one_id(folder, name, what, caplog):
    path = folder / name
    letter = what[-3]
    rows = [{"_id": f"{letter}{n}", "text": text} for n, text in [(1, "a"), (2, "b"), (3, "c"), (2, "other"), (3, "c")]]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    message = f"expected each {what} once, got it again after {path}:2; keep one of the two, or read the first with "
    with pytest.raises(ValueError, match=error(path, 4, f"{message}--duplicate-ids first")):
        load_beir(folder)
    with caplog.at_level(logging.WARNING):
        collection = load_beir(folder, duplicate_ids="first")
    texts = {**collection.queries, **{id_: passage.text for id_, passage in collection.passages.items()}}
    assert texts[f"{letter}2"] == "b"
    assert f"have the id of an earlier, different one and are left out, the first at {path}:4" in caplog.text
    with pytest.raises(ValueError, match="duplicate_ids must be 'error' or 'first', got 'last'"):
        load_beir(folder, duplicate_ids="last")


def test_queries_of_other_splits_may_share_an_id(folder):
    path = folder / "queries.jsonl"
    path.write_text(
        path.read_text(encoding="utf-8") + '{"_id": "x", "text": "a"}\n{"_id": "x", "text": "b"}\n', "utf-8"
    )
    assert "x" not in load_beir(folder).queries


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("q1\td1\t1\n", 1, r"expected the header 'query-id\tcorpus-id\tscore', got 'q1\td1\t1'; add the header line"),
        (HEADER, None, "expected judgments, got a header alone; fetch or make it again"),
        ("", None, "expected at least one line, got an empty file; fetch or make it again"),
        (
            f"{HEADER}q1 d1 1\n",
            2,
            "expected 3 tab separated columns (query-id corpus-id score), got 1: 'q1 d1 1'; write the line anew",
        ),
        (f"{HEADER}q1\t\t1\n", 2, "expected 3 tab separated columns (query-id corpus-id score), got 3: "),
        (f"{HEADER}q1\td1\t1.5\n", 2, "expected a whole number as grade, got '1.5'; write 0, 1, 2, ..."),
        (f"{HEADER}q1\td1\t1_0\n", 2, "expected a whole number as grade, got '1_0'"),
        (f"{HEADER}q1\td1\thigh\n", 2, "expected a whole number as grade, got 'high'"),
        (
            f"{HEADER}q1\td1\t1\nq1\td2\t1\nq8\td1\t1\nq9\td1\t1\n",
            4,
            "expected the id of a query of queries.jsonl, got 'q8' and 1 more ('q9'); add the query, or take its",
        ),
        (
            f"{HEADER}q1\td1\t1\nq1\td8\t1\nq2\td8\t1\n",
            3,
            "expected the id of a passage of corpus.jsonl, got 'd8' and 1 more such judgments; fetch the passages again, or",
        ),
    ],
)
def test_damaged_qrels(folder, text, line, message):
    path = folder / "qrels" / "test.tsv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=error(path, line, message)):
        load_beir(folder)


def test_repeated_judgments(folder):
    path = folder / "qrels" / "test.tsv"
    path.write_text(f"{HEADER}q1\td1\t1\nq1\td1\t1\n", encoding="utf-8")
    assert load_beir(folder).qrels == {"q1": {"d1": 1}}
    path.write_text(f"{HEADER}q1\td2\t1\nq1\td1\t1\nq2\td1\t0\nq1\td1\t2\n", encoding="utf-8")
    message = f"expected the grade 1 of {path}:3 again, got 2 for query 'q1' and passage 'd1'; keep one of the two"
    with pytest.raises(ValueError, match=error(path, 5, message)):
        load_beir(folder)


def test_judgments_of_missing_passages_are_kept_on_request(folder, caplog):
    path = folder / "qrels" / "test.tsv"
    path.write_text(f"{HEADER}q1\td1\t1\nq1\td8\t1\nq2\td9\t0\n", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        collection = load_beir(folder, missing_passages="keep")
    assert collection.qrels == {"q1": {"d1": 1, "d8": 1}, "q2": {"d9": 0}}
    assert "2 judgments, 1 of them relevant, name passages that corpus.jsonl lacks" in caplog.text
    with pytest.raises(ValueError, match="--missing-passages keep"):
        load_beir(folder)
    with pytest.raises(ValueError, match="missing_passages: expected 'error' or 'keep', got 'drop'; choose"):
        load_beir(folder, missing_passages="drop")


def test_an_empty_corpus(folder):
    path = folder / "corpus.jsonl"
    path.write_bytes(b"\n")
    with pytest.raises(ValueError, match=error(path, None, "expected at least one line, got an empty file")):
        load_beir(folder)


def test_text_in_another_encoding(folder):
    path = folder / "corpus.jsonl"
    path.write_bytes(b'{"_id": "d1", "text": "a"}\n{"_id": "d2", "text": "caf\xe9"}\n')
    message = "expected UTF-8, got the byte 0xe9 at position 26 of the line; convert the file to UTF-8"
    with pytest.raises(ValueError, match=error(path, 2, message)):
        load_beir(folder)


@pytest.mark.parametrize("damage", ["cut", "trailer", "deflate"])
def test_a_damaged_gzip_file(folder, damage):
    path = folder / "corpus.jsonl.gz"
    whole = bytearray(gzip.compress((folder / "corpus.jsonl").read_bytes()))
    (folder / "corpus.jsonl").unlink()
    if damage == "cut":
        whole = whole[:-12]
    elif damage == "trailer":
        whole[-8] ^= 0xFF
    else:
        whole[10] = 0xFF
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=re.escape(str(path)) + r":\d+: expected a whole gzip file, got a damaged one"):
        load_beir(folder)


# These have different passages under one id; their datasheets count ids.
REPEATED = ("fairytaleqa", "medquad")

# The folder keeps the filtered train pairs that the notes of this datasheet describe; its counts are those before.
FILTERED = {("squadshifts", "train"): (12283, 12283, 12283)}


def test_a_set_of_the_data_folder_has_the_counts_of_its_datasheet(data_folder, data_set):
    sheet = (data_folder / data_set / "DATASHEET.md").read_text(encoding="utf-8")
    assert splits(data_folder / data_set)
    for split in splits(data_folder / data_set):
        if data_set in REPEATED:
            with pytest.raises(ValueError, match="or read the first with --duplicate-ids first"):
                load_beir(data_folder / data_set, split)
        collection = load_beir(
            data_folder / data_set, split, duplicate_ids="first" if data_set in REPEATED else "error"
        )
        judgments = [grade for grades in collection.qrels.values() for grade in grades.values()]
        found = (len(collection.queries), len(judgments), sum(grade > 0 for grade in judgments))
        line = re.search(rf"^- {split}: ([\d,]+) queries, ([\d,]+) judgments, ([\d,]+) positive", sheet, re.MULTILINE)
        assert line is not None, f"{data_set} does not describe {split}"
        counts = tuple(int(number.replace(",", "")) for number in line.groups())
        assert found == FILTERED.get((data_set, split), counts), split
        assert len(collection.passages) == _number(sheet, r"^- documents ([\d,]+)")
        assert collection.name == data_set


def test_the_data_folder_has_no_other_sets(data_folder, data_sets):
    assert {path.name for path in data_folder.iterdir() if is_beir(path)} == data_sets


def _number(text: str, pattern: str) -> int:
    found = re.search(pattern, text, re.MULTILINE)
    assert found is not None
    return int(found[1].replace(",", ""))


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl"])
def test_ids_and_texts_that_no_run_could_hold(folder, name):
    path = folder / name
    path.write_text('{"_id": "a b", "text": "t"}\n', encoding="utf-8")
    with pytest.raises(
        ValueError, match=error(path, 1, "expected an id without whitespace, which separates the columns")
    ):
        load_beir(folder)
    path.write_text('{"_id": "a", "text": "t \\ud83d"}\n', encoding="utf-8")
    with pytest.raises(
        ValueError, match=error(path, 1, "expected valid Unicode, got half of a surrogate pair at character 2")
    ):
        load_beir(folder)
