# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Which fields of a corpus's row become what of a document."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from haystack import Document

from resrank_pipelines.lines import fault, shown, text_field, unicode_text


@dataclass(frozen=True)
class Fields:
    """
    Names of fields. Where there are several, the first that a row has counts.

    :param id: a text or a whole number; makes, with the prefix, the document's id.
    :param text: of the passage.
    :param title: put before the text, on a line of its own, and kept in the meta; a row need not have one.
    :param meta: kept in the meta under their own names, where a row has them.
    :param prefix: put before each id, so that corpora which number their rows alike can share a store.
    """

    id: tuple[str, ...] = ("_id", "id", "docid")
    text: tuple[str, ...] = ("text", "contents")
    title: tuple[str, ...] = ("title",)
    meta: tuple[str, ...] = ()
    prefix: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """
        All that is read of a row.

        :returns: names, each once.
        """
        return tuple(dict.fromkeys((*self.id, *self.text, *self.title, *self.meta)))

    def document(self, where: str, row: Mapping[str, Any]) -> Document:
        """
        Make the document of a row.

        :param where: `<file>:<line>` of the row.
        :param row: its fields.
        :returns: with id, content (blank when the row has no text) and meta.
        :raises ValueError: when a field is missing or is of another kind.
        """
        name = self._id(where, row)
        text = text_field(where, row, self.text)
        field = next((field for field in self.title if row.get(field) is not None), None)
        title = "" if field is None else text_field(where, row, (field,))
        meta: dict[str, Any] = {"title": title} if title.strip() else {}
        meta.update({key: _plain(where, key, row[key]) for key in self.meta if key in row})
        # As evals index it: title and text, a line each.
        return Document(id=self.prefix + name, content=f"{title}\n{text}" if title.strip() else text, meta=meta)

    def _id(self, where: str, row: Mapping[str, Any]) -> str:
        field = next((field for field in self.id if row.get(field) is not None), None)
        value = None if field is None else row[field]
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, str) and value.strip():
            return unicode_text(where, value)
        wanted = " or ".join(f"`{field}`" for field in self.id)
        raise fault(
            where,
            expected=f"an id, a text or a whole number, as {wanted}",
            got=f"the fields {', '.join(f'`{key}`' for key in row) or 'none'}" if field is None else shown(value),
            advice="give each row an id of its own, or name the field that holds it with --id-field",
        )


def _plain(where: str, key: str, value: Any) -> Any:
    """A value as a store can keep it."""
    if isinstance(value, str):
        return unicode_text(where, value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, list):
        return [_plain(where, key, item) for item in value]
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {name: _plain(where, key, item) for name, item in value.items()}
    raise fault(
        where,
        expected=f"a text, number, boolean, date, list or object as `{key}`",
        got=f"{shown(value)} ({type(value).__name__})",
        advice="convert it, or leave it out of --meta",
    )
