# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""JSON files of a model: read, or refused with their name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_json(path: Path) -> Any:
    """
    Read a JSON file.

    :param path: the file.
    :returns: its content.
    :raises ValueError: when it is missing, or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        msg = f"{path} cannot be read ({error}): it is damaged or incomplete, get it again"
        raise ValueError(msg) from error


def read_object(path: Path) -> dict[str, Any]:
    """
    Read a JSON file that holds an object.

    :param path: the file.
    :returns: the object.
    :raises ValueError: when it is missing, no JSON, or holds something else.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        msg = f"{path}: expected a JSON object, got {type(found).__name__}: it is damaged, get it again"
        raise ValueError(msg)
    return found
