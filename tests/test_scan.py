# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The audit of dependencies: a weakness fails, no answer is told, never passed over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[1] / ".ci" / "audit.py"
SOUND = {"name": "sound", "version": "1", "vulns": []}
WEAK = {"name": "weak", "version": "2", "vulns": [{"id": "X-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found on PyPI and could not be audited: unknown (1)"}
OURS = {"name": "resrank", "skip_reason": "distribution marked as editable"}


def audit(folder: Path, program: str) -> tuple[int, str]:
    (folder / "pip_audit.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, AUDIT], capture_output=True, text=True, check=False, env=environment)
    assert not done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([SOUND, OURS], 0, "advisories: 1 packages checked, 0 with"),
        ([SOUND, WEAK], 1, "WEAK: weak 2: X-1, mended in 3"),
        ([SOUND, UNKNOWN], 0, "NOT CHECKED: nothing is known of unknown\n"),
        ([UNKNOWN, OURS], 0, "NOT CHECKED: no dependency was checked"),
        ([], 0, "NOT CHECKED: no dependency was checked"),
    ],
    ids=["sound", "weak", "one unknown", "all unknown", "none"],
)
def test_what_is_told(tmp_path, packages, code, said):
    answer = json.dumps({"dependencies": packages, "fixes": []})
    ended, told = audit(tmp_path, f"print({answer!r}); raise SystemExit({code})")
    assert ended == code
    assert said in told


def test_no_network_is_told(tmp_path):
    ended, told = audit(tmp_path, "raise ConnectionError('no such host')")
    assert ended == 0
    assert told.startswith("NOT CHECKED: no dependency was checked")
    assert "no such host" in told
