# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""`resrank` in processes of its own that are forked from one with all imports done: many kills in little time."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

PRELOADED = [
    "resrank_pipelines.cli",
    "resrank_pipelines.indexing",
    "resrank_pipelines.serving.server",
    "resrank",
    "haystack_integrations.components.embedders.resrank",
    "haystack_integrations.components.preprocessors.resrank",
    "haystack_integrations.components.readers.resrank",
    "haystack_integrations.components.rankers.resrank",
    "haystack_integrations.components.retrievers.resrank",
    "transformers.models.bert.modeling_bert",
    "transformers.models.auto.modeling_auto",
]
ADDRESS = re.compile(r"running on (http://\S+)")
WAIT_S = 120


class Resrank:
    """
    A `resrank` command that runs.

    :param arguments: of the command.
    :param folder: where its stderr goes.
    """

    def __init__(self, arguments: list[str], folder: Path) -> None:
        self.log_file = folder / f"log-{uuid.uuid4().hex}"
        self.log_file.touch()
        code = (
            "import os, signal, sys\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            f"os.dup2(os.open({str(self.log_file)!r}, os.O_WRONLY | os.O_APPEND), 2)\n"
            "os.dup2(2, 1)\n"
            f"sys.argv = ['resrank', *{arguments!r}]\n"
            "from resrank_pipelines.cli import main\n"
            "main()\n"
        )
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._process = context.Process(target=exec, args=(code,))
        self._process.start()
        self.url = ""

    @property
    def log(self) -> str:
        """What it said so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    @property
    def exit_code(self) -> int | None:
        """`None` while it runs; of a signal its negative number."""
        return self._process.exitcode

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def ready(self) -> Resrank:
        """Wait until it serves."""
        wait_for(self._answers, self)
        return self

    def _answers(self) -> bool:
        found = ADDRESS.search(self.log)
        if found is None:
            return False
        self.url = found[1]
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/ready", timeout=10).status_code == 200
        return False

    def signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def ended(self, timeout_s: float = WAIT_S) -> int | None:
        """Wait for its end."""
        self._process.join(timeout_s)
        return self._process.exitcode

    def kill(self) -> None:
        """End it without any clean-up."""
        self.signal(signal.SIGKILL)
        self.ended()


def wait_for(condition: Callable[[], Any], process: Resrank | None = None, timeout_s: float = WAIT_S) -> Any:
    """Poll until something is true; the process must live on meanwhile."""
    until = time.monotonic() + timeout_s
    while not (found := condition()):
        assert process is None or process.exit_code is None, process.log
        assert time.monotonic() < until, process.log if process else "it did not happen"
        time.sleep(0.02)
    return found
