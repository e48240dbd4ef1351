# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Room on the disk, looked at before the engine needs it.

The engine writes through memory maps of files that are longer than what they hold (the log and the vectors grow by
32 MiB at a time). When such a file cannot grow any more, the system ends the process (SIGBUS): there is no error that
could be caught and told. So there must be room for all that the files have reserved, and for the files that come next.
"""

from __future__ import annotations

import os
import shutil
import stat

_MIB = 1024 * 1024
_BLOCK = 512  # of `st_blocks`, whatever the file system's own is
# A new piece of the log and one of vectors, and the payload's.
_NEXT_FILES = 96 * _MIB


def reserved_bytes(folder: str) -> int:
    """
    What a folder's files may still take of the disk without becoming longer.

    :param folder: any.
    :returns: bytes; 0 where the system does not tell.
    """
    total = 0
    for where, _, names in os.walk(folder):  # it passes over folders that are removed meanwhile
        for name in names:
            try:
                status = os.lstat(os.path.join(where, name))
            except OSError:  # the engine removes files meanwhile
                continue
            blocks = getattr(status, "st_blocks", None)
            if blocks is not None and stat.S_ISREG(status.st_mode):
                total += max(0, status.st_size - blocks * _BLOCK)
    return total


def missing_room(folder: str, *, to_write: bool) -> str | None:
    """
    Look whether the disk has room for the engine's next steps.

    :param folder: of the store; there.
    :param to_write: whether they write, or only open what is there.
    :returns: what is missing and what to do; `None` when there is room, or the system does not tell.
    """
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return None
    needed = reserved_bytes(folder) + (_NEXT_FILES if to_write else 0)
    if free >= needed:
        return None
    return (
        f"The disk of the store in {folder!r} is too full: {free // _MIB} MiB are free, and the engine may need "
        f"{-(-needed // _MIB)} MiB. Free some space, then do the same again; what was acknowledged is kept."
    )
