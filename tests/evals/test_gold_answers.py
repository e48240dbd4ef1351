# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from resrank_evals.gold_answers import read_gold_answers


@pytest.fixture
def write(tmp_path: Path):
    def written(*rows: str | dict, name: str = "answers.jsonl") -> Path:
        text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
        (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
        return tmp_path

    return written


@pytest.mark.parametrize("name", ["answers.jsonl", "answers.jsonl.gz"])
def test_what_is_right_as_it_is_written(write, name):
    rows = [
        {"_id": "q1", "split": "train", "doc": "d", "answers": ["The 42", "forty-two"]},
        {"_id": "q2", "answers": []},
        {"_id": "q3", "answers": ["the", "?"]},  # nothing is left of them
        {"_id": "q4", "answers": ["the", "x"]},
    ]
    found = read_gold_answers(write(*rows, name=name), "small")
    assert found.by_query == {"q1": ["The 42", "forty-two"], "q4": ["the", "x"]}
    assert found.path.name == name


def test_ids_that_are_there_twice(write, caplog):
    first, second = {"_id": "q1", "answers": ["a b"]}, {"_id": "q1", "answers": ["c"]}
    assert read_gold_answers(write(first, first), "small").by_query == {"q1": ["a b"]}
    folder = write(first, "", second)
    message = (
        r"answers\.jsonl:3: expected each query id 'q1' once, got it again after .*:1; keep .* --duplicate-ids first"
    )
    with pytest.raises(ValueError, match=message):
        read_gold_answers(folder, "small")
    assert read_gold_answers(folder, "small", duplicate_ids="first").by_query == {"q1": ["a b"]}
    assert "1 lines have the query id of an earlier one" in caplog.text
    with pytest.raises(ValueError, match="duplicate_ids must be 'error' or 'first', got 'last'"):
        read_gold_answers(folder, "small", duplicate_ids="last")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"_id": "q1"}, "expected a list of texts as `answers`, got the fields `_id`"),
        ({"_id": "q1", "answers": "42"}, "expected a list of texts as `answers`, got '42'"),
        ({"_id": "q1", "answers": [42]}, "expected a list of texts as `answers`, got [42]"),
        ({"answers": ["a"]}, "expected the field `_id`"),
        ("{", "expected a JSON object"),
        ({"_id": "q1", "answers": []}, "expected an answer, got empty lists alone"),
    ],
)
def test_damage_is_named(write, row, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_gold_answers(write(row), "small")


def test_a_collection_without_gold_answers(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"small has no gold answers: expected .*/answers\.jsonl, or with \.gz"):
        read_gold_answers(tmp_path, "small")
    with pytest.raises(FileNotFoundError, match=r"expected answers\.jsonl in a folder in BEIR layout, a line a query"):
        read_gold_answers(None, "small")
