# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Training lists from files: made-up rows in the layouts of other projects and in ours."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from resrank_evals.collection import Passage
from resrank_training import cli, conversion
from resrank_training.conversion import Converted, convert
from resrank_training.lists import LISTS, ListSet, read_lists

TEXTS = ["Bread needs yeast.", "Cats hunt at dawn.", "Paris is on the Seine."]
Convert = Callable[..., Converted]


def key(text: str, title: str = "") -> str:
    return hashlib.sha256(f"{title}\0{text}".encode()).hexdigest()[:16]


def chat(query: str, passages: list[str] | None = None) -> list[dict[str, str]]:
    """A prompt as PE-Rank's code builds it."""
    lines = [f"Passage {n}: [<PLACEHOLDER>] {text}\n\n" for n, text in enumerate(passages or [""] * 3, 1)]
    content = (
        f"I will provide you with 3 passages.\nRank the passages based on their relevance to the search query: {query}.\n"
        f"{''.join(lines)}Search Query: {query}.\nRank the 3 relatively ordered passages above based on their relevance.\n"
    )
    return [{"role": "system", "content": "x"}, {"role": "user", "content": content}]


@pytest.fixture
def made(tmp_path: Path) -> Convert:
    """Converts rows: dicts, or lines as they are."""

    def run(form: Any, *rows: Any, zipped: bool = False, **options: Any) -> Converted:
        lines = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
        path = tmp_path / ("mine.jsonl.gz" if zipped else "mine.jsonl")
        path.write_bytes(gzip.compress(lines.encode()) if zipped else lines.encode("utf-8", "surrogatepass"))
        return convert(path, form, **{"out": tmp_path / "out", "progress": lambda *_: None, **options})

    return run


def content(made: Converted) -> ListSet:
    return read_lists(made.folder)


# --------------------------------------------------------------------------------------------------------------- jsonl


def test_everything_that_a_user_may_say(made):
    evidence = [[1, 0.5, 1, 1, 0.5, *[None] * 5], [None, 0.25, 0.5, 0, 1, 1, 0, 0.5, 0.75, 0]]
    done = made(
        "jsonl",
        {
            "query": "how is bread made?",
            "query_id": "b1",
            "passages": [TEXTS[1], {"id": "bread", "title": "Bread", "text": TEXTS[0]}],
            "grades": [0, 2],
            "ranking": [1, 0],
            "evidence": evidence,
        },
        {"query": "cats", "passages": [TEXTS[1], {"text": TEXTS[2], "title": None, "id": None}], "positives": [0]},
    )
    assert done.to_json() == {
        "folder": str(done.folder),
        "kept": False,
        "lists": 2,
        "passages": 3,
        "merged_passages": 0,
        "bad_rows": 0,
    }
    found = content(done)
    first, second = found.lists
    assert (first.query_id, first.query) == ("b1", "how is bread made?")
    assert first.passages == (key(TEXTS[1]), "bread")
    assert (first.grades, first.ranking) == ((0, 2), (1, 0))
    expected = [[1, 0.5, 1, 1, 0.5, *[np.nan] * 5], [np.nan, 0.25, 0.5, 0, 1, 1, 0, 0.5, 0.75, 0]]
    np.testing.assert_array_equal(first.evidence, np.array(expected, dtype=np.float32))
    assert (second.query_id, second.grades, second.ranking, second.evidence) == ("line-2", (1, None), None, None)
    # Equal texts are one passage, also in different lists.
    assert second.passages == (key(TEXTS[1]), key(TEXTS[2]))
    assert found.passages == {
        key(TEXTS[1]): Passage(TEXTS[1]),
        "bread": Passage(TEXTS[0], "Bread"),
        key(TEXTS[2]): Passage(TEXTS[2]),
    }
    assert found.info["step"] == "convert"
    assert found.info["format"] == "jsonl"


def test_the_smallest_row(made):
    (only,) = content(made("jsonl", {"query": "q", "passages": ["p"]}, zipped=True)).lists
    assert (only.query_id, only.grades, only.passages) == ("line-1", (None,), (key("p"),))


def test_a_title_makes_another_passage(made):
    rows = {"query": "q", "passages": ["p", {"title": "t", "text": "p"}, {"title": "p", "text": "t"}]}
    assert content(made("jsonl", rows)).lists[0].passages == (key("p"), key("p", "t"), key("t", "p"))


def test_what_occurs_twice_in_a_list_is_merged(made):
    rows = [[0.1] * 10, [0.2] * 10, [0.3] * 10, [0.4] * 10]
    row = {"query": "q", "passages": ["a", "b", "a", "c"], "grades": [0, None, 2, None], "ranking": [1, 2, 3, 0]}
    done = made("jsonl", {**row, "evidence": rows})
    assert done.merged == 1
    (only,) = content(done).lists
    assert only.passages == (key("a"), key("b"), key("c"))
    assert only.grades == (2, None, None)
    # b, a (its second mention), c; a again counts no more.
    assert only.ranking == (1, 0, 2)
    np.testing.assert_allclose(only.evidence[:, 0], [0.1, 0.2, 0.4])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"passages": ["p"]}, "expected the field `query`"),
        ({"query": " ", "passages": ["p"]}, "expected the text of query 'line-2', got the blank text ' '"),
        ({"query": 1, "passages": ["p"]}, r"expected a text as `query`, got 1 \(int\)"),
        ({"query": "q"}, "expected a list of passages as `passages`, got None"),
        ({"query": "q", "passages": []}, r"expected a list of passages as `passages`, got \[\]"),
        ({"query": "q", "passages": "p"}, "expected a list of passages as `passages`, got 'p'"),
        ({"query": "q", "passages": ["p", 3]}, r"expected a text as `passages\[1\]`, got 3 \(int\)"),
        ({"query": "q", "passages": ["p", " \n"]}, r"expected a text as `passages\[1\]`, got a blank one"),
        ({"query": "q", "passages": [{"id": "x"}]}, "expected the field `text`"),
        (
            {"query": "q", "passages": [{"text": "x", "tilte": "y"}]},
            r"expected the keys id, title, text in `passages\[0\]`, got tilte",
        ),
        ({"query": "q", "passages": [{"text": "x", "id": "a b"}]}, "expected an id without whitespace"),
        ({"query": "q", "passages": ["p"], "positive": [0]}, "expected the keys query, passages, .*, got positive"),
        ({"query": "q", "passages": ["p"], "positives": [1]}, r"expected `positives` as different indices from 0 to 0"),
        ({"query": "q", "passages": ["p"], "positives": [True]}, "expected `positives` as different indices"),
        ({"query": "q", "passages": ["p"], "positives": 0}, "expected `positives` as different indices"),
        (
            {"query": "q", "passages": ["p"], "positives": [0], "grades": [1]},
            "expected `grades` or `positives`, got both",
        ),
        ({"query": "q", "passages": ["p"], "grades": [1, 2]}, "expected `grades` with 1 integers or null"),
        ({"query": "q", "passages": ["p"], "ranking": [1]}, "expected `ranking` as different indices from 0 to 0"),
        ({"query": "q", "passages": ["p"], "evidence": [[1]]}, "expected `evidence` with 1 rows of 10 finite numbers"),
        ({"query": "q", "passages": ["p"], "query_id": "a b"}, "expected an id without whitespace"),
        ({"query": "q", "passages": ["p"], "query_id": "first"}, "expected each query id once, got 'first' again"),
        (
            {"query": "q", "passages": [{"id": "known", "text": "new"}]},
            "expected the text that 'known' had in an earlier line, got 'new'",
        ),
        (
            {"query": "q", "passages": [{"id": "x", "text": "a"}, {"id": "x", "text": "b"}]},
            "expected one text for 'x', got two",
        ),
        ('{"query": "q", "passages": ["\\ud800"]}', "expected valid Unicode, got half of a surrogate pair"),
        ("{", "expected a JSON object, got '{'"),
        ("[1]", r"expected a JSON object, got \[1\]; write one object a line"),
    ],
)
def test_bad_rows_are_named_and_can_be_skipped(made, row, message, tmp_path):
    good = {"query": "q", "query_id": "first", "passages": [{"id": "known", "text": "p"}]}
    with pytest.raises(ValueError, match=f"mine.jsonl:2: {message}"):
        made("jsonl", good, row, good)
    # The corrected file goes to the same folder.
    done = made("jsonl", good, row, {**good, "query_id": "last"}, bad_rows="skip")
    assert (done.lists, done.bad) == (2, 1)
    assert [each.query_id for each in content(done).lists] == ["first", "last"]
    assert set(content(done).passages) == {"known"}
    (reason,) = done.bad_rows
    assert "mine.jsonl:2: " in reason
    assert content(done).info["bad_rows"] == 1


def test_no_good_row_is_an_error(made, tmp_path):
    with pytest.raises(ValueError, match=r"no line is in the format .*mine.jsonl:1: expected the field `query`"):
        made("jsonl", {"passages": ["p"]}, bad_rows="skip")
    assert list((tmp_path / "out" / "mine").iterdir()) == []


def test_an_empty_file_is_an_error(made, tmp_path):
    with pytest.raises(ValueError, match=r"mine.jsonl: expected at least one line, got an empty file"):
        made("jsonl")


# ---------------------------------------------------------------------------------------------------------- e2rank


def test_e2rank_counts_from_one(made):
    done = made("e2rank", {"query": "q", "document": TEXTS, "ranking": [3, 1, 2], "source": "msmarco"}, name="e2")
    assert done.folder.name == "e2"
    (only,) = content(done).lists
    assert only.passages == tuple(map(key, TEXTS))
    assert (only.ranking, only.grades, only.evidence) == ((2, 0, 1), (None, None, None), None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ranking": [0, 1, 2]}, r"expected `ranking` with each position from 1 to 3 once, got \[0, 1, 2\]"),
        ({"ranking": [1, 2]}, "expected `ranking` with each position from 1 to 3 once"),
        ({"ranking": [1, 2, 2]}, "expected `ranking` with each position from 1 to 3 once"),
        ({"ranking": [True, 2, 3]}, "expected `ranking` with each position from 1 to 3 once"),
        ({"ranking": None}, "expected `ranking` with each position from 1 to 3 once, got None"),
        ({"document": "x"}, "expected a list of passages as `document`, got 'x'"),
        ({"document": ["x", {"text": "y"}, "z"]}, r"expected a text as `document\[1\]`, got .* \(dict\)"),
        ({"query": None}, "expected a text as `query`, got None"),
    ],
)
def test_bad_e2rank_rows(made, changes, message):
    with pytest.raises(ValueError, match=f"mine.jsonl:1: {message}"):
        made("e2rank", {"query": "q", "document": TEXTS, "ranking": [3, 1, 2], **changes})


# ---------------------------------------------------------------------------------------------------------- pe-rank


@pytest.mark.parametrize("ranking", [[2, 0, 1], [3, 1, 2]])
@pytest.mark.parametrize("field", ["messages_wo_content", "messages_w_content", "messages"])
def test_pe_rank_counts_from_zero_or_one(made, ranking, field):
    done = made("pe-rank", {field: chat("who hunts?"), "extra_texts": TEXTS, "ranking": ranking})
    (only,) = content(done).lists
    assert (only.query, only.ranking) == ("who hunts?", (2, 0, 1))
    assert only.passages == tuple(map(key, TEXTS))


@pytest.mark.parametrize("query", ["who hunts", "who hunts?", "Dr. No.", "a\nb", "search query: x"])
def test_pe_rank_queries_come_out_of_the_chat(made, query):
    hostile = ["Search Query: other.\nRank the 5 passages", *TEXTS[1:]]
    row = {"messages": [*chat(query, hostile), {"role": "assistant", "content": "x"}], "extra_texts": TEXTS}
    (only,) = content(made("pe-rank", {**row, "ranking": [1, 2, 3]})).lists
    assert only.query == query


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"messages": None}, "expected a user message with 'Search Query:' .*, got the fields messages, extra_texts"),
        ({"messages": [{"role": "user", "content": "hello"}]}, "expected a user message with 'Search Query:'"),
        ({"messages": [{"role": "user", "content": "Search Query: x"}]}, "expected a user message with"),
        ({"messages": [{"role": "user", "content": 3}]}, "expected a text as `content`, got 3"),
        ({"messages": [3, {"role": "assistant", "content": "x"}]}, "expected a user message with"),
        ({"messages": [{"role": "user", "content": "Search Query: .\nRank the 3 x"}]}, "expected the text of query"),
        ({"ranking": [2, 3, 4]}, "expected `ranking` with each position from 0 to 2 or 1 to 3 once"),
        ({"ranking": [1, 2]}, "expected `ranking` with each position from 0 to 2 or 1 to 3 once"),
        ({"extra_texts": None}, "expected a list of passages as `extra_texts`, got None"),
    ],
)
def test_bad_pe_rank_rows(made, changes, message):
    with pytest.raises(ValueError, match=f"mine.jsonl:1: {message}"):
        made("pe-rank", {"messages": chat("q"), "extra_texts": TEXTS, "ranking": [0, 1, 2], **changes})


# ------------------------------------------------------------------------------------------------------- interruption


def test_a_killed_conversion_goes_on(made, monkeypatch, tmp_path):
    monkeypatch.setattr(conversion, "_ROWS_PER_WRITE", 2)
    rows = [{"query": f"q{n}", "passages": [f"p{n}", "p0"]} for n in range(7)]
    whole = made("jsonl", *rows, name="whole")

    def killed(what: str, done: int, total: int) -> None:
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made("jsonl", *rows, name="killed", progress=killed)
    lists = tmp_path / "out" / "killed" / LISTS
    assert len(lists.read_bytes().splitlines()) == 4
    lists.write_bytes(lists.read_bytes()[:-9])
    again = made("jsonl", *rows, name="killed")
    assert (again.lists, again.passages, again.merged) == (7, 7, 1)
    assert content(again).digest == content(whole).digest


def test_a_finished_folder_is_kept(made):
    rows = [{"query": "q", "passages": ["a", "a"]}, {"query": "q"}]
    first = made("jsonl", *rows, bad_rows="skip")
    again = made("jsonl", *rows, bad_rows="skip")
    assert (first.kept, again.kept) == (False, True)
    assert {**again.to_json(), "kept": False} == first.to_json()
    with pytest.raises(ValueError, match=r"made with source_sha256 .*: name another folder, or remove it"):
        made("jsonl", rows[0], bad_rows="skip")


def test_unknown_choices_are_refused(made):
    with pytest.raises(ValueError, match="form must be one of pe-rank, e2rank, jsonl, got 'csv'"):
        made("csv", {})
    with pytest.raises(ValueError, match="bad_rows must be one of error, skip, got 'keep'"):
        made("jsonl", {}, bad_rows="keep")


# ------------------------------------------------------------------------------------------------------------ command


def test_the_command(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"query": "q", "passages": ["a", "b"]}\n{"query": "[bold]q"}\n', encoding="utf-8")
    run = lambda *more: CliRunner().invoke(  # noqa: E731
        cli.app, ["convert", str(path), "--format", "jsonl", "--out", str(tmp_path / "out"), *more]
    )
    refused = run()
    assert refused.exit_code == 1
    assert "data.jsonl:2: expected a list of passages as `passages`" in " ".join(refused.stderr.split())
    done = run("--bad-rows", "skip")
    assert done.exit_code == 0, done.output
    assert "1 lists of 2 passages; 0 passages that occurred twice in a list were merged, 1 lines left out." in " ".join(
        done.stdout.split()
    )
    assert "left out:" in done.stderr
    again = run("--bad-rows", "skip", "--json")
    assert json.loads(again.stdout) == {
        "folder": str(tmp_path / "out" / "data"),
        "kept": True,
        "lists": 1,
        "passages": 2,
        "merged_passages": 0,
        "bad_rows": 1,
    }
