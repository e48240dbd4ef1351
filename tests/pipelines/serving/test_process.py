# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""`resrank serve` as a process on the loopback."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from typer.testing import CliRunner

from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
from resrank_pipelines import cli

COMMAND = [sys.executable, "-c", "from resrank_pipelines.cli import main; main()", "serve", "--port", "0"]
STARTED = re.compile(r"running on (http://\S+)")


class Server:
    """A process that was started; what it logged is kept."""

    def __init__(self, arguments, **environment):
        env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        self.process = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True, env=env)
        self.lines: list[str] = []
        self.url = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line)

    def ready(self):
        until = time.monotonic() + 120
        while not self.url:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < until
            found = STARTED.search(self.log)
            self.url = found[1] if found else ""
            time.sleep(0.02)
        while httpx.get(f"{self.url}/ready").status_code != 200:
            assert time.monotonic() < until
            time.sleep(0.02)
        return self

    @property
    def log(self):
        return "".join(self.lines)

    def ended(self):
        code = self.process.wait(60)
        self._reader.join(10)
        return code


@pytest.fixture
def server(store, tiny_mini_checkpoint, tiny_reader_folder):
    started = []

    def start(*arguments, **environment):
        own = ["--store", store["path"], "--model", str(tiny_mini_checkpoint), "--reader", str(tiny_reader_folder)]
        started.append(Server([*own, "--dtype", "float32", *arguments], **environment))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()


def test_many_clients_at_once_get_what_one_gets_and_sigterm_ends_it(server, store, corpus, queries):
    running = server().ready()
    bodies = [("/v1/rerank", {"query": f"{queries[n % 4]} {n}", "documents": list(corpus)}) for n in range(16)]
    bodies += [("/v1/search", {"query": f"{query} {n}", "top_k": 12}) for query in queries for n in range(4)]
    with httpx.Client(base_url=running.url, timeout=60) as client:

        def scores(each):
            path, body = each
            response = client.post(path, json=body)
            assert response.status_code == 200, response.text
            return {
                r.get("index", r.get("id")): r.get("relevance_score", r.get("score"))
                for r in response.json()["results"]
            }

        alone = [scores(each) for each in bodies]
        with ThreadPoolExecutor(32) as pool:
            together = list(pool.map(scores, bodies))
    for mine, theirs in zip(together, alone, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-6, abs=1e-5)
    running.process.send_signal(signal.SIGTERM)
    assert running.ended() == 0, running.log
    assert "Finished server process" in running.log
    opened = QdrantEdgeDocumentStore(**store)  # closed, whole, and free
    assert opened.count_documents() == len(corpus)
    opened.close()


def test_requests_that_run_are_finished_after_sigterm(server):
    running = server("--rerank-only", "--max-documents", "5000").ready()
    body = {"query": "a date", "documents": [f"date {n} " * 40 for n in range(1_500)]}
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.post, f"{running.url}/v1/rerank", json=body, timeout=120)
        while "resrank_requests_in_flight 1.0" not in httpx.get(f"{running.url}/metrics").text:
            assert not answer.done()
        running.process.send_signal(signal.SIGTERM)
        assert len(answer.result().json()["results"]) == 1_500
    assert running.ended() == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{running.url}/health")


@pytest.mark.slow
def test_ctrl_c_ends_it_too(server):
    running = server("--rerank-only").ready()
    running.process.send_signal(signal.SIGINT)
    assert running.ended() == 0
    assert "Traceback" not in running.log
    assert "interrupted" not in running.log


@pytest.mark.slow
def test_the_token_comes_from_the_environment(server):
    running = server("--rerank-only", RESRANK_API_KEY="a-token").ready()
    body = {"query": "a", "documents": ["b"]}
    assert httpx.post(f"{running.url}/rerank", json=body).status_code == 401
    headers = {"Authorization": "Bearer a-token"}
    assert httpx.post(f"{running.url}/rerank", json=body, headers=headers).status_code == 200
    assert "a-token" not in running.log


@pytest.mark.slow
def test_half_a_request_holds_nobody_up(server):
    running = server("--rerank-only", "--timeout", "3").ready()
    host, port = running.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as half:
        half.sendall(b"POST /rerank HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert httpx.post(f"{running.url}/rerank", json={"query": "a", "documents": ["b"]}).status_code == 200
        half.settimeout(30)
        assert b"408" in half.recv(100)


def test_a_model_that_is_not_there_ends_it_with_one_line(store):
    done = subprocess.run(
        [*COMMAND, "--store", store["path"], "--model", "no-such-model"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "no-such-model" in done.stderr
    assert "Traceback" not in done.stderr


# --------------------------------------------------------------------------------------- before anything is started


def refused(*arguments: str, **environment: str) -> str:
    done = CliRunner().invoke(cli.app, ["serve", *arguments], env={"RESRANK_API_KEY": "", **environment})
    assert done.exit_code == 1, done.output
    return " ".join(done.stderr.split())


def test_other_machines_need_a_token(tmp_path):
    said = refused("--store", str(tmp_path), "--host", "0.0.0.0")
    assert "RESRANK_API_KEY" in said
    assert "--without-token" in said


def test_without_a_store_it_says_what_to_do(tmp_path):
    assert "resrank index PATH" in refused("--store", str(tmp_path / "none"))


def test_without_the_extra_it_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['fastapi'] = None\n"
        "from resrank_pipelines.cli import main\n"
        "sys.argv = ['resrank', 'serve', '--rerank-only']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "pip install 'resrank[serve]'" in " ".join(done.stderr.split())


def test_the_command_imports_nothing_of_it_until_it_is_asked():
    code = (
        "import sys; import resrank_pipelines.cli; print([m for m in sys.modules if m.split('.')[0] in "
        + json.dumps(["fastapi", "uvicorn", "hayhooks", "starlette", "prometheus_client", "mcp", "torch"])
        + "])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
