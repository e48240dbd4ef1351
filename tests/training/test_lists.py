# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The files of training lists: what is written is what is read, whatever was interrupted or damaged in between."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resrank_evals.collection import Passage
from resrank_training.lists import (
    INFO,
    LISTS,
    PASSAGES,
    ListWriter,
    TrainingList,
    finished,
    iterate_lists,
    parse_list,
    read_lists,
)

SETTINGS = {"step": "test", "seed": 3}
COLLECTION = {"p1": Passage("one", "T"), "p2": Passage("two"), "p3": Passage("line\u2028separator \U0001f600")}
ROW: dict[str, Any] = {"query_id": "q1", "query": "who", "passages": ["p1", "p2"], "grades": [2, None]}


def make(query_id: str = "q1", **changes: Any) -> TrainingList:
    known = [[1, 0.25, 1, 1, 0.5, 1, 0, 0.5, 0.75, 0], [0, np.nan, 0.5, 0, np.nan, *[np.nan] * 5]]
    evidence = np.array(known, dtype=np.float32)
    return TrainingList(
        **{
            "query_id": query_id,
            "query": "wer\u2028 \U0001f600?",
            "passages": ("p2", "p1"),
            "grades": (None, 2),
            "evidence": evidence,
            **changes,
        }
    )


@pytest.fixture
def written(tmp_path: Path) -> Path:
    folder = tmp_path / "lists"
    with ListWriter(folder, SETTINGS) as writer:
        writer.add([make("q1"), make("q2", evidence=None, passages=("p3", "p1"), ranking=(1,))])
        writer.finish(COLLECTION, {"left_out": 4})
    return folder


@pytest.fixture
def damage(written: Path) -> Callable[..., Path]:
    """Replaces the lists of the folder by one row with changes."""

    def replace(**changes: Any) -> Path:
        row = {key: value for key, value in {**ROW, **changes}.items() if value is not ...}
        (written / LISTS).write_text(json.dumps(row) + "\n", encoding="utf-8")
        return written

    return replace


# ------------------------------------------------------------------------------------------------------ write and read


def test_what_is_written_is_read(written):
    found = read_lists(written)
    assert (found.name, len(found.digest)) == ("lists", 16)
    assert found.passages == COLLECTION
    first, second = found.lists
    assert (first.query_id, first.query, first.passages, first.grades) == (
        "q1",
        "wer\u2028 \U0001f600?",
        ("p2", "p1"),
        (None, 2),
    )
    np.testing.assert_array_equal(first.evidence, make().evidence)
    assert first.evidence.dtype == np.float32
    assert first.ranking is None
    assert second.evidence is None
    assert second.ranking == (1,)
    assert not found.has_rankings
    assert found.info == {**SETTINGS, "left_out": 4, "lists": 2, "passages": 3}


def test_only_what_is_known_is_in_a_line(written):
    first, second = [json.loads(line) for line in (written / LISTS).read_bytes().splitlines()]
    assert set(first) == {"query_id", "query", "passages", "grades", "evidence"}
    assert first["evidence"] == [
        [1.0, 0.25, 1.0, 1.0, 0.5, 1.0, 0.0, 0.5, 0.75, 0.0],
        [0.0, None, 0.5, 0.0, None, *[None] * 5],
    ]
    assert set(second) == {"query_id", "query", "passages", "grades", "ranking"}


def test_positives_are_grades_above_zero():
    assert make(grades=(0, 3), passages=("a", "b")).positives == (1,)
    assert make(grades=(None, -1), passages=("a", "b")).positives == ()


def test_a_ranking_makes_a_copy():
    plain = make()
    ranked = plain.ranked([1, 0])
    assert (plain.ranking, ranked.ranking, ranked.query_id) == (None, (1, 0), "q1")


def test_served_is_what_the_first_stage_gave():
    evidence = np.arange(40, dtype=np.float32).reshape(4, 10)
    of = make(passages=tuple("abcd"), grades=(None, 1, 0, 2), evidence=evidence, ranking=(3, 1, 2, 0), pool=2)
    served = of.served()
    assert (served.query_id, served.query) == (of.query_id, of.query)
    assert (served.passages, served.grades, served.ranking, served.pool) == (("a", "b"), (None, 1), (1, 0), None)
    assert served.positives == (1,)
    np.testing.assert_array_equal(served.evidence, evidence[:2])
    assert served.first_stage(100) == of.first_stage(100) == 2
    assert served.served() is served
    assert (len(of.passages), len(of.evidence), of.pool) == (4, 4, 2)  # a copy


@pytest.mark.parametrize(("pool", "positives"), [(0, ()), (1, ()), (2, (1,))])
def test_served_without_evidence_and_ranking(pool, positives):
    served = make(evidence=None, pool=pool).served()
    assert (served.passages, served.evidence, served.ranking) == (("p2", "p1")[:pool], None, None)
    assert served.positives == positives


def test_served_is_the_list_itself_when_nothing_was_added():
    of = make(ranking=(1, 0))
    assert of.served() is of


def test_has_rankings_needs_all(tmp_path):
    with ListWriter(tmp_path / "a", SETTINGS) as writer:
        writer.add([make("q1", ranking=(0,)), make("q2", ranking=())])
        writer.finish(COLLECTION, {})
    assert read_lists(tmp_path / "a").has_rankings


def test_the_digest_follows_lists_and_passages(written, tmp_path):
    def digest(name: str, text: str, query: str) -> str:
        with ListWriter(tmp_path / name, SETTINGS) as writer:
            writer.add([make(query=query)])
            writer.finish({"p1": Passage(text), "p2": Passage("two")}, {})
        return read_lists(tmp_path / name).digest

    same = digest("a", "one", "who")
    assert digest("b", "one", "who") == same
    assert len({same, digest("c", "other", "who"), digest("d", "one", "whom")}) == 3


# ----------------------------------------------------------------------------------------------------------- interrupt


def test_an_interrupted_writer_goes_on(tmp_path):
    folder = tmp_path / "lists"
    with pytest.raises(KeyboardInterrupt), ListWriter(folder, SETTINGS) as writer:
        writer.add([make("q1")])
        raise KeyboardInterrupt
    with pytest.raises(FileNotFoundError, match="unfinished training lists: run the command that makes them again"):
        read_lists(folder)
    with ListWriter(folder, SETTINGS) as writer:
        assert writer.done == {"q1"}
        writer.add([make("q2")])
        writer.finish(COLLECTION, {})
    assert [each.query_id for each in read_lists(folder).lists] == ["q1", "q2"]
    assert {path.name for path in folder.iterdir()} == {LISTS, PASSAGES, INFO}


@pytest.mark.parametrize("rest", ["{", '{"query_id": "q3", "que', '{"query_id": "q3"}', "not json\n", "[1]\n", "{}\n"])
def test_half_a_line_goes(tmp_path, rest):
    folder = tmp_path / "lists"
    with ListWriter(folder, SETTINGS) as writer:
        writer.add([make("q1"), make("q2")])
    whole = (folder / LISTS).read_bytes()
    (folder / LISTS).write_bytes(whole + rest.encode())
    with ListWriter(folder, SETTINGS) as writer:
        assert writer.done == {"q1", "q2"}
    assert (folder / LISTS).read_bytes() == whole


def test_other_settings_are_refused(tmp_path):
    with ListWriter(tmp_path, SETTINGS):
        pass
    with pytest.raises(ValueError, match=r"was begun with other settings .*name another folder, or remove it"):
        ListWriter(tmp_path, {**SETTINGS, "seed": 4})


def test_lists_of_unknown_origin_are_refused(written):
    (written / INFO).unlink()  # to make them again, as somebody may think
    with pytest.raises(ValueError, match=r"holds lists.jsonl without lists.json: what made it is not known"):
        ListWriter(written, {**SETTINGS, "seed": 4})


def test_a_complete_folder_is_refused(written):
    with pytest.raises(FileExistsError, match="holds complete training lists: name another folder"):
        ListWriter(written, SETTINGS)


def test_counts_must_not_hide_settings(tmp_path):
    with ListWriter(tmp_path, SETTINGS) as writer:
        writer.add([make()])
        with pytest.raises(ValueError, match="counts must not have the names of settings, got seed"):
            writer.finish(COLLECTION, {"seed": 1})


def test_what_was_written_can_be_taken_back(tmp_path):
    folder = tmp_path / "lists"
    with ListWriter(folder, SETTINGS) as writer:
        writer.add([make()])
        writer.discard()
    assert list(folder.iterdir()) == []
    with ListWriter(folder, {"other": 1}) as writer:
        assert writer.done == set()


def test_finished_compares_settings(written, tmp_path):
    assert finished(tmp_path / "nowhere", SETTINGS) is None
    info = finished(written, SETTINGS)
    assert info is not None
    assert info["left_out"] == 4
    with pytest.raises(ValueError, match=r"made with new None, not \[1\], seed 3, not 4: name another folder"):
        finished(written, {**SETTINGS, "seed": 4, "new": (1,)})


def test_finished_takes_settings_as_json_gives_them(tmp_path):
    settings = {"pair": (1, 2), "nested": {"k": 1.5, "none": None}}
    with ListWriter(tmp_path, settings) as writer:
        writer.add([make()])
        writer.finish(COLLECTION, {})
    assert finished(tmp_path, settings) is not None


# -------------------------------------------------------------------------------------------------------------- damage


def test_no_folder_of_lists(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"expected a folder of training lists with lists.json, got .*train mine"
    ):
        read_lists(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rankings": [0]}, r"lists.jsonl:1: expected the keys evidence, .*, got rankings; correct the line"),
        ({"passages": ...}, r"expected `passages` as a list of different ids, got None"),
        ({"passages": []}, r"expected `passages` as a list of different ids, got \[\]"),
        ({"passages": ["p1", "p1"]}, r"expected `passages` as a list of different ids, got \['p1', 'p1'\]"),
        ({"passages": ["p1", 2]}, r"expected `passages` as a list of different ids, got \['p1', 2\]"),
        ({"passages": ["p1", {}]}, r"expected `passages` as a list of different ids"),
        ({"passages": ["p1", "lost"]}, r"expected passages that passages.jsonl holds, got 'lost'"),
        ({"grades": ...}, r"expected `grades` with 2 integers or null, got None"),
        ({"grades": [1]}, r"expected `grades` with 2 integers or null, got \[1\]"),
        ({"grades": [1, 0.5]}, r"expected `grades` with 2 integers or null, got \[1, 0.5\]"),
        ({"grades": [1, True]}, r"expected `grades` with 2 integers or null, got \[1, True\]"),
        ({"grades": [1, False]}, r"expected `grades` with 2 integers or null, got \[1, False\]"),
        ({"evidence": [[1] * 10]}, r"expected `evidence` with 2 rows of 10 finite numbers or null"),
        ({"evidence": [[1] * 20]}, r"expected `evidence` with 2 rows of 10 finite numbers or null"),
        ({"evidence": [[1] * 20, []]}, r"expected `evidence` with 2 rows of 10 finite numbers or null"),
        ({"evidence": [[1] * 10, ["1"] * 10]}, r"expected `evidence` with 2 rows of 10 finite numbers or null"),
        ({"evidence": [[1] * 10, [True] * 10]}, r"expected `evidence` with 2 rows of 10 finite numbers or null"),
        (
            {"evidence": [[1] * 10, [float("inf")] * 10]},
            r"expected `evidence` with 2 rows of 10 finite numbers or null",
        ),
        (
            {"evidence": [[1] * 10, [float("nan")] * 10]},
            r"expected `evidence` with 2 rows of 10 finite numbers or null",
        ),
        ({"evidence": [[1] * 10, [1e39] * 10]}, r"expected `evidence` with 2 rows of 10 finite numbers or null"),
        ({"evidence": [[1] * 10, [10**400] * 10]}, r"expected `evidence` with 2 rows of 10 finite numbers or null"),
        ({"evidence": [[1] * 5] * 2}, r"expected `evidence` with 2 rows of 10 finite numbers or null"),
        ({"evidence": 5}, r"expected `evidence` with 2 rows of 10 finite numbers or null, got 5"),
        ({"evidence": [None, None]}, r"expected `evidence` with 2 rows of 10 finite numbers or null"),
        ({"ranking": [0, 2]}, r"expected `ranking` as different indices from 0 to 1, got \[0, 2\]"),
        ({"ranking": [0, -1]}, r"expected `ranking` as different indices from 0 to 1"),
        ({"ranking": [0, 0]}, r"expected `ranking` as different indices from 0 to 1"),
        ({"ranking": [False, True]}, r"expected `ranking` as different indices from 0 to 1"),
        ({"ranking": "01"}, r"expected `ranking` as different indices from 0 to 1"),
        ({"query_id": "q 1"}, r"expected an id without whitespace"),
        ({"query_id": ...}, r"expected the field `query_id`"),
        ({"query": 3}, r"expected a text as `query`, got 3 \(int\)"),
    ],
)
def test_a_damaged_line_is_named(damage, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        read_lists(damage(**changes))
    assert "lists.jsonl:1: " in str(error.value)


def test_a_query_occurs_once(written):
    line = json.dumps(ROW) + "\n"
    (written / LISTS).write_text(line * 2, encoding="utf-8")
    with pytest.raises(ValueError, match=r"lists.jsonl:2: expected each query once, got 'q1' again"):
        read_lists(written)
    with pytest.raises(ValueError, match=r"lists.jsonl:2: expected each query once, got 'q1' again"):
        list(iterate_lists(written / LISTS))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"_id": "p1", "text": "again"}', r"passages.jsonl:4: expected each passage once, got 'p1' again"),
        ('{"_id": "p9"}', r"passages.jsonl:4: expected the field `text`"),
        ('{"_id": "p9", "text": "x", "title": 1}', r"passages.jsonl:4: expected a text as `title`, got 1 \(int\)"),
        ("{", r"passages.jsonl:4: expected a JSON object"),
    ],
)
def test_damaged_passages_are_named(written, line, message):
    with (written / PASSAGES).open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=message):
        read_lists(written)


@pytest.mark.parametrize(("name", "lines", "found"), [(LISTS, 2, 1), (PASSAGES, 3, 4)])
def test_lost_and_foreign_lines_are_noticed(written, name, lines, found):
    rows = [*(written / name).read_bytes().splitlines(keepends=True), b'{"_id": "p4", "text": ""}\n']
    (written / name).write_bytes(b"".join(rows[:found]))
    with pytest.raises(ValueError, match=rf"{name}: expected {lines} lines, as lists.json says, got {found}"):
        read_lists(written)


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_damaged_info_is_named(written, content):
    (written / INFO).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"lists.json: expected a JSON object, got .*; make the lists again"):
        read_lists(written)
    with pytest.raises(ValueError, match=r"lists.json: expected a JSON object"):
        finished(written, SETTINGS)


def test_a_line_can_be_checked_alone():
    found = parse_list("here:1", {**ROW, "evidence": None})
    assert (found.passages, found.grades, found.evidence, found.ranking) == (("p1", "p2"), (2, None), None, None)
    with pytest.raises(ValueError, match=r"^here:7: expected `ranking`"):
        parse_list("here:7", {**ROW, "ranking": [7]})
