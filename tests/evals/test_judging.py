# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Sums of judgments by hand, with metrics made up here; the wiring of ragas against a server in this process."""

from __future__ import annotations

import asyncio
import io
import json
import math
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from resrank.reader import ReaderConfig, new_reader
from resrank_evals import cli, judging
from resrank_evals.answer_results import AnswerResult, Given, QueryAnswers, answers_path
from resrank_evals.judging import (
    METRICS,
    Judge,
    Sample,
    judged_path,
    ragas_judge,
    read_all_judged,
    read_judged,
    sum_up,
    without_asking,
)
from resrank_evals.table import judgments

SAMPLE = Sample("capital of France?", "Paris", "Paris", ("Paris is the capital.", "Lyon is not."))
SAMPLES = {"q1": SAMPLE, "q2": replace(SAMPLE, answer=""), "q3": replace(SAMPLE, passages=())}


def answered(**changes: str) -> AnswerResult:
    texts = {**{query: sample.answer for query, sample in SAMPLES.items()}, **changes}
    answers = {query: QueryAnswers(["Paris"], {"64": Given(text)}) for query, text in texts.items()}
    return AnswerResult("small", "bm25", "tiny", {"made": "up"}, {"F1@64": 0.5}, {}, answers)


def metrics(scores: Callable[[str, Sample, int], float], asked: list[tuple[str, str]]) -> Any:
    """`scores` takes metric, sample and how often both were asked before."""

    @asynccontextmanager
    async def opened():
        def metric(name):
            async def score(sample):
                before = asked.count((name, sample.answer))
                asked.append((name, sample.answer))
                return scores(name, sample, before)

            return score

        yield {name: metric(name) for name in METRICS}

    return opened


@pytest.fixture
def out(tmp_path: Path) -> Path:
    answers_path(tmp_path, "small", "bm25", "tiny").parent.mkdir(parents=True)
    return tmp_path


def test_sums_by_hand():
    values = {
        "faithfulness": [1.0, None],
        "answer correctness": [0.5, 1.0],
        "context precision": [None, None],
        "context recall": [1.0, 0.0],
    }
    other = {**values, "faithfulness": [0.0, 0.5], "answer correctness": [0.5, 0.0], "context recall": [0.0, 0.0]}
    means, spreads, missing = sum_up([values, other])
    assert means == {
        "faithfulness": 0.5,  # 1/2 and, of one query, 1/2
        "answer correctness": 0.5,
        "context precision": None,
        "context recall": 0.25,  # 1/2 and 0
    }
    assert spreads["faithfulness"] == 0
    assert spreads["context recall"] == pytest.approx(math.sqrt(0.125))
    assert spreads["context precision"] is None
    assert missing == {"faithfulness": 1, "answer correctness": 0, "context precision": 4, "context recall": 0}
    assert sum_up([{name: [1.0] for name in METRICS}])[1] == dict.fromkeys(METRICS)


def test_what_is_clear_is_not_asked():
    known = {name: [without_asking(name, sample) for sample in SAMPLES.values()] for name in METRICS}
    assert known == {
        "faithfulness": [None, pytest.approx(math.nan, nan_ok=True), 0.0],
        "answer correctness": [None, 0.0, None],
        "context precision": [None, None, 0.0],
        "context recall": [None, None, 0.0],
    }


def test_repeats_failures_and_what_is_kept(out):
    asked: list[tuple[str, str]] = []

    def scores(name: str, sample: Sample, before: int) -> float:
        if name == "context recall" and sample.answer:
            raise TimeoutError
        if name == "context precision":
            return math.nan
        return 1.0 if before == 0 else 0.5

    judge = Judge("wise/one", metrics(scores, asked), repeats=2)
    found = judge.judge(out, answered(), 64, SAMPLES)
    assert found.per_query["q1"]["faithfulness"] == [1.0, 0.5]
    assert found.per_query["q2"]["faithfulness"] == [None, None], "no answer, no statement"
    assert found.per_query["q3"] == {**found.per_query["q3"], "faithfulness": [0.0, 0.0], "context recall": [0.0, 0.0]}
    assert found.means["faithfulness"] == pytest.approx((0.5 + 0.25) / 2)
    assert found.failed == {"faithfulness": 0, "answer correctness": 0, "context precision": 4, "context recall": 2}
    assert found.not_asked == {**dict.fromkeys(METRICS, 0), "faithfulness": 2}
    assert read_judged(judged_path(out, "small", "bm25", "tiny", "wise/one")) == found
    assert read_all_judged(out) == [found]
    console = Console(width=200, file=io.StringIO())
    console.print(judgments([found]))
    assert "0.375 ± 0.177 │" in console.file.getvalue()

    count = len(asked)
    again = judge.judge(out, answered(), 64, SAMPLES)
    assert replace(again, seconds=found.seconds) == found
    assert again.seconds >= found.seconds
    failures = 4 + 2
    assert len(asked) == count + failures, "what failed is asked again, and nothing else"
    judge.judge(out, answered(q1="Lyon"), 64, SAMPLES)
    assert len(asked) == 2 * count + failures
    Judge("wise/one", metrics(scores, asked), repeats=1).judge(out, answered(q1="Lyon"), 64, SAMPLES)
    assert len(asked) == 2 * count + failures + count // 2
    judged_path(out, "small", "bm25", "tiny", "wise/one").write_text("{ half")
    with pytest.raises(ValueError, match=r"is damaged .* run `resrank-eval rag --judge` again"):
        read_judged(judged_path(out, "small", "bm25", "tiny", "wise/one"))


def test_a_later_run_fills_what_failed(out):
    up = [False]
    asked: list[tuple[str, str]] = []

    def scores(name: str, sample: Sample, before: int) -> float:
        if name != "faithfulness" and not up[0]:
            raise TimeoutError
        return 0.75

    judge = Judge("wise", metrics(scores, asked), repeats=2)
    half = judge.judge(out, answered(), 64, {"q1": SAMPLE})
    assert half.failed == {**dict.fromkeys(METRICS, 2), "faithfulness": 0}
    assert half.means["context recall"] is None
    up[0] = True
    whole = judge.judge(out, answered(), 64, {"q1": SAMPLE})
    assert (whole.failed, whole.means) == (dict.fromkeys(METRICS, 0), dict.fromkeys(METRICS, 0.75))
    assert len(asked) == 2 * 4 + 2 * 3
    assert judge.judge(out, answered(), 64, {"q1": SAMPLE}) == whole == read_all_judged(out)[0]
    assert len(asked) == 2 * 4 + 2 * 3


def test_a_judge_that_never_answers(out):
    def scores(*_: Any) -> float:
        msg = "no one there"
        raise ConnectionError(msg)

    with pytest.raises(RuntimeError, match="the judge wise gave no value at all: no one there"):
        Judge("wise", metrics(scores, []), repeats=1).judge(out, answered(), 64, SAMPLES)
    assert not list(out.rglob("judged-*"))
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        Judge("wise", metrics(scores, []), repeats=0)


def test_command(write_beir, mini_encoder_folder, tmp_path, monkeypatch):
    folder = write_beir(tmp_path / "small", {"p1": "Paris is the capital."}, {"q1": "capital?"}, {"q1": {"p1": 1}})
    (folder / "answers.jsonl").write_text('{"_id": "q1", "answers": ["", "The", "Paris", "Paname"]}\n')
    (tmp_path / "x.trec").write_text("q1 Q0 p1 1 1.0 x\n")
    new_reader(str(mini_encoder_folder), ReaderConfig(64, 16, 16, 5)).save_pretrained(tmp_path / "reader")
    seen: list[Sample] = []

    def scores(name: str, sample: Sample, before: int) -> float:
        seen.append(sample)
        return 0.25

    monkeypatch.setattr(judging, "ragas_judge", lambda model, repeats: Judge(model, metrics(scores, []), repeats))
    monkeypatch.chdir(tmp_path)
    command = ["rag", str(folder), "--reader", "reader", "-s", "run:x.trec", "--budget", "2,8", "--measure", "EM@2"]
    done = CliRunner().invoke(cli.app, [*command, "--judge", "wise", "--repeats", "2"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "wise on 2 tokens" in done.stdout
    assert {sample.gold for sample in seen} == {"Paris"}
    assert {sample.passages for sample in seen} == {("Paris is",)}
    again = CliRunner().invoke(cli.app, [*command, "--judge", "wise", "--repeats", "2", "--json"])
    judged = json.loads(again.stdout)["judged"]
    assert [(each["system"], each["budget"]) for each in judged] == [("run:x.trec", 2), ("gold passage", 2)]
    assert judged[0]["means"] == dict.fromkeys(METRICS, 0.25)
    assert len(seen) == 2 * 2 * len(METRICS), "two systems, two repeats; then all was there"


def test_ragas_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ragas", None)
    monkeypatch.setitem(sys.modules, "ragas.metrics.collections", None)
    with pytest.raises(ImportError, match=r"a judge needs ragas: pip install 'resrank\[rag\]'"):
        ragas_judge("m")


# ------------------------------------------------------------------------------------------------------- through ragas


def test_ragas_is_given_sentences(monkeypatch):
    """ragas finds no statement in a bare phrase, and calls what states nothing right."""
    given: dict[str, tuple[Any, ...]] = {}

    def metric(name: str) -> Any:
        def made(**_: Any) -> Any:
            async def ascore(*arguments: Any) -> Any:
                given[name] = arguments
                return SimpleNamespace(value=1.0)

            return SimpleNamespace(ascore=ascore)

        return made

    names = ("AnswerCorrectness", "ContextPrecision", "ContextRecall", "Faithfulness")
    fake: dict[str, Any] = {"ragas.metrics.collections": {name: metric(name) for name in names}}
    fake |= {"ragas": {}, "ragas.metrics": {}, "ragas.llms": {"llm_factory": lambda *_, **__: None}}
    for module, members in fake.items():
        made = ModuleType(module)
        made.__dict__.update(members)
        monkeypatch.setitem(sys.modules, module, made)
    monkeypatch.setattr(sys.modules["ragas"], "metrics", sys.modules["ragas.metrics"], raising=False)
    monkeypatch.setattr(
        sys.modules["ragas.metrics"], "collections", sys.modules["ragas.metrics.collections"], raising=False
    )
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    sample = Sample("capital of France?", "Lyon", "Paris", ("Lyon is not.",))
    said, right = (f"The answer to the question 'capital of France?' is: {text}" for text in ("Lyon", "Paris"))

    async def asked() -> None:
        async with ragas_judge("m")._open() as metrics_:
            for name in METRICS:
                assert await metrics_[name](sample) == 1.0

    asyncio.run(asked())
    query, passages = sample.query, list(sample.passages)
    assert given == {
        "Faithfulness": (query, said, passages),
        "AnswerCorrectness": (query, said, right),
        "ContextPrecision": (query, right, passages),
        "ContextRecall": (query, passages, right),
    }


class Handler(BaseHTTPRequestHandler):
    """Every statement is `Paris`, every verdict yes, but for the passage on Lyon."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = json.dumps(self.content(body["messages"][-1]["content"]))
        message = {"role": "assistant", "content": said}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        sent = json.dumps(answer).encode()
        self.server.asked += 1
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    @staticmethod
    def content(asked: str) -> dict[str, Any]:
        reason = {"statement": "Paris", "reason": "so it is"}
        own = asked.rpartition("Now perform the same")[2]  # what comes before are examples
        if '"TP"' in asked:
            return {"TP": [reason], "FP": [], "FN": []}
        if '"classifications"' in asked:
            return {"classifications": [{**reason, "attributed": 1}]}
        if re.search(r'"verdict"', asked) and '"statements"' not in asked:
            return {"reason": "so it is", "verdict": 0 if "Lyon" in own else 1}
        if '"verdict"' in asked:
            return {"statements": [{**reason, "verdict": 1}, {**reason, "verdict": 0}]}
        return {"statements": ["Paris"]}

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked = 0
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{running.server_address[1]}/v1")
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        monkeypatch.setattr(judging, "RETRIES", 0)
        yield running
        running.shutdown()
        thread.join()


def test_metrics_of_ragas(server, out):
    pytest.importorskip("ragas", reason="pip install 'resrank[rag]' in an environment of its own")
    judge = ragas_judge("m", repeats=2)
    found = judge.judge(out, answered(), 64, {"q1": SAMPLE})
    assert found.per_query["q1"]["faithfulness"] == [0.5, 0.5]
    assert found.per_query["q1"]["answer correctness"] == [1.0, 1.0]
    assert found.per_query["q1"]["context precision"] == [pytest.approx(1.0), pytest.approx(1.0)]
    assert found.per_query["q1"]["context recall"] == [1.0, 1.0]
    assert found.failed == dict.fromkeys(METRICS, 0)
    # 2 requests for faithfulness, 3 for correctness, one a passage for precision, 1 for recall.
    assert server.asked == 2 * (2 + 3 + 2 + 1)
    backwards = replace(SAMPLE, passages=SAMPLE.passages[::-1])
    again = judge.judge(out, answered(q2="changed"), 64, {"q1": backwards})
    assert again.per_query["q1"]["context precision"] == [pytest.approx(0.5), pytest.approx(0.5)]
