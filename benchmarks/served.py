# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""A filled store, and `resrank serve` on it in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .pipeline import fill
from .settings import Settings

_ADDRESS = re.compile(r"running on http://127\.0\.0\.1:(\d+)")


@dataclass(frozen=True)
class Served:
    """
    A server that runs.

    :param port: on the loopback.
    :param pid: of its process.
    """

    port: int
    pid: int


def index(folder: str, settings: Settings, passages: list[Any]) -> None:
    """
    Embed passages into a store.

    :param folder: of the store.
    :param settings: of the run.
    :param passages: documents with content.
    """
    from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore

    store = QdrantEdgeDocumentStore(path=folder)
    fill(store, {"device": settings.device, "dtype": settings.dtype}, passages)
    store.close()


@contextmanager
def serving(settings: Settings, store: str, *arguments: str) -> Iterator[Served]:
    """
    Run a server.

    :param settings: of the run.
    :param store: its folder; the log is written beside it.
    :param arguments: more of `resrank serve`.
    :returns: a context that gives the server, ready; it ends with SIGTERM.
    :raises RuntimeError: when it does not start.
    """
    command = [sys.executable, "-c", "from resrank_pipelines.cli import main; main()", "serve", "--port", "0"]
    command += ["--store", store, "--device", settings.device, "--dtype", settings.dtype, "--timeout", "600"]
    log = Path(f"{store}.log")
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen([*command, *arguments], stderr=file)
    try:
        yield Served(_ready(process, log), process.pid)
    finally:
        process.terminate()
        process.wait()


def _ready(process: subprocess.Popen[bytes], log: Path) -> int:
    until = time.monotonic() + 300
    while time.monotonic() < until and process.poll() is None:
        found = _ADDRESS.search(log.read_text(encoding="utf-8"))
        if found:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/ready"):
                    return int(found[1])
            except urllib.error.HTTPError:
                pass
        time.sleep(0.1)
    msg = f"the server did not start: {log.read_text(encoding='utf-8')[-500:]}"
    raise RuntimeError(msg)
