# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Summaries of metadata fields, computed from the documents' meta. Pure functions."""

from collections.abc import Iterable
from typing import Any


def field_keys(metadata_field: str) -> list[str]:
    """
    Split the name of a metadata field.

    :param metadata_field: Such as `category`, `meta.category` or `source.page`.
    :returns: The keys below the meta.
    """
    return metadata_field.removeprefix("meta.").split(".")


def field_values(metas: Iterable[dict[str, Any]], metadata_field: str) -> Iterable[Any]:
    """
    Read one field of each document.

    :param metas: The documents' meta.
    :param metadata_field: The field's name.
    :returns: The values that are there and not `None`.
    """
    keys = field_keys(metadata_field)
    for meta in metas:
        value: Any = meta
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            yield value


def _type_name(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "long"
    return "float" if isinstance(value, float) else "keyword"


def fields_info(metas: Iterable[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """
    Name the type of each top-level field.

    :param metas: The documents' meta.
    :returns: Such as `{"year": {"type": "long"}}`, sorted by name. The types are `keyword` (also for lists, dicts and
        mixed types), `long`, `float` (also for a mix with `long`) and `boolean`. A field that is always `None` is left
        out.
    """
    types: dict[str, set[str]] = {}
    for meta in metas:
        for name, value in meta.items():
            if value is not None:
                types.setdefault(name, set()).add(_type_name(value))
    found = {}
    for name, names in sorted(types.items()):
        single = next(iter(names)) if len(names) == 1 else "float" if names == {"long", "float"} else "keyword"
        found[name] = {"type": single}
    return found


def min_max(values: Iterable[Any], *, metadata_field: str) -> dict[str, Any]:
    """
    Find the smallest and the largest value.

    :param values: The values of a field.
    :param metadata_field: The field's name, for the error text.
    :returns: `{"min": ..., "max": ...}`, both `None` without values.
    :raises ValueError: If the values have no common order.
    """
    every = list(values)
    try:
        return {"min": min(every, default=None), "max": max(every, default=None)}
    except TypeError as error:
        kinds = sorted({type(value).__name__ for value in every})
        msg = f"The values of the metadata field {metadata_field!r} have no common order: {', '.join(kinds)}."
        raise ValueError(msg) from error


def unique(values: Iterable[Any]) -> list[Any]:
    """
    Remove duplicates, but not values that are merely equal in Python, such as 1, 1.0 and True.

    :param values: The values of a field.
    :returns: The values, sorted by their text and then the name of their type.
    """
    distinct = {(str(value), type(value).__name__): value for value in values}
    return [distinct[key] for key in sorted(distinct)]
