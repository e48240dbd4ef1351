# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
kill -9 at random moments of `resrank index`, in real processes.

Every batch that the command told as embedded is acknowledged: it must be there after the kill, whole.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore

FILES, PARAGRAPHS = 30, 40
# 480 passages are four acknowledgements.
FEW_FILES = 12
ACKNOWLEDGED = re.compile(r"Embedding passages: (\d+) of (\d+)")
PRELOADED = [
    "resrank_pipelines.cli",
    "resrank_pipelines.indexing",
    "resrank",
    "haystack_integrations.components.embedders.resrank",
    "haystack_integrations.components.preprocessors.resrank",
    "transformers.models.bert.modeling_bert",
    "transformers.models.auto.modeling_auto",
]
# A shell that runs the tests in the background has them ignore Ctrl-C, and children inherit that.
HEEDING = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
COMMAND = [sys.executable, "-c", f"{HEEDING}; from resrank_pipelines.cli import main; main()"]


def write_files(folder: Path, count: int) -> Path:
    for n in range(count):
        text = "\n\n".join(f"File {n} paragraph {p}. " + f"word{p} " * 100 for p in range(PARAGRAPHS))
        (folder / f"{n}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def many_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("many"), FILES)


@pytest.fixture(scope="module")
def few_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("few"), FEW_FILES)


def arguments(files: Path, store: Path, model: Path) -> list[str]:
    return ["index", str(files), "--store", str(store), "--model", str(model), "--dtype", "float32"]


def index(files: Path, store: Path, model: Path) -> subprocess.Popen[str]:
    command = [*COMMAND, *arguments(files, store, model)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


class Forked:
    """
    The same command in a process forked from one that has imported everything: many kills in little time.

    Offers what the tests use of `subprocess.Popen`.
    """

    def __init__(self, files: Path, store: Path, model: Path) -> None:
        pipe = store.parent / f"stderr-{random.random()}"
        os.mkfifo(pipe)
        command = ["resrank", *arguments(files, store, model)]
        code = (
            "import os, sys\n"
            f"os.dup2(os.open({str(pipe)!r}, os.O_WRONLY), 2)\n"
            "os.dup2(os.open(os.devnull, os.O_WRONLY), 1)\n"
            f"sys.argv = {command!r}\n"
            "from resrank_pipelines.cli import main\n"
            "main()\n"
        )
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._process = context.Process(target=exec, args=(code,))
        self._process.start()
        self.stderr = pipe.open(encoding="utf-8")

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        with contextlib.suppress(ProcessLookupError):  # it was done before the signal, as Popen allows
            os.kill(self._process.pid, number)

    def wait(self) -> int | None:
        for _ in self.stderr:  # a full pipe would hold the process
            pass
        self._process.join()
        self.stderr.close()
        return self._process.exitcode


def kill_at_random(process: subprocess.Popen[str] | Forked, chance: random.Random) -> int:
    """Kill after a random number of acknowledgements and a random moment more; how many passages were acknowledged."""
    acknowledged, wanted = 0, chance.randrange(0, 4)
    assert process.stderr is not None
    for line in process.stderr:
        match = ACKNOWLEDGED.search(line)
        if match:
            acknowledged = int(match[1])
            wanted -= 1
        if wanted <= 0:
            time.sleep(chance.random() * 0.2)
            break
    process.send_signal(signal.SIGKILL)
    # What was told before the kill may still be in the pipe.
    for line in process.stderr:
        match = ACKNOWLEDGED.search(line)
        if match:
            acknowledged = int(match[1])
    assert process.wait() in (0, -signal.SIGKILL), "ended by itself, with an error"
    return acknowledged


def killed_runs(
    times: int, files: Path, tmp_path: Path, model: Path, contents: Callable[[Path], dict[str, Any]]
) -> None:
    chance = random.Random(20)
    undisturbed = tmp_path / "undisturbed"
    assert Forked(files, undisturbed, model).wait() == 0
    expected = contents(undisturbed)
    assert len(expected) >= len(list(files.iterdir())) * PARAGRAPHS / 2
    store = tmp_path / "store"
    there: dict[str, Any] = {}
    for _ in range(times):
        acknowledged = kill_at_random(Forked(files, store, model), chance)
        found = contents(store)
        assert set(there) <= set(found), "an acknowledged document was lost"
        assert len(found) >= len(there) + acknowledged
        assert all(found[id_] == expected[id_] for id_ in found)
        there = found
        if len(there) == len(expected):  # complete: begin again, so that every kill meets work
            store = tmp_path / f"store-{chance.random()}"
            there = {}
    assert Forked(files, store, model).wait() == 0
    assert contents(store) == expected


def test_a_kill_loses_nothing_acknowledged(few_files, tmp_path, tiny_safe_checkpoint, contents):
    killed_runs(1, few_files, tmp_path, tiny_safe_checkpoint, contents)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_twenty_kills_lose_nothing_acknowledged(many_files, tmp_path, tiny_safe_checkpoint, contents):
    killed_runs(20, many_files, tmp_path, tiny_safe_checkpoint, contents)


def test_a_second_process_is_told_who_holds_the_store(few_files, tmp_path, tiny_safe_checkpoint):
    store = QdrantEdgeDocumentStore(path=str(tmp_path / "held"), embedding_dim=32)
    assert store.count_documents() == 0
    try:
        process = index(few_files, tmp_path / "held", tiny_safe_checkpoint)
        _, stderr = process.communicate(timeout=120)
    finally:
        store.close()
    assert process.returncode == 1
    assert "another process" in stderr
    assert "Traceback" not in stderr


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_ends_in_one_line_and_the_next_run_finishes(few_files, tmp_path, tiny_safe_checkpoint, contents):
    store = tmp_path / "store"
    process = index(few_files, store, tiny_safe_checkpoint)
    assert process.stderr is not None
    for line in process.stderr:
        if ACKNOWLEDGED.search(line):
            break
    process.send_signal(signal.SIGINT)
    stderr = process.stderr.read()
    assert process.wait() == 130, stderr
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    written = len(contents(store))
    assert written >= 128
    assert index(few_files, store, tiny_safe_checkpoint).wait() == 0
    assert len(contents(store)) > written
