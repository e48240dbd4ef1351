# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Measuring in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent.parent


def run_probe(module: str, stage: str, folder: Path) -> dict[str, Any]:
    """
    Run a stage of a probe.

    :param module: of `benchmarks`; its last line on stdout is JSON.
    :param stage: what it measures.
    :param folder: that it works on.
    :returns: what it found.
    :raises RuntimeError: when it fails, with the end of what it said.
    """
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", stage, str(folder.resolve())],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        msg = f"the stage {stage!r} of {module} failed:\n{done.stderr[-2_000:]}"
        raise RuntimeError(msg)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
