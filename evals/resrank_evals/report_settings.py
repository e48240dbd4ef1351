# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Environments and settings for the report, and what keeps its numbers from being compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .results import SystemResult

_DATES = ("date", "time", "timestamp", "started", "finished")
_OF_COLLECTION = ("fingerprint", "collection", "source", "split", "queries", "passages")  # differ by collection anyway
_MODEL = "model"
_NOTHING = "none"


@dataclass(frozen=True)
class Setting:
    """
    Values that several results share.

    :param values: flat, by dotted name.
    :param results: system and collection of those that have them.
    """

    values: dict[str, str]
    results: list[tuple[str, str]]


@dataclass(frozen=True)
class SystemSettings:
    """
    How a system was set.

    :param system: its name.
    :param shared: what is the same on every collection, by dotted name.
    :param differing: what is not: name, then value by collection.
    """

    system: str
    shared: dict[str, str]
    differing: dict[str, dict[str, str]]


def environments(results: Sequence[SystemResult]) -> list[Setting]:
    """
    Where results were made, apart from the date.

    :param results: any.
    :returns: the different ones, that with most results first.
    """
    found: dict[tuple[tuple[str, str], ...], list[tuple[str, str]]] = {}
    for result in results:
        values = {key: value for key, value in flat(result.environment).items() if _last(key) not in _DATES}
        found.setdefault(tuple(sorted(values.items())), []).append((result.system, result.collection))
    ordered = sorted(found.items(), key=lambda each: -len(each[1]))
    return [Setting(dict(values), members) for values, members in ordered]


def settings(results: Sequence[SystemResult], systems: Sequence[str]) -> list[SystemSettings]:
    """
    Settings of each system.

    :param results: any.
    :param systems: in their order.
    :returns: one a system.
    """
    found = []
    for system in systems:
        own = {result.collection: flat(result.settings) for result in results if result.system == system}
        names = dict.fromkeys(name for values in own.values() for name in values)
        shared: dict[str, str] = {}
        differing: dict[str, dict[str, str]] = {}
        for name in names:
            values = {collection: row.get(name, "—") for collection, row in sorted(own.items())}
            if len(set(values.values())) == 1:
                shared[name] = next(iter(values.values()))
            else:
                differing[name] = values
        found.append(SystemSettings(system, shared, differing))
    return found


def dates(results: Sequence[SystemResult]) -> list[str]:
    """
    When results were made.

    :param results: any.
    :returns: first and last day, one when they are equal, none when it was not noted.
    """
    values = [flat(result.environment) for result in results]
    days = sorted({value[:10] for row in values for key, value in row.items() if _last(key) == "date"})
    return days[:1] if len(days) < 2 else [days[0], days[-1]]


def warnings(results: Sequence[SystemResult], found: Sequence[Setting]) -> list[str]:
    """
    What a reader must know before comparing numbers.

    :param results: any.
    :param found: the environments of the results.
    :returns: a sentence or two each.
    """
    texts = []
    if len(found) > 1:
        names = sorted({name for setting in found for name in setting.values})
        apart = [name for name in names if len({setting.values.get(name) for setting in found}) > 1]
        texts.append(
            f"These results come from {len(found)} different environments, which differ in {_listed(apart)}. "
            "Compare times and memory only within one environment."
        )
    differing: dict[tuple[str, ...], list[str]] = {}
    for each in settings(results, sorted({result.system for result in results})):
        names = [name for name in each.differing if not any(word in name.lower() for word in _OF_COLLECTION)]
        if names:
            differing.setdefault(tuple(names), []).append(each.system)
    for what, systems in differing.items():
        were = "was" if len(systems) == 1 else "were"
        texts.append(f"{_listed(systems)} {were} set differently on different collections: {_listed(what)}.")
    models: dict[str, list[str]] = {}
    for result in results:
        for name, value in (*flat(result.settings).items(), *flat(result.environment).items()):
            if (_last(name) == _MODEL or name.endswith(f"{_MODEL}.name")) and value != _NOTHING:
                models.setdefault(value, []).append(result.system)
    if len(models) > 1:
        used = "; ".join(f"{model} ({_listed(sorted(set(systems)))})" for model, systems in sorted(models.items()))
        texts.append(f"The systems use different models: {used}.")
    texts.extend(_query_warnings(results))
    texts.extend(_passage_warnings(results))
    return texts


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """
    Nested values as texts by dotted name.

    :param values: plain JSON values.
    :param prefix: of the names.
    :returns: in the same order.
    """
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found.update(flat(value, f"{prefix}{key}."))
        elif isinstance(value, list | tuple):
            found[f"{prefix}{key}"] = ", ".join(map(str, value)) or _NOTHING
        else:
            found[f"{prefix}{key}"] = _NOTHING if value in (None, {}) else str(value)
    return found


def _query_warnings(results: Sequence[SystemResult]) -> list[str]:
    texts = []
    for collection in sorted({result.collection for result in results}):
        own = [result for result in results if result.collection == collection]
        if len({frozenset(result.per_query) for result in own}) > 1:
            texts.append(
                f"Not all systems were measured on the same queries of {collection}; "
                "a value marked ≠ is not compared with the others."
            )
    missing: dict[str, list[str]] = {}
    for result in results:
        if result.missing_queries:
            share = f"{result.missing_queries:,} of {len(result.per_query):,} of {result.collection}"
            missing.setdefault(result.system, []).append(share)
    for system, shares in missing.items():
        texts.append(f"{system} gave nothing for some queries, which count as 0: {_listed(shares)}.")
    return texts


def _passage_warnings(results: Sequence[SystemResult]) -> list[str]:
    texts = []
    for what, then in (
        ("truncated", "longer than the encoder reads and were cut"),
        ("blank", "blank and were left out"),
    ):
        counts = {result.collection: getattr(result, f"{what}_passages") or 0 for result in results}
        shares = [f"{count:,} of {collection}" for collection, count in sorted(counts.items()) if count]
        if shares:
            texts.append(f"Some passages were {then}: {_listed(shares)}.")
    return texts


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:6])
    if len(names) > 6:
        return f"{', '.join(shown)} and {len(names) - 6} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def _last(name: str) -> str:
    return name.rsplit(".", 1)[-1].lower()
