# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Known weaknesses of the installed packages, by pip-audit.

Exit code 1 when there is one. The advisories come over the network: without them nothing is known, which is said and
is no failure. pip-audit itself would end with 0 and "no known vulnerabilities": a package that it gets no answer for is
one that it skips.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import Any

_TIMEOUT_S = 300


def main() -> int:
    """
    Audit this Python's packages.

    :returns: 1 when a package has a known weakness, else 0.
    """
    if importlib.util.find_spec("pip_audit") is None:
        print("pip-audit is not installed: pip install 'resrank[dev]'")
        return 1
    command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--progress-spinner", "off"]
    command += ["--format", "json", "--timeout", "10"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return _unknown(f"no answer within {_TIMEOUT_S} seconds")
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return _unknown((done.stderr.strip().splitlines() or ["it said nothing"])[-1])
    # An editable project is no package of an index.
    asked = [each for each in packages if "marked as editable" not in each.get("skip_reason", "")]
    known = [each for each in asked if "vulns" in each]
    if not known:
        return _unknown(str(asked[0].get("skip_reason")) if asked else "it found no packages")
    weak = [each for each in known if each["vulns"]]
    for package in weak:
        for found in package["vulns"]:
            fixed = ", ".join(found.get("fix_versions", [])) or "no version yet"
            print(f"WEAK: {package['name']} {package['version']}: {found['id']}, mended in {fixed}")
    skipped = [each["name"] for each in asked if "vulns" not in each]
    if skipped:
        print(f"NOT CHECKED: nothing is known of {', '.join(skipped)}")
    print(f"advisories: {len(known)} packages checked, {len(weak)} with a known weakness")
    return 1 if weak else 0


def _unknown(reason: str) -> int:
    print(
        "NOT CHECKED: no dependency was checked for known weaknesses, because pip-audit could get no advisories "
        f"({reason:.200}). Run `make scan` where the advisory database can be reached."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
