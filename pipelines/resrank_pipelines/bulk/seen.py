# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Which ids a run has read, on disk."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from typing import NamedTuple

_CACHE_KIB = 32 * 1_024


class Place(NamedTuple):
    """
    Where a row is.

    :param file: index of the file.
    :param row: its line or number.
    """

    file: int
    row: int


class Earlier(NamedTuple):
    """
    A row that had the same id.

    :param place: where it is.
    :param is_same: whether it holds the same text and meta.
    """

    place: Place
    is_same: bool


class SeenIds:
    """
    A set of ids with where they were read, in a file: about 60 bytes an id on disk, a fixed amount in memory.

    What was added before `commit` survives a killed process. A row that is read again, because a run goes on from an
    earlier position, is known by its place.

    :param path: of the file; made if it is not there.
    :raises RuntimeError: when another process has it open.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Ray hands a generator from thread to thread; only one of them runs it at a time.
        self._path = path
        self._database = sqlite3.connect(path, timeout=1, isolation_level=None, check_same_thread=False)
        try:
            self._database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS seen (id BLOB PRIMARY KEY, content BLOB, file INTEGER, row INTEGER) "
                "WITHOUT ROWID"
            )
            self._database.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            self._database.close()
            raise _reworded(path, error) from error

    def add(self, name: str, content: str, place: Place) -> Earlier | None:
        """
        Note an id.

        :param name: the id.
        :param content: what the row holds, in any form that differs where rows do.
        :param place: of the row.
        :returns: the row that had the id first; `None` when it is this one.
        """
        key, digest = _hashed(name, 16), _hashed(content, 8)
        try:
            added = self._database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?)", (key, digest, *place))
        except sqlite3.Error as error:
            raise _reworded(self._path, error) from error
        if added.rowcount:
            return None
        first, *where = self._database.execute("SELECT content, file, row FROM seen WHERE id = ?", (key,)).fetchone()
        earlier = Place(*where)
        return None if earlier == place else Earlier(earlier, first == digest)

    def commit(self) -> None:
        """
        Make what was added last.
        """
        try:
            self._database.execute("COMMIT")
            self._database.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise _reworded(self._path, error) from error

    def close(self) -> None:
        """
        Let the file go.
        """
        self._database.close()


def _reworded(path: Path, error: sqlite3.Error) -> RuntimeError:
    if "locked" in str(error):
        return RuntimeError(f"another process is indexing this corpus into this store ({path}): wait until it is done")
    return RuntimeError(f"{path} cannot be used ({error}): make room, or begin anew with --from-start")


def _hashed(text: str, size: int) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()
