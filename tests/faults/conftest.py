# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("prometheus_client", reason="needs the extra serve")


from .processes import Resrank

PARAGRAPHS = 16


@pytest.fixture
def resrank(tmp_path: Path) -> Iterator[Callable[..., Resrank]]:
    """Start `resrank` commands; none outlives the test."""
    started: list[Resrank] = []

    def start(*arguments: str) -> Resrank:
        started.append(Resrank(list(arguments), tmp_path))
        return started[-1]

    yield start
    for process in started:
        if process.exit_code is None:
            process.kill()


@pytest.fixture(scope="session")
def write_files() -> Callable[..., Path]:
    """Write text files of `PARAGRAPHS` passages each."""

    def write(folder: Path, count: int, name: str = "file") -> Path:
        folder.mkdir(exist_ok=True)
        for n in range(count):
            text = "\n\n".join(f"{name} {n} paragraph {p}. " + f"word{p} " * 100 for p in range(PARAGRAPHS))
            (folder / f"{name}-{n}.txt").write_text(text, encoding="utf-8")
        return folder

    return write
