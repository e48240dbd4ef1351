# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The README's Python blocks run as they stand, with the shipped model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture
def indexed_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory where `resrank index` has run."""
    from resrank_pipelines.indexing import Indexer

    monkeypatch.chdir(tmp_path)
    (tmp_path / "help.txt").write_text("Reset your password from the login page.", encoding="utf-8")
    indexer = Indexer()
    assert indexer.run([tmp_path / "help.txt"]).written == 1
    indexer.close()
    return tmp_path


def test_there_are_blocks():
    assert len(BLOCKS) == 3


@pytest.mark.parametrize("block", BLOCKS, ids=[str(number) for number in range(len(BLOCKS))])
def test_block_runs(block: str, indexed_folder: Path, capsys: pytest.CaptureFixture[str]):
    values: dict[str, object] = {}
    exec(compile(block, str(README), "exec"), values)
    for name in ("pipeline", "store"):
        if name in values:
            values[name].close()
    if "print(" in block:
        printed = capsys.readouterr().out
        assert "password" in printed or "strptime" in printed
    if "scores" in values:
        assert values["scores"].argmax() == 1
