# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resrank_pipelines.indexing import Indexer

TEXTS = {
    "dates.txt": "Dates are parsed with datetime.strptime, which takes a format string.",
    "bread.md": "# Bread\n\nBread needs flour, water, salt and yeast.\n\nKnead it for ten minutes.",
    "france.txt": "The capital of France is Paris, a city on the river Seine.",
}


@pytest.fixture
def source_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def parameters(tmp_path: Path, tiny_safe_checkpoint: Path) -> dict[str, Any]:
    return {
        "model": {"model": str(tiny_safe_checkpoint)},
        "store": {"path": str(tmp_path / "store"), "embedding_dim": 32},
    }


@pytest.fixture
def indexer(parameters: dict[str, Any]) -> Iterator[Indexer]:
    made = Indexer(**parameters)
    yield made
    made.close()


@pytest.fixture
def filled_store(source_folder: Path, indexer: Indexer, tmp_path: Path) -> Path:
    assert indexer.run([source_folder]).written == 3
    indexer.close()
    return tmp_path / "store"
