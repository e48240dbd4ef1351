# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Answers from rankings, by hand: words are tokens, and the reader says the last word of the last passage.

q1 is answered in p1 by `gamma`, q2 in p3 by `eta theta`; q3 has no gold answer. The run has p1 p2 for q1, p2 p3 for q2.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resrank import sources
from resrank.reader import ReaderConfig, SpanReader, confidences, new_reader
from resrank_evals.answer_results import (
    GOLD_PASSAGE,
    NO_CONTEXT,
    AnswerResult,
    Given,
    by_reader,
    read_all_answers,
    read_answers,
)
from resrank_evals.answering import Answered, answer
from resrank_evals.harness import Settings
from resrank_evals.loading import collection_sources
from resrank_evals.readers import Answer, SpanAnswers
from resrank_evals.results import folder_name, read_results
from resrank_evals.systems import parse_system
from resrank_evals.table import results_csv

PASSAGES = {"p1": "alpha beta gamma", "p2": "delta epsilon", "p3": "zeta eta theta"}
GOLD = [{"_id": "q1", "answers": ["gamma"]}, {"_id": "q2", "answers": ["Eta theta"]}, {"_id": "q3", "answers": []}]


class LastWord:
    """Says how sure it is by the number of passages."""

    name = "last-word"

    def __init__(self, version: int = 1) -> None:
        self.version = version
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    @staticmethod
    def tokenizer(text: str, **_: Any) -> dict[str, list[tuple[int, int]]]:
        return {"offset_mapping": [found.span() for found in re.finditer(r"\S+", text)]}

    def describe(self) -> dict[str, Any]:
        return {"version": self.version}

    def environment(self) -> dict[str, Any]:
        return {"dtype": "none"}

    def answer(self, query: str, passages: Sequence[str]) -> Answer:
        self.asked.append((query, tuple(passages)))
        if not passages:
            return Answer("", no_answer=1.0, generated_tokens=None)
        return Answer(passages[-1].split()[-1], len(passages) - 1, 0.5 ** len(passages), generated_tokens=2)


@pytest.fixture
def data(write_beir: Callable[..., Path], tmp_path: Path) -> Path:
    queries = {"q1": "first?", "q2": "second?", "q3": "third?"}
    folder = write_beir(
        tmp_path / "data" / "small", PASSAGES, queries, {"q1": {"p1": 1}, "q2": {"p3": 2, "p2": 0}, "q3": {"p2": 1}}
    )
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in GOLD))
    (tmp_path / "theirs.trec").write_text(
        "q1 Q0 p1 1 2.0 x\nq1 Q0 p2 2 1.0 x\nq2 Q0 p2 1 2.0 x\nq2 Q0 p3 2 1.0 x\nq3 Q0 p3 1 2.0 x\n"
    )
    return folder


@pytest.fixture
def answers(data: Path, tmp_path: Path) -> Callable[..., dict[str, Answered]]:
    def answered(reader: Any, budgets: tuple[int, ...] = (3, 5), name: str = "theirs", **changes: Any) -> Any:
        settings = Settings(**{"out": tmp_path / "out", "stores": tmp_path / "stores", **changes})
        system = parse_system(f"run:{tmp_path}/{name}.trec")
        found = answer(collection_sources(str(data)), [system], settings, reader, budgets, lambda *_: None)
        return {each.result.system.rpartition("/")[2]: each for each in found}

    return answered


def test_measures_by_hand(answers, tmp_path):
    reader = LastWord()
    found = {name: each.result for name, each in answers(reader).items()}
    assert list(found) == ["theirs.trec", GOLD_PASSAGE, NO_CONTEXT]
    run = found["theirs.trec"]
    # Within 3: q1 has p1, whole; q2 has p2 and `zeta`. Within 5: q1 has p1 p2, q2 p2 p3, whole.
    assert run.per_query == {
        "q1": {
            **{"F1@3": 1.0, "EM@3": 1.0, "answer in context@3": 1.0, "no answer@3": 0.5},
            **{"F1@5": 0.0, "EM@5": 0.0, "answer in context@5": 1.0, "no answer@5": 0.25},
        },
        "q2": {
            **{"F1@3": 0.0, "EM@3": 0.0, "answer in context@3": 0.0, "no answer@3": 0.25},
            # `theta` of `eta theta`: precision 1, recall 1/2.
            **{"F1@5": pytest.approx(2 / 3), "EM@5": 0.0, "answer in context@5": 1.0, "no answer@5": 0.25},
        },
    }
    assert run.means["F1@5"] == pytest.approx(1 / 3)
    assert run.answers["q1"].given == {"3": Given("gamma", "p1"), "5": Given("epsilon", "p2")}
    assert run.answers["q2"].given == {"3": Given("zeta", "p3"), "5": Given("theta", "p3")}
    assert run.answers["q2"].gold == ["Eta theta"]
    assert run.tokens == {"context@3": 3, "context@5": 5}
    assert (run.cut, run.without_gold, run.missing_queries) == ({"3": 1, "5": 0}, 1, 0)
    assert run.generated_tokens == {"3": 2, "5": 2}
    assert list(run.latency) == ["read@3", "read@5"]
    assert run.environment["dtype"] == "none"
    assert found[GOLD_PASSAGE].means["EM@3"] == 0.5
    assert found[GOLD_PASSAGE].per_query["q2"]["F1@3"] == pytest.approx(2 / 3)
    assert found[GOLD_PASSAGE].tokens["context@5"] == 3
    empty = found[NO_CONTEXT]
    assert (empty.means["F1@3"], empty.means["answer in context@5"], empty.means["no answer@3"]) == (0, 0, 1)
    assert (empty.answers["q1"].given["3"], empty.missing_queries) == (Given(""), 0)
    assert empty.generated_tokens == {"3": None, "5": None}
    # Rankings are results of their own, and the bounds are none.
    assert [result.system for result in read_results(tmp_path / "out")[1]] == [f"run:{tmp_path}/theirs.trec"]


def test_the_same_context_is_read_once(answers):
    reader = LastWord()
    answers(reader, (5, 50))
    assert reader.asked[:2] == [
        ("first?", ("alpha beta gamma", "delta epsilon")),
        ("second?", ("delta epsilon", "zeta eta theta")),
    ]
    assert len(reader.asked) == 6, "two queries of three systems"


def test_what_is_there_is_kept_and_what_changed_is_made_anew(answers, data, tmp_path):
    first = answers(LastWord())
    reader = LastWord()
    again = answers(reader)
    assert all(each.kept for each in again.values())
    assert reader.asked == []
    assert again["theirs.trec"].result == first["theirs.trec"].result
    path = tmp_path / "out" / "small" / folder_name(f"run:{tmp_path}/theirs.trec") / "answers-last-word.json"
    assert read_answers(path) == first["theirs.trec"].result

    assert not any(each.kept for each in answers(LastWord(version=2)).values())
    assert not any(each.kept for each in answers(LastWord(version=2), (3,)).values())
    (tmp_path / "theirs.trec").write_text("q1 Q0 p2 1 2.0 x\n")
    changed = answers(LastWord(version=2), (3,))
    assert {name: each.kept for name, each in changed.items()} == {
        "theirs.trec": False,
        GOLD_PASSAGE: True,
        NO_CONTEXT: True,
    }
    assert changed["theirs.trec"].result.missing_queries == 1
    assert changed["theirs.trec"].result.answers["q2"].given["3"] == Given("")
    (data / "answers.jsonl").write_text(json.dumps({"_id": "q1", "answers": ["epsilon"]}) + "\n")
    anew = answers(LastWord(version=2), (3,))
    assert not any(each.kept for each in anew.values())
    assert anew["theirs.trec"].result.means["EM@3"] == 1.0
    path.write_text("{ half")
    with pytest.raises(ValueError, match=r"answers-last-word\.json is damaged .* run `resrank-eval rag` again"):
        read_answers(path)
    assert [each.kept for each in answers(LastWord(version=2), (3,)).values()] == [False, True, True]


def test_a_damaged_file_is_named(answers, tmp_path):
    answers(LastWord())
    path = next((tmp_path / "out" / "small").glob("*theirs*/answers-*.json"))
    whole = json.loads(path.read_text())
    for change in ({"answers": 3}, {"answers": {"q1": {}}}, {"latency": 3}, {"format": 9}, {"unknown": 1}):
        path.write_text(json.dumps({**whole, **change}))
        with pytest.raises(ValueError, match=r"answers-last-word\.json .*`resrank-eval rag`"):
            read_answers(path)


def test_answers_are_those_of_the_sample(answers, tmp_path):
    """Two of three queries, the same as those of the rankings."""
    left_out = set()
    for seed in range(8):
        out = tmp_path / str(seed)
        result = answers(LastWord(), queries=2, seed=seed, out=out)["theirs.trec"].result
        (ranking,) = read_results(out)[1]
        assert set(result.per_query) == set(ranking.per_query) - {"q3"}
        left_out.add(result.without_gold)
    assert left_out == {0, 1}


def test_queries_without_gold_answers_alone_are_refused(answers, data):
    (data / "answers.jsonl").write_text(json.dumps({"_id": "elsewhere", "answers": ["x"]}) + "\n")
    with pytest.raises(
        ValueError, match=r"answers\.jsonl has no answer to any of the 3 evaluated queries of small: exp"
    ):
        answers(LastWord())


@pytest.mark.parametrize("budgets", [(), (0,), (3, 3)])
def test_budgets_are_different_and_positive(answers, budgets):
    with pytest.raises(ValueError, match="budgets must be different numbers of tokens from 1 on, got"):
        answers(LastWord(), budgets)


def test_missing_gold_answers_are_found_before_anything_is_ranked(answers, data, tmp_path):
    (data / "answers.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match="small has no gold answers"):
        answers(LastWord())
    assert not (tmp_path / "out").exists()


def test_an_empty_run_is_no_context(answers, tmp_path):
    (tmp_path / "few.trec").write_text("q3 Q0 p1 1 1.0 x\n")
    result = answers(LastWord(), name="few")["few.trec"].result
    assert (result.means["F1@3"], result.missing_queries, result.tokens["context@3"]) == (0.0, 2, 0)


def test_tables(answers, tmp_path):
    result = answers(LastWord())["theirs.trec"].result
    shown = result.as_system_result(5)
    assert (shown.latency["total"], shown.tokens, shown.generated_tokens) == (
        result.latency["read@5"],
        {"context": 5},
        2,
    )
    (row,) = csv.DictReader(io.StringIO(results_csv([result.as_system_result()])))
    assert float(row["F1@5"]) == pytest.approx(1 / 3)
    assert row["tokens context@3"] == "3.0"
    assert float(row["read@3 p95_ms"]) == result.latency["read@3"].p95_ms
    other: AnswerResult = replace(result, reader="other")
    assert by_reader([result, other, result]) == {"last-word": [result, result], "other": [other]}
    assert len(read_all_answers(tmp_path / "out")) == 3


# ------------------------------------------------------------------------------------------------------- the span reader


@pytest.fixture(scope="module")
def tiny_reader(mini_encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-reader"
    config = ReaderConfig(max_length=64, stride=16, max_query_length=16, max_answer_length=5)
    new_reader(str(mini_encoder_folder), config).save_pretrained(folder)
    return folder


def test_the_best_span_of_all_passages(tiny_reader, corpus, queries):
    found = SpanAnswers.from_pretrained(str(tiny_reader), device="cpu", dtype="float32")
    plain = SpanReader.from_pretrained(tiny_reader, device="cpu", dtype="float32")
    for query in queries:
        best = {n: plain.read(query, [text])[0] for n, text in enumerate(corpus[:5])}
        first = max(best, key=lambda n: best[n].margin)
        said = found.answer(query, corpus[:5])
        assert (said.text, said.passage, said.generated_tokens) == (best[first].text, first, 0)
        _, no_answer = confidences([span.margin for span in best.values()])
        assert said.no_answer == pytest.approx(no_answer, abs=1e-4)
        assert corpus[said.passage].count(said.text)
    assert found.answer("anything?", []) == Answer("", no_answer=1.0)


def test_a_reader_is_its_weights(tiny_reader, mini_encoder_folder, tmp_path):
    found = SpanAnswers.from_pretrained(str(tiny_reader), device="cpu", dtype="float32")
    assert found.name == f"tiny-reader-{found.describe()['weights'][:6]}"
    assert found.environment() == {"device": "cpu", "dtype": "float32"}
    config = ReaderConfig(max_length=64, stride=16, max_query_length=16, max_answer_length=5)
    new_reader(str(mini_encoder_folder), config, seed=1).save_pretrained(tmp_path / "tiny-reader")
    other = SpanAnswers.from_pretrained(str(tmp_path / "tiny-reader"), device="cpu", dtype="float32")
    assert found.describe() == {**other.describe(), "name": found.name, "weights": found.describe()["weights"]}
    assert found.describe()["weights"] != other.describe()["weights"]
    assert found.name != other.name, "their answers have files of their own"


def test_a_shipped_reader_goes_by_its_name(tiny_reader, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "CHECKPOINTS", tiny_reader.parent)
    (tmp_path / "tiny-reader").mkdir()
    monkeypatch.chdir(tmp_path)
    assert SpanAnswers.from_pretrained("tiny-reader", device="cpu", dtype="float32").name == "tiny-reader"


def test_answers_of_a_span_reader(answers, tiny_reader):
    reader = SpanAnswers.from_pretrained(str(tiny_reader), device="cpu", dtype="float32")
    found = answers(reader, (16,))
    result = found["theirs.trec"].result
    assert result.reader == reader.name
    assert 0 < result.means["no answer@16"] < 1
    assert result.latency["read@16"].p50_ms > 0
    assert all(each.kept for each in answers(reader, (16,)).values())
