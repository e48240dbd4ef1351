# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Candidates that are cheap to pass between components."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from haystack import Document

# What a document holds that can change; everything else is shared by copies.
_MUTABLE = ("meta", "embedding", "sparse_embedding", "blob")


class StoredDocument(Document):
    """
    A document as `ResRankRetriever` hands it out: one whose deep copy costs a quarter of a plain document's.

    Haystack deep-copies the inputs of every component, and for each of 100 candidates `copy.deepcopy` takes a document
    apart and puts it together again. In every other way this is a document: it equals a plain one with the same values,
    and `dataclasses.replace`, `to_dict` and pickling work on it.
    """

    @classmethod
    def of(cls, document: Document, **changes: Any) -> StoredDocument:
        """
        Make one from a document.

        :param document: any document; not changed.
        :param changes: fields with other values, which are taken as they are.
        :returns: a document that shares the fields which are not changed.
        """
        made = cls.__new__(cls)
        vars(made).update(vars(document), **changes)
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> StoredDocument:
        """
        Copy.

        :param memo: the copies made so far.
        :returns: an equal document that shares nothing which can change.
        """
        held = {name: getattr(self, name) for name in _MUTABLE}
        return self.of(self, **{name: deepcopy(value, memo) for name, value in held.items() if value is not None})

    def __eq__(self, other: object) -> bool:
        """
        Compare by content, also with plain documents.

        :param other: anything.
        :returns: whether it is a document with the same values.
        """
        if not isinstance(other, Document):
            return NotImplemented
        return bool(self.to_dict(flatten=False) == other.to_dict(flatten=False))

    __hash__ = None  # type: ignore[assignment]  # as of a plain document
