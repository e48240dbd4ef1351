# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Files that ship with the package: settings for a laptop, a GPU and a cluster, and DeepSpeed's for the latter.
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def shipped(name: str, suffix: str = ".yaml") -> Path | None:
    """
    Find a shipped file.

    :param name: e.g. `mini` or `mini.yaml`.
    :param suffix: of its kind: `.yaml` for settings, `.json` for DeepSpeed's.
    :returns: its path; `None` when there is none by that name.
    """
    path = _FOLDER / f"{name.removesuffix(suffix)}{suffix}"
    return path if Path(name).name == name and path.is_file() else None


def settings_file(name: str) -> Path:
    """
    Find settings by a path or by the name of a shipped file.

    :param name: as the user gave it.
    :returns: the file.
    :raises FileNotFoundError: when there is none, with the shipped ones.
    """
    own = shipped(name)
    path = Path(name).expanduser() if own is None else own
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in _FOLDER.glob("*.yaml")))
        msg = f"expected a file with settings, or one of {known}; got {name}"
        raise FileNotFoundError(msg)
    return path
