# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os
from pathlib import Path

import pytest

from resrank_pipelines.source_files import SourceFiles


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    (tmp_path / "docs" / ".git").mkdir()
    for name in ("b.md", "a.txt", "deep/c.HTML", "deep/d.pdf", "skip.csv", ".hidden.txt", ".git/e.txt"):
        (tmp_path / "docs" / name).write_text("x", encoding="utf-8")
    return tmp_path


def test_finds_supported_files_sorted_and_counts_the_rest(folder):
    found = SourceFiles.find([folder / "docs"])
    assert [str(f.relative_to(folder / "docs")) for f in found.files] == ["a.txt", "b.md", "deep/c.HTML", "deep/d.pdf"]
    assert found.skipped == 2
    assert not found.failures


def test_overlapping_roots_give_each_file_once(folder):
    found = SourceFiles.find([folder / "docs", folder / "docs" / "deep", folder / "docs" / "a.txt"])
    assert len(found.files) == 4


def test_a_missing_root_is_a_failure_and_never_safe(folder):
    found = SourceFiles.find([folder / "nowhere", folder / "docs"])
    assert found.failures == [(folder / "nowhere", "no such file or folder, or it may not be read")]
    assert found.safe_roots == [folder / "docs"]
    assert not found.may_prune(str(folder / "nowhere" / "a.txt"))


def test_an_empty_root_is_never_safe(folder):
    (folder / "empty").mkdir()
    found = SourceFiles.find([folder / "empty"])
    assert not found.files
    assert not found.safe_roots


def test_a_root_with_an_unreadable_folder_is_never_safe(folder, monkeypatch):
    # Root may read everything, so the refusal of the operating system is simulated below os.walk.
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = SourceFiles.find([folder / "docs"])
    assert [reason for _, reason in found.failures] == ["Permission denied"]
    assert not found.safe_roots
    assert len(found.files) == 2


def test_a_named_file_of_another_kind_is_a_failure(folder):
    found = SourceFiles.find([folder / "docs" / "skip.csv"])
    assert "not a kind of file" in found.failures[0][1]


def test_may_prune_only_under_the_given_roots(folder):
    found = SourceFiles.find([folder / "docs" / "deep", folder / "docs" / "a.txt"])
    assert found.may_prune(str(folder / "docs" / "deep" / "gone.txt"))
    assert found.may_prune(str(folder / "docs" / "a.txt"))
    assert not found.may_prune(str(folder / "docs" / "b.md"))
    assert not found.may_prune(str(folder / "docs" / "deeper.txt"))
