# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""A disk that is too full is told before the engine meets it; `tests/faults/test_full_disk.py` has real ones."""

import os
import shutil
from types import SimpleNamespace

import pytest
from haystack import Document

from haystack_integrations.document_stores.resrank import disk
from haystack_integrations.document_stores.resrank.disk import missing_room, reserved_bytes
from haystack_integrations.document_stores.resrank.shard import StoreFullError

MIB = 1024 * 1024


@pytest.fixture
def free(monkeypatch):
    """Say how much is free."""

    def say(count):
        monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=count))

    return say


@pytest.mark.skipif(os.name == "nt", reason="sparse files")
def test_what_is_reserved_is_what_is_not_there_yet(tmp_path):
    assert reserved_bytes(str(tmp_path)) == 0
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(8 * MIB)
    (tmp_path / "inner").mkdir()
    with (tmp_path / "inner" / "half").open("wb") as file:
        file.write(os.urandom(MIB))
        file.truncate(2 * MIB)
    assert reserved_bytes(str(tmp_path)) == pytest.approx(9 * MIB, abs=64 * 1024)
    assert reserved_bytes(str(tmp_path / "none")) == 0


def test_what_is_missing_is_told(tmp_path, free):
    free(95 * MIB)
    assert missing_room(str(tmp_path), to_write=False) is None
    said = missing_room(str(tmp_path), to_write=True)
    assert "95 MiB are free, and the engine may need 96 MiB. Free some space, then do the same again" in said
    free(96 * MIB)
    assert missing_room(str(tmp_path), to_write=True) is None


def test_a_folder_that_cannot_be_measured_is_not_refused(tmp_path, monkeypatch):
    def fail(_):
        raise OSError

    monkeypatch.setattr(disk.shutil, "disk_usage", fail)
    assert missing_room(str(tmp_path), to_write=True) is None


def test_a_store_refuses_to_write_and_goes_on_when_there_is_room(make_store, free, monkeypatch):
    store = make_store()
    store.write_documents([Document(id="a")])
    free(1)
    for change in (
        lambda: store.write_documents([Document(id="b")]),
        lambda: store.delete_documents(["a"]),
        store.delete_all_documents,
    ):
        with pytest.raises(StoreFullError, match=r"is too full: 0 MiB are free.*what was acknowledged is kept"):
            change()
    assert [document.id for document in store.filter_documents()] == ["a"]  # reading goes on
    store.close()
    with pytest.raises(StoreFullError):
        store.count_documents()
    monkeypatch.undo()
    assert store.count_documents() == 1
    assert store.write_documents([Document(id="b")]) == 1


def test_a_new_store_is_refused_and_made_later(make_store, free, monkeypatch, tmp_path):
    free(1)
    with pytest.raises(StoreFullError):
        make_store().count_documents()
    assert os.listdir(tmp_path / "store") == ["resrank.json"]
    monkeypatch.undo()
    assert shutil.disk_usage(tmp_path).free
    assert make_store().count_documents() == 0


def test_an_index_that_finds_no_room_does_not_fail_the_write(make_store, monkeypatch, caplog):
    store = make_store(optimize_threshold=1, optimize_in_background=False)

    def fail(*_):
        msg = "too full"
        raise StoreFullError(msg)

    monkeypatch.setattr(type(store), "_optimize", fail)
    assert store.write_documents([Document(id="a")]) == 1
    assert store.write_documents([Document(id="b")]) == 1
    assert caplog.text.count("The search index was not built") == 1
    assert store.count_documents() == 2
