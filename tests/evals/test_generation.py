# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Against a server in this process that answers as OpenAI's does. What a language model makes of it is not measured."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer
from typer.testing import CliRunner

from resrank.reader import ReaderConfig, new_reader
from resrank_evals import cli, generation
from resrank_evals.answer_results import answers_path, read_answers
from resrank_evals.answering import answer
from resrank_evals.generation import GeneratedAnswers, prompt
from resrank_evals.harness import Settings
from resrank_evals.loading import collection_sources
from resrank_evals.readers import Answer
from resrank_evals.systems import parse_system

Reply = tuple[int, dict[str, Any]]


def completion(text: str | None, tokens: int | None = None, ended: str = "stop") -> Reply:
    choice = {"index": 0, "finish_reason": ended, "message": {"role": "assistant", "content": text}}
    body: dict[str, Any] = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    if tokens is not None:
        body["usage"] = {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens}
    return 200, body


class Server(ThreadingHTTPServer):
    """`reply` takes what was asked and its number from 0."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.reply: Callable[[str, int], Reply] = lambda asked, number: completion("yes", 2)
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.bodies.append(body)
        self.server.keys.append(self.headers["authorization"])
        status, content = self.server.reply(body["messages"][0]["content"], len(self.server.bodies) - 1)
        sent = json.dumps(content).encode()
        self.send_response(status if self.path == "/v1/chat/completions" else 404)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{running.server_address[1]}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "secret")
        monkeypatch.setattr(generation, "RETRIES", 0)
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def generator(server: Server, mini_encoder_folder: Path) -> GeneratedAnswers:
    return GeneratedAnswers("m", AutoTokenizer.from_pretrained(mini_encoder_folder))


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        ("Paris", "Paris"),
        (" Paris \n", "Paris"),
        ("<think>is it\nLyon?</think>\nParis", "Paris"),
        ("\ud800", "?"),
    ],
)
def test_answers(server, generator, said, answered):
    server.reply = lambda asked, number: completion(said, 3)
    found = generator.answer("capital of France?", ["Paris is the capital.", "Lyon is not."])
    assert (found.text, found.generated_tokens, found.passage, found.no_answer) == (answered, 3, None, None)
    assert not found.failed
    (body,) = server.bodies
    assert (body["model"], body["temperature"]) == ("m", 0)
    text = body["messages"][0]["content"]
    assert "[1] Paris is the capital.\n\n[2] Lyon is not.\n\nQuestion: capital of France?" in text
    assert server.keys == ["Bearer secret"]


@pytest.mark.parametrize(
    ("said", "ended"),
    [
        (None, "content_filter"),
        (" \n", "stop"),
        ("Par", "length"),
        ("<think>is it Lyon?", "stop"),
        ("<think>is it Lyon?</think>", "stop"),
        ("<think>Lyon?</think> <think>or", "stop"),
    ],
)
def test_what_is_no_answer_is_a_failure(server, generator, said, ended):
    server.reply = lambda asked, number: completion(said, 3, ended)
    assert generator.answer("capital of France?", []) == Answer("", generated_tokens=3, failed=True)


@pytest.mark.parametrize("status", [400, 422])
def test_a_temperature_that_is_refused_is_left_out(server, generator, status):
    refused = {"error": {"message": "Unsupported value: 'temperature' does not support 0.0 with this model."}}
    server.reply = lambda asked, number: (
        (status, refused) if "temperature" in server.bodies[-1] else completion("Paris", 3)
    )
    assert [generator.answer("capital of France?", []).text for _ in range(2)] == ["Paris", "Paris"]
    assert ["temperature" in body for body in server.bodies] == [True, False, False]
    assert generator.environment() == {"device": "server", "temperature": "the model's own"}


def test_a_refused_temperature_is_tried_again_once(server, generator):
    server.reply = lambda asked, number: (400, {"error": {"message": "no temperature, no model"}})
    with pytest.raises(RuntimeError, match="m cannot be used"):
        generator.answer("a?", [])
    assert len(server.bodies) == 2


@pytest.mark.parametrize("url", [None, ""])
def test_openai_is_the_server_without_another(mini_encoder_folder, monkeypatch, url):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    if url is not None:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
    generator = GeneratedAnswers("m", AutoTokenizer.from_pretrained(mini_encoder_folder))
    assert str(generator._client.base_url).rstrip("/") == "https://api.openai.com/v1"


def test_without_a_context_there_is_no_word_of_passages():
    assert "passage" not in prompt("who?", [])
    assert prompt("who?", []).endswith("\n\nQuestion: who?")


def test_what_decides_the_answers(generator, qwen_encoder_folder, monkeypatch):
    other = GeneratedAnswers("m", AutoTokenizer.from_pretrained(qwen_encoder_folder))
    assert generator.describe() == {**other.describe(), "tokenizer": generator.describe()["tokenizer"]}
    assert generator.describe() != other.describe()
    assert (generator.name, generator.environment()) == ("generator:m", {"device": "server"})


def test_how_a_tokenizer_was_used_before_decides_nothing(server, mini_encoder_folder):
    used, fresh = (AutoTokenizer.from_pretrained(mini_encoder_folder) for _ in range(2))
    before = GeneratedAnswers("m", fresh).describe()
    used("a question", "a text", truncation="only_second", max_length=16, stride=4, padding="max_length")
    generator = GeneratedAnswers("m", used)
    assert generator.describe() == before
    used("a text", add_special_tokens=False)
    assert generator.describe() == before
    used("a text", truncation=True, max_length=8)
    assert generator.describe() == before


def test_a_refused_question_is_a_failure_once_others_were_answered(server, generator):
    server.reply = lambda asked, number: completion("yes") if number == 0 else (400, {"error": {"message": "too long"}})
    assert generator.answer("a?", []).generated_tokens is None
    refused = generator.answer("b?", [])
    assert (refused.text, refused.failed) == ("", True)


@pytest.mark.parametrize("reply", [(400, {"error": {"message": "no such model"}}), (500, {}), (200, {"choices": []})])
def test_a_server_that_cannot_be_used(server, generator, reply):
    server.reply = lambda asked, number: reply
    with pytest.raises(RuntimeError, match=r"m cannot be used: .* run the same command again to go on"):
        generator.answer("a?", [])


def test_openai_needs_a_key(monkeypatch, mini_encoder_folder):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="m: set OPENAI_API_KEY, or name a server of your own with OPENAI_BASE_URL"):
        GeneratedAnswers("m", None)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    GeneratedAnswers("m", AutoTokenizer.from_pretrained(mini_encoder_folder))


def test_the_same_contexts_and_measures(server, generator, write_beir, tmp_path):
    passages = {"p1": "Paris is the capital of France.", "p2": "Penicillin was discovered by Fleming."}
    folder = write_beir(tmp_path / "small", passages, {"q1": "capital of France?"}, {"q1": {"p1": 1}})
    (folder / "answers.jsonl").write_text('{"_id": "q1", "answers": ["Paris"]}\n')
    (tmp_path / "x.trec").write_text("q1 Q0 p2 1 1.0 x\n")
    server.reply = lambda asked, number: completion("Paris" if "Paris" in asked else "Fleming", 1)
    settings = Settings(out=tmp_path / "out", stores=tmp_path / "stores")
    arguments = (collection_sources(str(folder)), [parse_system(f"run:{tmp_path}/x.trec")], settings, generator, (64,))
    run, gold, nothing = (each.result for each in answer(*arguments, lambda *_: None))
    assert run.per_query["q1"] == {"F1@64": 0.0, "EM@64": 0.0, "answer in context@64": 0.0}
    assert (gold.means["EM@64"], nothing.means["EM@64"]) == (1.0, 0.0)
    assert [run.answers["q1"].given["64"].answer, run.answers["q1"].given["64"].passage] == ["Fleming", None]
    assert (run.generated_tokens, run.failed) == ({"64": 1.0}, 0)
    assert len(server.bodies) == 3
    assert all(each.kept for each in answer(*arguments, lambda *_: None))
    assert len(server.bodies) == 3


def test_command(server, write_beir, mini_encoder_folder, tmp_path, monkeypatch):
    passages = {"p1": "Paris is the capital of France.", "p2": "Penicillin was discovered by Fleming."}
    queries = {"q1": "capital of France?", "q2": "who discovered penicillin?"}
    folder = write_beir(tmp_path / "small", passages, queries, {"q1": {"p1": 1}, "q2": {"p2": 1}})
    rows = [{"_id": "q1", "answers": ["Paris"]}, {"_id": "q2", "answers": ["Fleming"]}]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "x.trec").write_text("q1 Q0 p1 1 1.0 x\nq2 Q0 p1 1 1.0 x\n")
    new_reader(str(mini_encoder_folder), ReaderConfig(64, 16, 16, 5)).save_pretrained(tmp_path / "reader")
    server.reply = lambda asked, number: (400, {"error": {"message": "no"}}) if number == 1 else completion("Paris", 1)
    monkeypatch.chdir(tmp_path)
    command = ["rag", str(folder), "--reader", "reader", "--generator", "m", "-s", "run:x.trec", "--budget", "64"]
    done = CliRunner().invoke(cli.app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "small: 1 answers from run:x.trec were refused, cut short or empty" in " ".join(done.stderr.split())
    path = answers_path(tmp_path / ".resrank" / "results", "small", "run:x.trec", "generator:m")
    assert read_answers(path).means["EM@64"] == 0.5
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    assert "m: set OPENAI_API_KEY" in " ".join(CliRunner().invoke(cli.app, command).stderr.split())
