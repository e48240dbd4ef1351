# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""`resrank ask`, with a tiny reader and with a stand-in for an LLM's endpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from resrank.reader import Span, SpanReader
from resrank_pipelines import cli, display

QUERY = "what is the capital of France?"


@pytest.fixture
def ask(tmp_path: Path, tiny_safe_checkpoint: Path, tiny_reader_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `resrank ask` with tiny models and a store of its own; gives the result."""
    monkeypatch.setenv("RESRANK_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("RESRANK_MODEL", str(tiny_safe_checkpoint))
    monkeypatch.setenv("RESRANK_READER", str(tiny_reader_folder))
    for console in (display.out, display.err):  # made once a process, with the width of that time
        monkeypatch.setattr(console, "_width", 400)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(cli.app, ["ask", *arguments], catch_exceptions=False)

    return run


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, float], None]:
    """Return a function that makes the reader find a text in the passages that hold it, with a margin."""

    def make(answer: str, margin: float) -> None:
        def read(self: Any, query: str, passages: Sequence[str], **_: Any) -> list[Span]:
            places = [(i, text.index(answer)) for i, text in enumerate(passages) if answer in text]
            return [Span(i, start, start + len(answer), answer, margin) for i, start in places]

        monkeypatch.setattr(SpanReader, "read", read)

    return make


def one_line_error(done: Any, *parts: str) -> None:
    assert done.exit_code == 1
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert part in line


# ------------------------------------------------------------------------------------------------------------- reader


def test_an_answer_comes_with_confidence_source_and_passage(ask, filled_store, reads):
    reads("Paris", 3.0)
    done = ask(QUERY)
    assert done.exit_code == 0, done.output
    answer, source, passage = done.stdout.splitlines()
    assert answer == "Paris  confidence 0.95"  # e^3 / (e^3 + 1)
    assert source.strip().endswith("france.txt#0")
    assert passage.strip() == "The capital of France is Paris, a city on the river Seine."
    assert "3 passages read in" in done.stderr


def test_a_long_passage_is_shown_around_the_answer(ask, indexer, source_folder, reads):
    text = "word " * 60 + "The answer\nis [bold]Paris[/bold]. " + "end " * 60
    (source_folder / "long.txt").write_text(text, encoding="utf-8")
    indexer.run([source_folder / "long.txt"])
    indexer.close()
    reads("is [bold]Paris[/bold]", 3.0)
    answer, _, passage = ask("word answer").stdout.splitlines()
    assert answer.startswith("is [bold]Paris[/bold]  confidence")
    assert passage.strip().startswith("…")
    assert passage.strip().endswith("…")
    assert "word The answer is [bold]Paris[/bold]. end" in passage
    assert len(passage) < 300


def test_no_answer_is_no_error(ask, filled_store, reads):
    reads("Paris", -3.0)
    done = ask(QUERY)
    assert done.exit_code == 0
    assert done.stdout.strip() == "no answer found  confidence 0.95"
    reads("not there", 1.0)
    assert ask(QUERY).stdout.strip() == "no answer found  confidence 1.00"


def test_json_holds_answers_with_their_places(ask, filled_store, reads):
    reads("Paris", -1.0)
    found = json.loads(ask(QUERY, "--json").stdout)
    assert list(found) == ["query", "latency_ms", "answer", "answers"]
    assert (found["query"], found["answer"]) == (QUERY, None)
    none, answer = found["answers"]
    assert none == {"answer": None, "confidence": pytest.approx(0.7310586)}
    assert answer["content"][answer["start"] : answer["end"]] == answer["answer"] == "Paris"
    assert answer["source"].endswith("france.txt#0")
    assert answer["meta"]["file_path"].endswith("france.txt")
    assert "resrank" not in answer["meta"]


def test_the_real_reader_answers(ask, filled_store):
    found = json.loads(ask(QUERY, "--json").stdout)
    assert len(found["answers"]) == 4
    assert sum(answer["confidence"] for answer in found["answers"]) == pytest.approx(1.0)


def test_top_k_is_how_many_passages_are_read(ask, filled_store):
    assert len(json.loads(ask(QUERY, "-k", "1", "--json").stdout)["answers"]) == 2
    assert "1 passages read" in ask(QUERY, "--top-k", "1").stderr
    assert ask(QUERY, "--top-k", "0").exit_code == 2


def test_device_and_dtype_reach_the_reader(ask, filled_store):
    one_line_error(ask(QUERY, "--device", "mps"), "not available")
    one_line_error(ask(QUERY, "--dtype", "int8"), "dtype must be auto or one of")


def test_a_reader_that_is_not_there_says_how_to_make_one(ask, filled_store):
    one_line_error(ask(QUERY, "--reader", "no-such-reader"), "no model 'no-such-reader'", "`resrank-train reader`")


def test_a_ranking_model_is_no_reader(ask, filled_store, tiny_safe_checkpoint):
    one_line_error(ask(QUERY, "--reader", str(tiny_safe_checkpoint)), "is a ResRank checkpoint, which ranks passages")


def test_without_a_store_or_passages_it_says_what_to_do(ask, tmp_path, indexer):
    one_line_error(ask(QUERY), "resrank index PATH")
    (tmp_path / "none").mkdir()
    indexer.run([tmp_path / "none"])
    indexer.close()
    done = ask(QUERY)
    assert done.exit_code == 0
    assert "holds no passages yet" in " ".join(done.stderr.split())


def test_a_blank_question_is_one_line(ask, filled_store):
    one_line_error(ask("  "), "the query is blank")


# ---------------------------------------------------------------------------------------------------------------- LLM


def test_an_llm_answers_and_its_citations_have_sources(ask, filled_store, llm):
    llm.text = "It is Paris [1].\n[bold]Really[/bold]."
    done = ask(QUERY, "--llm")
    assert done.exit_code == 0, done.output
    answer, more, source, passage = done.stdout.splitlines()
    assert (answer, more) == ("It is Paris [1].", "[bold]Really[/bold].")
    ranked = llm.requests[0]["messages"][1]["content"].split("\n")[1]
    assert source.startswith("[1] ")
    assert "#0" in source
    assert passage.strip() == ranked[:160]
    assert "3 passages read in" in done.stderr


def test_an_answer_without_citation_says_so(ask, filled_store, llm):
    llm.text = "No answer found in the passages."
    done = ask(QUERY, "--llm")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [llm.text, "no passage is cited"]


def test_json_holds_citations(ask, filled_store, llm):
    llm.text = "Paris [2][1]."
    found = json.loads(ask(QUERY, "--llm", "--json").stdout)
    assert list(found) == ["query", "latency_ms", "answer", "citations"]
    assert found["answer"] == "Paris [2][1]."
    assert [citation["number"] for citation in found["citations"]] == [1, 2]
    assert set(found["citations"][0]) == {"number", "source", "id", "content", "meta"}
    assert not {"resrank", "source_index", "referenced"} & set(found["citations"][0]["meta"])


def test_the_llm_gets_as_many_passages_as_asked(ask, filled_store, llm):
    ask(QUERY, "--llm", "--top-k", "2")
    assert llm.requests[0]["messages"][1]["content"].count("<passage") == 2


def test_the_llm_needs_no_reader(ask, filled_store, llm):
    assert ask(QUERY, "--llm", "--reader", "no-such-reader").exit_code == 0


def test_an_llm_that_is_not_set_is_one_line(ask, filled_store, llm, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    one_line_error(ask(QUERY, "--llm"), "no LLM endpoint is set", "OPENAI_BASE_URL", "OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_MODEL")
    one_line_error(ask(QUERY, "--llm"), "no LLM is named: set OPENAI_MODEL")


def test_an_endpoint_that_is_not_there_is_one_line(ask, filled_store, llm, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    one_line_error(ask(QUERY, "--llm"), "http://127.0.0.1:9/v1 cannot be reached", "OPENAI_BASE_URL")


def test_an_endpoint_that_refuses_is_one_line(ask, filled_store, llm):
    llm.status, llm.body = 401, {"error": {"message": "Incorrect key"}}
    done = ask(QUERY, "--llm")
    one_line_error(done, "refused with status 401", "Incorrect key", "OPENAI_API_KEY")
    assert "sk-very-secret" not in done.output


def test_an_endpoint_that_takes_too_long_is_one_line(ask, filled_store, llm):
    llm.delay_s = 0.6
    one_line_error(ask(QUERY, "--llm", "--timeout", "0.2"), "did not answer in time")


@pytest.mark.parametrize("body", [b"<html>", {"choices": None}, b""], ids=str)
def test_a_reply_that_is_none_is_one_line(ask, filled_store, llm, body):
    llm.body = body
    one_line_error(ask(QUERY, "--llm"), "sent no chat completion", "OPENAI_BASE_URL")
