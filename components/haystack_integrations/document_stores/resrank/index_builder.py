# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
A script, not a module to import: builds the index of a shard that nobody else has open.

`python -I -S index_builder.py PACKAGES SHARD PARENT`, where the folder `PACKAGES` holds the engine's package. It prints
`changed` or `same`. It needs the engine alone, so that it starts in a moment.
"""

import contextlib
import ctypes
import os
import signal
import sys

NICENESS = 5  # searches of the store's own process go first
PR_SET_PDEATHSIG = 1


def _end_with_the_parent() -> None:
    # Linux only. Elsewhere an orphan finishes its build in vain: the next process that opens the store removes it.
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(packages: str, shard: str, parent: int) -> None:
    """
    Build.

    :param packages: The folder that holds the engine's package.
    :param shard: The folder with the engine's files.
    :param parent: The process to end with.
    """
    _end_with_the_parent()
    if os.getppid() != parent:
        sys.exit("the process that asked for the index is gone")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's is for the parent
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    sys.path.append(packages)
    import qdrant_edge as edge

    engine = edge.EdgeShard.load(shard)
    changed = engine.optimize()
    engine.flush()
    engine.close()
    sys.stdout.write("changed" if changed else "same")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
