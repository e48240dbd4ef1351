# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Against a server in this process that answers as OpenAI's does; it ranks by the number in each passage's text."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import CliRunner

from resrank_evals.collection import Passage
from resrank_training import cli, llm_labels
from resrank_training.labelling import Candidates, make_teacher
from resrank_training.lists import ListWriter, TrainingList, read_lists
from resrank_training.llm_labels import AnswerCache, LLMTeacher, cut_words, messages_for, parse_order, windows

Reply = tuple[int, dict[str, str], Any]


def silent(what: str, done: int, total: int) -> None:
    """No progress."""


def completion(text: str | None, **usage: int) -> Reply:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return 200, {}, {**body, "usage": {**usage, "total_tokens": sum(usage.values())}} if usage else body


def failure(status: int, text: str = "no", **headers: str) -> Reply:
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, {"error": {"message": text}}


def passages_of(body: dict[str, Any]) -> list[str]:
    turns = [message["content"] for message in body["messages"] if message["role"] == "user"]
    return [re.sub(r"^\[\d+\] ", "", turn) for turn in turns[1:-1]]


def ranked(body: dict[str, Any]) -> Reply:
    values = [int(re.findall(r"\d+", text)[0]) for text in passages_of(body)]
    order = sorted(range(len(values)), key=lambda i: -values[i])
    return completion(" > ".join(f"[{i + 1}]" for i in order), prompt_tokens=100, completion_tokens=10)


class Server(ThreadingHTTPServer):
    """`reply` takes the body of a request and its number from 0, and gives status, headers and content."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.reply: Callable[[dict[str, Any], int], Reply] = lambda body, number: ranked(body)
        self.lock = threading.Lock()
        self.active = self.most_active = 0
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            number = len(self.server.bodies)
            self.server.bodies.append(body)
            self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.server.paths.append(self.path)
            self.server.active += 1
            self.server.most_active = max(self.server.most_active, self.server.active)
        try:
            status, headers, content = self.server.reply(body, number)
        finally:
            with self.server.lock:
                self.server.active -= 1
        sent = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        try:
            self.send_response(status)
            self.send_header("content-type", "text/html" if isinstance(content, str) else "application/json")
            self.send_header("content-length", str(len(sent)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent)
        except OSError:  # the client has given up, or was killed
            self.close_connection = True

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def teacher(server: Server, tmp_path: Path) -> Callable[..., LLMTeacher]:
    def make(model: str = "m", **changes: Any) -> LLMTeacher:
        return LLMTeacher(model, **{"url": server.url, "answers": tmp_path / "answers.jsonl", **changes})

    return make


def candidates(values: list[int], query_id: str = "q") -> Candidates:
    return Candidates(query_id, f"query {query_id}", tuple(f"value {v}" for v in values), (None,) * len(values))


def shuffled(count: int, seed: int = 0) -> list[int]:
    return Random(seed).sample(range(count), count)


# --------------------------------------------------------------------------------------------------------------- parts


@pytest.mark.parametrize(
    ("count", "positions"),
    [
        (0, []),
        (1, []),
        (2, [(0, 2)]),
        (20, [(0, 20)]),
        (21, [(1, 21), (0, 20)]),
        (25, [(5, 25), (0, 20)]),
        (40, [(20, 40), (10, 30), (0, 20)]),
        (100, [(start, start + 20) for start in range(80, -1, -10)]),
    ],
)
def test_windows(count, positions):
    assert list(windows(count)) == positions


@pytest.mark.parametrize(
    ("answer", "order", "repaired"),
    [
        ("[3] > [1] > [2]", (2, 0, 1), False),
        ("Sure! The ranking is [3] > [1] > [2].", (2, 0, 1), False),
        ("[03] > [ 1 ] > [2]", (2, 0, 1), False),
        ("[3, 1, 2]", (2, 0, 1), False),
        ("[3] > [3] > [1] > [2]", (2, 0, 1), True),
        ("[3]", (2, 0, 1), True),
        ("[3] > [1", (2, 0, 1), True),
        ("[3] > [7] > [0] > [1] > [2]", (2, 0, 1), True),
        ("[3] > [99999999999999999999999] > [1] > [2]", (2, 0, 1), True),
        ("<think>[1] is good, [2] is not</think>[3] > [1] > [2]", (2, 0, 1), False),
        ("<think>[1] is good, and", None, False),
        ("", None, False),
        ("I cannot rank these 3 passages.", None, False),
        ("[9] > [8]", None, False),
        ("[] > []", None, False),
        ("[a] > [b]", None, False),
        ("3 > 1 > 2", None, False),
        ("[\u0663]", None, False),
    ],
)
def test_parse_order(answer, order, repaired):
    assert parse_order(answer, 3) == (order, repaired)


def test_parse_order_never_loses_a_passage():
    rng = Random(0)
    for _ in range(300):
        count = rng.randint(1, 6)
        answer = "".join(rng.choice(["[", "]", " > ", *"0123456789"]) for _ in range(rng.randint(0, 25)))
        order, repaired = parse_order(answer, count)
        assert order is None or sorted(order) == list(range(count))
        assert not (order is None and repaired)


def test_cut_words():
    assert cut_words("one  two\nthree", 3) == ("one two three", False)
    assert cut_words("one two three four", 3) == ("one two three", True)
    assert cut_words("", 3) == ("", False)
    assert cut_words("\u5982" * 100, 3) == ("\u5982" * 36, True)  # no blanks: 12 characters a word


def test_messages_name_each_passage_once():
    messages = messages_for("what [2] is", ["as in [1] and [ 12 ] and [x]", "second"])
    assert [message["role"] for message in messages] == ["system", *["user", "assistant"] * 3, "user"]
    text = "\n".join(message["content"] for message in messages)
    assert "[1] as in (1) and ( 12 ) and [x]" in text
    assert "[2] second" in text
    assert text.count("what [2] is") == 2


# -------------------------------------------------------------------------------------------------------------- orders


def test_one_window(teacher, server):
    order = teacher().order([candidates([3, 9, 1, 7])], silent)[0]
    assert order.ranking == (1, 3, 0, 2)
    assert order.failures == ()
    expected = {"answers": 1, "cached": 0, "repaired": 0, "failed": 0, "cut_passages": 0}
    assert order.counts == {**expected, "prompt_tokens": 100, "completion_tokens": 10}
    assert server.paths == ["/v1/chat/completions"]
    assert server.bodies[0]["model"] == "m"
    assert server.bodies[0]["temperature"] == 0
    assert passages_of(server.bodies[0]) == ["value 3", "value 9", "value 1", "value 7"]


def test_sliding_window_agrees_with_a_naive_one(teacher, server):
    for count, window, step in ((10, 4, 2), (11, 4, 3), (7, 4, 4), (25, 20, 10), (5, 2, 1)):
        values = shuffled(count, seed=count)
        order = teacher(window=window, step=step).order([candidates(values, f"q{count}")], silent)[0]
        naive = list(range(count))
        starts = [*range(count - window, 0, -step), 0]
        for start in starts:
            naive[start : start + window] = sorted(naive[start : start + window], key=lambda i: -values[i])
        assert list(order.ranking) == naive
        assert order.counts["answers"] == len(starts)
        if window > step:  # what a window keeps for the next one reaches the top
            assert [values[i] for i in order.ranking[: window - step]] == sorted(values)[::-1][: window - step]


def test_nothing_is_asked_where_there_is_nothing_to_order(teacher, server):
    orders = teacher().order([candidates([]), candidates([5])], silent)
    assert [order.ranking for order in orders] == [(), (0,)]
    assert server.bodies == []


def test_many_lists_at_the_same_time(teacher, server):
    def slowly(body: dict[str, Any], number: int) -> Reply:
        time.sleep(0.02)
        return ranked(body)

    server.reply = slowly
    asked = [candidates(shuffled(6, seed), f"q{seed}") for seed in range(12)]
    orders = teacher(concurrency=3).order(asked, silent)
    assert server.most_active == 3
    for each, order in zip(asked, orders, strict=True):
        assert [each.texts[i] for i in order.ranking] == [f"value {v}" for v in (5, 4, 3, 2, 1, 0)]


def test_passages_are_cut(teacher, server):
    given = Candidates("q", "query", ("7 " + "word " * 10, "9 short"), (None, None))
    order = teacher(passage_words=4).order([given], silent)[0]
    assert passages_of(server.bodies[0]) == ["7 word word word", "9 short"]
    assert order.counts["cut_passages"] == 1


def test_progress_is_told_now_and_then(teacher, monkeypatch):
    monkeypatch.setattr(llm_labels, "_TELL_EVERY_S", 0.0)
    told: list[Any] = []
    teacher(concurrency=1).order([candidates([1, 2], f"q{n}") for n in range(3)], lambda *each: told.append(each))
    assert told == [("Asking m", done, 3) for done in (1, 2, 3)]


# ------------------------------------------------------------------------------------------------------------ failures


def test_partial_and_useless_answers(teacher, server):
    replies = {
        "partial": completion("[4] > [2]", prompt_tokens=7, completion_tokens=3),
        "useless": completion("I am sorry."),
        "empty": completion(None),
        "good": completion("[2] > [1] > [3] > [4]"),
    }
    server.reply = lambda body, number: next(reply for name, reply in replies.items() if name in str(body))
    found = {name: teacher().order([candidates([1, 2, 3, 4], name)], silent)[0] for name in replies}
    assert {name: order.ranking for name, order in found.items()} == {
        "partial": (3, 1, 0, 2),
        "useless": (0, 1, 2, 3),
        "empty": (0, 1, 2, 3),
        "good": (1, 0, 2, 3),
    }
    assert {name: order.counts["repaired"] for name, order in found.items() if order.counts["repaired"]} == {
        "partial": 1
    }
    assert [name for name, order in found.items() if order.counts["failed"]] == ["useless", "empty"]
    assert found["useless"].failures == ("places 1 to 4: no number of a passage in 'I am sorry.'",)
    assert (found["partial"].counts["prompt_tokens"], found["useless"].counts["prompt_tokens"]) == (7, 0)


def test_a_useless_answer_leaves_its_window_alone(teacher, server):
    server.reply = lambda body, number: completion("none") if number == 1 else ranked(body)
    values = [1, 2, 3, 4, 5, 6]
    order = teacher(window=4, step=1).order([candidates(values)], silent)[0]
    # places 3 to 6 become 6 5 4 3; places 2 to 5 stay; places 1 to 4 (1 2 6 5) become 6 5 2 1
    assert [values[i] for i in order.ranking] == [6, 5, 2, 1, 4, 3]
    assert order.failures == ("places 2 to 5: no number of a passage in 'none'",)
    assert (order.counts["answers"], order.counts["failed"]) == (3, 1)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_servers_are_asked_again(teacher, server, status):
    server.reply = lambda body, number: failure(status, retry_after_ms="5") if number < 2 else ranked(body)
    order = teacher().order([candidates([1, 2])], silent)[0]
    assert order.ranking == (1, 0)
    assert (len(server.bodies), order.counts["answers"], order.counts["failed"]) == (3, 1, 0)


def test_slow_servers_are_asked_again(teacher, server, monkeypatch):
    monkeypatch.setattr(llm_labels, "TIMEOUT_S", 0.3)

    def slow(body: dict[str, Any], number: int) -> Reply:
        time.sleep(1.0 if number == 0 else 0.0)
        return ranked(body)

    server.reply = slow
    assert teacher().order([candidates([1, 2])], silent)[0].ranking == (1, 0)
    assert len(server.bodies) == 2


def test_a_server_that_stays_busy_ends_the_run_and_keeps_the_answers(teacher, server):
    server.reply = lambda body, number: ranked(body) if number < 2 else failure(429, "too many", retry_after_ms="1")
    asked = [candidates([1, 2], f"q{n}") for n in range(4)]
    with pytest.raises(RuntimeError, match=r"llm:m at 127.0.0.1 cannot be used: .*too many.*answers\.jsonl: run the"):
        teacher(concurrency=1, retries=1).order(asked, silent)
    server.reply = lambda body, number: ranked(body)
    before = len(server.bodies)
    orders = teacher().order(asked, silent)
    assert sum(order.counts["cached"] for order in orders) == 2
    assert len(server.bodies) - before == 2


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_server_that_cannot_be_used(teacher, server, status):
    server.reply = lambda body, number: failure(status, "who are you")
    with pytest.raises(RuntimeError, match=r"cannot be used: .*who are you"):
        teacher().order([candidates([1, 2], f"q{n}") for n in range(40)], silent)
    assert len(server.bodies) < 12  # those behind are not asked


def test_no_server(teacher):
    with pytest.raises(RuntimeError, match="cannot be used: Connection error"):
        teacher(url="http://127.0.0.1:9", retries=0).order([candidates([1, 2])], silent)


def test_a_refused_request_is_a_failure_once_others_were_answered(teacher, server):
    server.reply = lambda body, number: failure(400, "too long") if "query q2" in str(body) else ranked(body)
    asked = [candidates([1, 2], f"q{n}") for n in range(4)]
    orders = teacher(concurrency=1).order(asked, silent)
    assert [order.counts["failed"] for order in orders] == [0, 0, 1, 0]
    assert "places 1 to 2: refused: " in orders[2].failures[0]
    assert "too long" in orders[2].failures[0]
    server.reply = lambda body, number: failure(400, "no such parameter")
    with pytest.raises(RuntimeError, match=r"cannot be used: .*no such parameter"):
        teacher("other").order(asked, silent)


@pytest.mark.parametrize("content", ["<html>welcome</html>", {"choices": []}, {"answer": "[1]"}, []])
def test_what_is_no_chat_completion(teacher, server, content):
    server.reply = lambda body, number: (200, {}, content)
    with pytest.raises(RuntimeError, match=r"expected a chat completion, got .*does the URL end in /v1"):
        teacher().order([candidates([1, 2])], silent)


# --------------------------------------------------------------------------------------------------------------- cache


def test_answers_are_asked_for_once(teacher, server, tmp_path):
    asked = [candidates(shuffled(6, n), f"q{n}") for n in range(3)]
    first = teacher(window=4, step=2).order(asked, silent)
    assert len(server.bodies) == 6
    again = teacher(window=4, step=2).order(asked, silent)
    assert len(server.bodies) == 6
    assert [order.ranking for order in again] == [order.ranking for order in first]
    assert [order.counts["cached"] for order in again] == [2, 2, 2]
    assert [order.counts["prompt_tokens"] for order in again] == [200, 200, 200]
    teacher("other", window=4, step=2).order(asked, silent)
    assert len(server.bodies) == 12
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert Counter(row["model"] for row in rows) == {"m": 6, "other": 6}


def test_useless_answers_are_paid_for_and_kept(teacher, server):
    server.reply = lambda body, number: completion("no")
    for _ in range(2):
        order = teacher().order([candidates([1, 2])], silent)[0]
        assert order.counts["failed"] == 1
    assert len(server.bodies) == 1


def test_answers_that_are_no_text_are_kept_all_the_same(teacher, server):
    server.reply = lambda body, number: completion("[2] \ud800\n\u2028\x00 > [1]")
    for cached in (0, 1):
        order = teacher().order([candidates([1, 2])], silent)[0]
        assert (order.ranking, order.counts["cached"]) == ((1, 0), cached)


def test_half_a_line_at_the_end_is_dropped_and_a_damaged_one_named(teacher, server, tmp_path):
    path = tmp_path / "answers.jsonl"
    teacher().order([candidates([1, 2])], silent)
    whole = path.read_text()
    path.write_text(whole + whole[:30])
    order = teacher().order([candidates([1, 2]), candidates([4, 3], "r")], silent)
    assert [each.counts["cached"] for each in order] == [1, 0]
    assert len(path.read_text().splitlines()) == 2
    path.write_text("nonsense\n" + whole)
    with pytest.raises(ValueError, match=r"answers.jsonl:1: expected a JSON object"):
        teacher()
    path.write_text('{"key": "1"}\n')
    with pytest.raises(ValueError, match=r"got a line without 'text'; move the file away"):
        teacher()


def test_the_key_depends_on_model_and_messages_alone():
    messages = [{"role": "user", "content": "a"}]
    assert AnswerCache.key("m", messages) == AnswerCache.key("m", [{"content": "a", "role": "user"}])
    others = [("n", messages), ("m", [{"role": "user", "content": "b"}]), ("m", messages * 2)]
    assert len({AnswerCache.key("m", messages), *(AnswerCache.key(*each) for each in others)}) == 4


# ------------------------------------------------------------------------------------------------------------ settings


def test_server_and_key_come_from_the_environment_and_are_not_kept(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1/")
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret")
    teacher = make_teacher("llm:org/model:tag", answers=tmp_path / "a.jsonl")
    teacher.order([candidates([1, 2])], silent)
    assert server.headers[0]["authorization"] == "Bearer very-secret"
    assert server.bodies[0]["model"] == "org/model:tag"
    assert server.paths == ["/v1/chat/completions"]
    kept = json.dumps(dict(teacher.settings)) + teacher.name + (tmp_path / "a.jsonl").read_text()
    assert "secret" not in kept
    assert "127.0.0.1" not in kept


def test_the_url_of_a_name_comes_first(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    for path in ("", "/", "/v1", "/deep/v1"):
        teacher = make_teacher(f"llm:@cf/model@{server.url}{path}", answers=tmp_path / f"{len(server.paths)}.jsonl")
        teacher.order([candidates([1, 2])], silent)
    assert server.paths == [f"{prefix}/chat/completions" for prefix in ("/v1", "/v1", "/v1", "/deep/v1")]
    assert server.bodies[0]["model"] == "@cf/model"


def test_an_empty_url_in_the_environment_is_none(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    with pytest.raises(ValueError, match="set OPENAI_API_KEY"):
        make_teacher("llm:m", answers=tmp_path / "a.jsonl")
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    assert make_teacher("llm:m", answers=tmp_path / "a.jsonl")._client.base_url.host == "api.openai.com"


def test_wrong_settings(teacher, tmp_path):
    with pytest.raises(ValueError, match="llm:m: set OPENAI_API_KEY, or name a server of your own"):
        teacher(url=None)
    for changes in ({"step": 21}, {"step": 0}, {"window": 1, "step": 1}, {"passage_words": 0}, {"concurrency": 0}):
        with pytest.raises(ValueError, match="expected 0 < step <= window"):
            teacher(**changes)


# ------------------------------------------------------------------------------------------------------------- command


@pytest.fixture
def lists_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "lists"
    passages = {f"p{i}": Passage(f"value {i}") for i in range(30)}
    with ListWriter(folder, {"step": "test"}) as writer:
        for n in range(6):
            order = shuffled(30, n)
            ids = tuple(f"p{i}" for i in order)
            writer.add([TrainingList(f"q{n}", f"query {n}", ids, tuple(1 if i == 3 else None for i in order))])
        writer.finish(passages, {})
    return folder


@pytest.fixture
def resrank_train(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(cli.app, [str(each) for each in arguments], catch_exceptions=False)


def test_command(resrank_train, server, lists_folder, tmp_path):
    done = resrank_train("label", lists_folder, "--out", "out", "--teacher", "llm:m", "--concurrency", 2)
    assert done.exit_code == 0, done.output
    for each in read_lists(tmp_path / "out").lists:
        best = [int(each.passages[i][1:]) for i in each.ranking]
        assert best[:11] == [3, *range(29, 19, -1)]  # the judged one, and the ten that a window passes on
    for shown in ("llm:m", "answers", "cached", "repaired", "failed", "prompt tokens", "1,200", "120"):
        assert shown in done.stdout
    assert len((tmp_path / "out.answers.jsonl").read_text().splitlines()) == len(server.bodies) == 12


def test_command_ends_with_1_when_too_much_fails(resrank_train, server, lists_folder, tmp_path):
    server.reply = lambda body, number: completion("no idea") if "query 3" in str(body) else ranked(body)
    arguments = ("label", lists_folder, "--out", "out", "--teacher", "llm:m")
    done = resrank_train(*arguments)
    assert done.exit_code == 1
    assert "16.7% of a teacher's answers failed, more than --max-failures 0.05: out is left unfinished" in done.stderr
    assert "q3: llm:m: places 11 to 30: no number of a passage in 'no idea'" in done.stderr
    assert "llm:m" in done.stdout
    accepted = resrank_train(*arguments, "--max-failures", 0.2, "--json")
    assert accepted.exit_code == 0, accepted.output
    found = json.loads(accepted.stdout)
    assert (found["complete"], found["kept"], found["counts"]["llm:m"]["failed"]) == (True, 6, 2)
    assert len(server.bodies) == 12
    assert read_lists(tmp_path / "out").info["labels"]["llm:m"]["failed"] == 2


def test_a_killed_command_pays_for_nothing_twice(resrank_train, server, lists_folder, tmp_path):
    stuck, go_on = threading.Event(), threading.Event()

    def hang(body: dict[str, Any], number: int) -> Reply:
        if number == 7:
            stuck.set()
            go_on.wait(60)
        return ranked(body)

    server.reply = hang
    arguments = ["label", str(lists_folder), "--out", "out", "--teacher", "llm:m", "--concurrency", "1"]
    program = "import sys; from resrank_training.cli import app; app(sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", program, *arguments], cwd=tmp_path, env={**os.environ})
    try:
        assert stuck.wait(120)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
        go_on.set()
    assert len((tmp_path / "out.answers.jsonl").read_text().splitlines()) == 7
    done = resrank_train(*arguments, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["counts"]["llm:m"]["cached"] == 7
    asked = Counter(json.dumps(body["messages"]) for body in server.bodies)
    assert (len(asked), sum(asked.values())) == (12, 13)  # the one in flight alone was sent again
    resrank_train("label", str(lists_folder), "--out", "whole", "--teacher", "llm:m")
    assert (tmp_path / "out" / "lists.jsonl").read_bytes() == (tmp_path / "whole" / "lists.jsonl").read_bytes()
