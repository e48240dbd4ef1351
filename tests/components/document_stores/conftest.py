# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore


def pytest_configure(config: pytest.Config) -> None:
    # Haystack's contract carries the mark; its coroutines are run without the plugin.
    config.addinivalue_line("markers", "asyncio: a coroutine of Haystack's contract tests")


@pytest.fixture
def make_store(tmp_path) -> Iterator[Callable[..., QdrantEdgeDocumentStore]]:
    """Make stores on one folder, and close them after the test."""
    stores = []

    def make(name: str = "store", **settings) -> QdrantEdgeDocumentStore:
        stores.append(QdrantEdgeDocumentStore(**{"path": str(tmp_path / name), "embedding_dim": 4, **settings}))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


@pytest.fixture(scope="session")
def zygote() -> Iterator[subprocess.Popen[str]]:
    """Start the server that forks processes; see zygote.py."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    command = [sys.executable, str(Path(__file__).with_name("zygote.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def run_process(zygote, tmp_path) -> Callable[..., tuple[list[int], str]]:
    """Run code in a process of its own: returns the exit codes (negative for a signal) and what was printed."""

    def run(code: str, *arguments: object, count: int = 1, kill_after: float | None = None) -> tuple[list[int], str]:
        output = tmp_path / "output.txt"
        output.unlink(missing_ok=True)
        task = {"code": code, "arguments": [str(argument) for argument in arguments], "output": str(output)}
        zygote.stdin.write(json.dumps({**task, "count": count, "kill_after": kill_after}) + "\n")
        zygote.stdin.flush()
        codes = json.loads(zygote.stdout.readline())
        return codes, output.read_text() if output.exists() else ""

    return run
