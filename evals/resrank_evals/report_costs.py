# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Time, tokens and memory for the report."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .results import Latency, SystemResult

TOTAL = "total"


@dataclass(frozen=True)
class CostRow:
    """
    What one system costs.

    :param system: its name.
    :param times: one a stage of the table; `None` where the system has no such stage.
    :param tokens: one a kind of the table; `None` where the system has no such tokens.
    :param generated: tokens generated a query.
    :param indexing: tokens encoded once for the collection.
    :param memory_mb: most resident memory.
    :param gpu_memory_mb: most GPU memory.
    """

    system: str
    times: list[Latency | None]
    tokens: list[float | None]
    generated: float | None
    indexing: float | None
    memory_mb: float | None
    gpu_memory_mb: float | None


@dataclass(frozen=True)
class CostTable:
    """
    Systems by costs.

    :param collection: its name; empty for a summary.
    :param stages: names of the time columns.
    :param kinds: names of the token columns.
    :param rows: one a system.
    """

    collection: str
    stages: list[str]
    kinds: list[str]
    rows: list[CostRow]


def summary(results: Sequence[SystemResult], systems: Sequence[str]) -> CostTable:
    """
    Costs over all collections.

    :param results: any.
    :param systems: in the order of the rows.
    :returns: median of the medians and of the 95th percentiles of the total time, mean tokens, most memory.
    """
    kinds = names(result.tokens for result in results)
    rows = []
    for system in systems:
        own = [result for result in results if result.system == system]
        totals = [result.latency[TOTAL] for result in own if TOTAL in result.latency]
        time = (
            Latency(
                *(
                    statistics.median(getattr(total, name) for total in totals)
                    for name in ("p50_ms", "p95_ms", "mean_ms")
                )
            )
            if totals
            else None
        )
        rows.append(
            CostRow(
                system,
                [time],
                [over(statistics.mean, (result.tokens.get(kind) for result in own)) for kind in kinds],
                over(statistics.mean, (result.generated_tokens for result in own)),
                over(sum, (result.indexing_tokens for result in own)),
                over(max, (result.peak_memory_mb for result in own)),
                over(max, (result.peak_gpu_memory_mb for result in own)),
            )
        )
    return CostTable("", [TOTAL], kinds, rows)


def table(results: Sequence[SystemResult], collection: str, systems: Sequence[str]) -> CostTable:
    """
    Costs on one collection, stage by stage.

    :param results: any.
    :param collection: its name.
    :param systems: in the order of the rows; those without a result are left out.
    :returns: the table; the total comes first, then stages in their order.
    """
    found = {result.system: result for result in results if result.collection == collection}
    own = [found[system] for system in systems if system in found]
    stages = sorted(names(result.latency for result in own), key=lambda stage: stage != TOTAL)
    kinds = names(result.tokens for result in own)
    rows = [
        CostRow(
            result.system,
            [result.latency.get(stage) for stage in stages],
            [result.tokens.get(kind) for kind in kinds],
            result.generated_tokens,
            result.indexing_tokens,
            result.peak_memory_mb,
            result.peak_gpu_memory_mb,
        )
        for result in own
    ]
    return CostTable(collection, stages, kinds, rows)


def ms(value: float) -> str:
    """
    A time.

    :param value: milliseconds.
    :returns: three significant digits, or whole milliseconds when there are more.
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def over(function: Callable[[list[float]], float], values: Iterable[float | None]) -> float | None:
    """
    Reduce what was measured.

    :param function: e.g. `max`.
    :param values: `None` where it was not measured.
    :returns: of the known values; `None` when there is none.
    """
    known = [value for value in values if value is not None]
    return function(known) if known else None


def names(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """
    All keys.

    :param mappings: any.
    :returns: each once, in their order.
    """
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))
