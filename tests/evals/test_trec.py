# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resrank_evals.collection import Passage
from resrank_evals.trec import (
    default_name,
    judgment_at,
    load_trec,
    read_qrels,
    read_run,
    read_topics,
    read_trec_corpus,
    write_run,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.txt"


def error(where: Path, line: int | None, text: str) -> str:
    return re.escape(f"{where}:{line}: {text}" if line else f"{where}: {text}")


# Qrels


def test_reads_trec_qrels(path):
    path.write_text("301 0 d1 2\n301\t0\td2\t0\n\n302  Q0  d1  -2\n301 0 d1 2\n", encoding="utf-8")
    assert read_qrels(path) == {"301": {"d1": 2, "d2": 0}, "302": {"d1": -2}}
    assert judgment_at(path, "301", "d2") == f"{path}:2"
    assert judgment_at(path, "302") == f"{path}:4"


def test_reads_beir_qrels_by_their_header(path):
    path.write_bytes(gzip.compress(b"query-id\tcorpus-id\tscore\nq 1\td1\t1\n"))
    assert read_qrels(path) == {"q 1": {"d1": 1}}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("301 0 d1 1\n301 d1 1\n", 2, "expected 4 columns (query 0 passage grade), got 3: '301 d1 1'; write the line"),
        (
            "q1\td1\t1\n",
            1,
            r"expected 4 columns (query 0 passage grade), got 3: 'q1\td1\t1'; write the line anew, or add",
        ),
        ("301 0 d1 yes\n", 1, "expected a whole number as grade, got 'yes'; write 0, 1, 2, ..."),
        ("301 0 d1 nan\n", 1, "expected a whole number as grade, got 'nan'"),
        ("\n", None, "expected at least one line, got an empty file"),
    ],
)
def test_damaged_qrels(path, text, line, message):
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=error(path, line, message)):
        read_qrels(path)


def test_contradicting_qrels(path):
    path.write_text("301 0 d1 1\n301 0 d2 1\n301 0 d1 0\n", encoding="utf-8")
    message = f"expected the grade 1 of {path}:1 again, got 0 for query '301' and passage 'd1'; keep one of the two"
    with pytest.raises(ValueError, match=error(path, 3, message)):
        read_qrels(path)


# Topics


def test_reads_tsv_topics(path):
    path.write_text("1037798\twho is robert gray\n\n2\t <b> \n", encoding="utf-8")
    assert read_topics(path) == {"1037798": "who is robert gray", "2": "<b>"}


CLASSIC = """
<top>

<num> Number: 301
<title> International Organized
Crime <5 km

<desc> Description:
Identify <organizations> that take part.

<narr> Narrative:
A relevant document names one.

</top>

<top>
<head> Tipster Topic Description
<num> Number:  002
<dom> Domain: Law
<title> Topic: Acquisitions
</top>
"""


def test_reads_trec_topics(path):
    path.write_text(CLASSIC, encoding="utf-8")
    assert read_topics(path) == {"301": "International Organized Crime <5 km", "002": "Acquisitions"}


def test_reads_trec_topics_on_one_line_or_with_closing_tags_or_not_closed(path):
    text = "<TOP><NUM> 1 </NUM><TITLE>first one</TITLE> left out <desc>no</TOP>\n<top> <num> Number: 2 <title>\nsecond"
    path.write_text(text, encoding="utf-8")
    assert read_topics(path) == {"1": "first one", "2": "second"}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("1 a query\n", 1, "expected 2 tab separated columns (id text), got 1: '1 a query'; write the id, a tab, and"),
        ("1\ta\tb\n", 1, "expected 2 tab separated columns (id text), got 3: "),
        ("\ta\n", 1, "expected 2 tab separated columns (id text), got 2: "),
        ("1\ta\n2\t\n", 2, "expected the text of query '2', got the blank text ''; write the query"),
        ("<top>\n<num> Number: 1\n</top>", 1, "expected a topic with `<num>` and `<title>`, got one without `<title>`"),
        (
            "\n<top>\n<num> Number:\n<title> x",
            2,
            "expected a topic with `<num>` and `<title>`, got one without `<num>`",
        ),
        ("<top>\n<num>1<title>\n</top>", 1, "expected the text of query '1', got the blank text ''"),
        (
            "<topics><topic number='1'/></topics>",
            None,
            "expected topics as `<top> <num> Number: 1 <title> text </top>`, got no `<top>`; convert other markup",
        ),
    ],
)
def test_damaged_topics(path, text, line, message):
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=error(path, line, message)):
        read_topics(path)


@pytest.mark.parametrize("text", ["1\ta\n\n1\tb\n", "<top><num>1<title>a</top>\n\n<top><num>1<title>b</top>"])
def test_repeated_topics(path, text):
    path.write_text(text, encoding="utf-8")
    message = f"expected each query id '1' once, got it again after {path}:1; keep one of the two"
    with pytest.raises(ValueError, match=error(path, 3, message)):
        read_topics(path)


# Passages


def test_reads_tsv_passages(path):
    path.write_text("0\tThe presence of communication.\n1\t\n", encoding="utf-8")
    assert read_trec_corpus(path) == {"0": Passage("The presence of communication."), "1": Passage("")}


def test_reads_json_passages(path):
    rows = [
        '{"_id": "a", "id": "x", "text": "1", "title": "t"}',
        '{"id": "b", "contents": "2"}',
        '{"docid": "c", "text": "3", "contents": "x", "title": null}',
    ]
    path.write_text("\n".join(rows), encoding="utf-8")
    assert read_trec_corpus(path) == {"a": Passage("1", "t"), "b": Passage("2"), "c": Passage("3")}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("d1\ta\nd1\tb", 2, "expected each passage id 'd1' once, got it again after "),
        (
            '{"id": "d1", "text": ""}\n{"id": "d1", "text": ""}',
            2,
            "expected each passage id 'd1' once, got it again after ",
        ),
        ("d1\ta\nd2 b", 2, "expected 2 tab separated columns (id text), got 1: 'd2 b'"),
        ('{"text": "a"}', 1, "expected the field `_id` or `id` or `docid`, got the fields `text`; add the field"),
        ('{"id": "a"}', 1, "expected the field `text` or `contents`, got the fields `id`; add the field"),
    ],
)
def test_damaged_passages(path, text, line, message):
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=error(path, line, message)):
        read_trec_corpus(path)


# Collections


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    files = {name: tmp_path / f"{name}.dl19.txt" for name in ("topics", "qrels", "corpus")}
    files["topics"].write_text("1\tfirst\n2\tsecond\n3\tnot judged\n", encoding="utf-8")
    files["qrels"].write_text("2 0 d1 3\n1 0 d2 0\n", encoding="utf-8")
    files["corpus"].write_text("d1\tone\nd2\ttwo\nd3\tthree\n", encoding="utf-8")
    return files


def test_puts_trec_files_together(files):
    collection = load_trec(**files)
    assert (collection.name, collection.split) == ("qrels.dl19", "test")
    assert collection.source == f"trec:topics={files['topics']},qrels={files['qrels']},corpus={files['corpus']}"
    assert collection.queries == {"1": "first", "2": "second"}
    assert collection.qrels == {"2": {"d1": 3}, "1": {"d2": 0}}
    assert list(collection.passages) == ["d1", "d2", "d3"]


def test_without_texts(files):
    collection = load_trec(topics=files["topics"], qrels=files["qrels"], name="dl19", split="dev")
    assert (collection.name, collection.split, dict(collection.passages)) == ("dl19", "dev", {})
    assert collection.source.endswith(",name=dl19")
    assert collection.qrels == {"2": {"d1": 3}, "1": {"d2": 0}}


def test_judged_queries_that_are_no_topics(files):
    files["qrels"].write_text("1 0 d1 1\n" + "".join(f"{n} 0 d1 1\n" for n in range(7, 14)), encoding="utf-8")
    message = (
        f"expected the id of a query of {files['topics']}, got '7' and 6 more ('8', '9', '10', '11', '12', ...); add the "
        "query, or take its judgments out"
    )
    with pytest.raises(ValueError, match=error(files["qrels"], 2, message)):
        load_trec(**files)


def test_judged_passages_that_the_corpus_lacks(files):
    files["qrels"].write_text("1 0 d1 1\n1 0 d9 1\n", encoding="utf-8")
    message = f"expected the id of a passage of {files['corpus']}, got 'd9'; fetch the passages again, or, when"
    with pytest.raises(ValueError, match=error(files["qrels"], 2, message)):
        load_trec(**files)
    assert load_trec(**files, missing_passages="keep").qrels == {"1": {"d1": 1, "d9": 1}}


@pytest.mark.parametrize(
    ("file", "name"), [("dl19.txt", "dl19"), ("a/qrels.dl19.tsv.gz", "qrels.dl19"), ("qrels", "qrels")]
)
def test_default_name(file, name):
    assert default_name(Path(file)) == name


# Runs


def test_scores_decide_and_ties_go_by_id(path):
    path.write_text("q1 Q0 b 1 0.5 x\nq1 Q0 c 2 7 x\nq1\tQ0\ta\t3\t0.5\tx\nq0 Q0 a 9 -1e-3 x\n", encoding="utf-8")
    assert read_run(path) == {"q1": [("c", 7.0), ("a", 0.5), ("b", 0.5)], "q0": [("a", -0.001)]}


@pytest.mark.parametrize("header", ["", "query\tdocument\trank\tscore\n"])
def test_reads_a_run_in_four_columns(path, header):
    path.write_bytes(gzip.compress(f"{header}q1\td 1\t1\t9.5\nq1\td2\t2\t10.5\n".encode()))
    assert read_run(path) == {"q1": [("d2", 10.5), ("d 1", 9.5)]}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (
            "q1 Q0 d1 1 0.5 x\nq1 d1 0.5\n",
            2,
            "expected 6 columns, got 3: 'q1 d1 0.5'; write a line as `query Q0 passage",
        ),
        ("q1 Q0 d1 1 0.5 my system\n", 1, "expected 6 columns, got 7: "),
        ("q1\td1\t1\t2\nq1 d1 1 2\n", 2, "expected 4 tab separated columns (query document rank score), got 1: "),
        ("q1\td1\t1\t2\nq1\t\t1\t2\n", 2, "expected 4 tab separated columns (query document rank score), got 4: "),
        ("q1 Q0 d1 1 nan x\n", 1, "expected a finite number as score, got 'nan'; make the run again"),
        ("q1 Q0 d1 1 1e999 x\n", 1, "expected a finite number as score, got '1e999'"),
        ("q1 Q0 d1 1 high x\n", 1, "expected a finite number as score, got 'high'"),
        ("q1 Q0 d1 1 1_0 x\n", 1, "expected a finite number as score, got '1_0'"),
        ("query\tdocument\trank\tscore\n", None, "expected results, got a header alone; make the run again"),
        ("", None, "expected at least one line, got an empty file"),
    ],
)
def test_damaged_runs(path, text, line, message):
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=error(path, line, message)):
        read_run(path)


def test_a_passage_twice_in_a_run(path):
    path.write_text("q1 Q0 d1 1 3 x\nq2 Q0 d1 1 3 x\nq1 Q0 d2 2 2 x\nq1 Q0 d1 3 1 x\n", encoding="utf-8")
    message = f"expected each passage 'd1' of query 'q1' once, got it again after {path}:1; keep one of the two"
    with pytest.raises(ValueError, match=error(path, 4, message)):
        read_run(path)


def test_writes_a_run():
    run = {"q2": [("a", 1), ("b", 2.5)], "q1": [("y", np.float32(0.1)), ("x", 0.1 + 0.2)], "q3": []}
    assert write_run(run, "tag") == (
        "q2 Q0 b 1 2.5 tag\nq2 Q0 a 2 1.0 tag\nq1 Q0 x 1 0.30000000000000004 tag\nq1 Q0 y 2 0.10000000149011612 tag\n"
    )
    assert write_run({}, "tag") == ""


@pytest.mark.parametrize(
    ("run", "tag", "message"),
    [
        ({"q 1": []}, "t", "query id: expected a word without whitespace, got 'q 1'; whitespace separates the columns"),
        ({"": []}, "t", "query id: expected a word without whitespace, got ''"),
        ({"\ufeffq": []}, "t", "query id: expected a word without whitespace"),
        ({"q": [("d\u20281", 1.0)]}, "t", "passage id: expected a word without whitespace"),
        ({"q": [("d\n", 1.0)]}, "t", r"passage id: expected a word without whitespace, got 'd\n'"),
        ({}, "my system", "tag: expected a word without whitespace, got 'my system'"),
        ({"q": [("d", float("nan"))]}, "t", "query 'q', passage 'd': expected a finite score, got nan; leave it out"),
        ({"q": [("d", 1.0), ("d", 2.0)]}, "t", "query 'q': expected each passage once, got 'd' twice; keep one"),
    ],
)
def test_runs_that_cannot_be_written(run, tag, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        write_run(run, tag)


IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda text: text.split() == [text] and not text.startswith("\ufeff")
)
SCORES = st.floats(allow_nan=False, allow_infinity=False)


@given(run=st.dictionaries(IDS, st.dictionaries(IDS, SCORES, min_size=1, max_size=6), min_size=1, max_size=4))
def test_reading_gives_back_what_was_written(run, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "round-trip.trec"
    path.write_text(write_run({query: list(found.items()) for query, found in run.items()}, "t"), "utf-8", newline="\n")
    back = read_run(path)
    assert {query: dict(found) for query, found in back.items()} == run
    for found in back.values():
        assert found == sorted(found, key=lambda each: (-each[1], each[0]))
    assert write_run(back, "t") == path.read_bytes().decode()


def test_reads_the_runs_of_the_data_folder(data_folder):
    run = read_run(data_folder / "scifact" / "runs" / "bm25.test.top100.tsv.gz")
    assert len(run) == 300
    # One claim shares words with 66 abstracts alone.
    assert sorted(len(found) for found in run.values()) == [66] + [100] * 299
