# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Metadata that is cheap to pass between components."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

_IMMUTABLE = frozenset({str, int, float, bool, type(None)})


class StoredMeta(dict[str, Any]):
    """
    The meta of a candidate: a dictionary whose deep copy shares what cannot change.

    Haystack deep-copies the inputs of every component, and most values of a meta are texts and numbers. Everything else
    is copied as usual. In every other way this is a dictionary.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> StoredMeta:
        """
        Copy.

        :param memo: the copies made so far.
        :returns: an equal meta that shares nothing which can change.
        """
        copied = StoredMeta(self)
        for key, value in self.items():
            if type(value) not in _IMMUTABLE:
                copied[key] = value.__deepcopy__(memo) if type(value) is StoredMeta else deepcopy(value, memo)
        return copied
