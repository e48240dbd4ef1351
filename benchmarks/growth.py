# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""How the time of a rerank grows with the number of candidates."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from resrank import ResRank

from .candidates import synthetic
from .contestants import growing_models
from .outcome import Outcome
from .passages import QUERY
from .settings import Settings
from .timing import Task, take_turns

_WIDTH = 32


def run(settings: Settings) -> Outcome:
    """
    Measure.

    :param settings: of the run.
    :returns: times by attention and number of candidates.
    """
    counts = (10, 30, 100) if settings.quick else (10, 30, 100, 300, 1_000)
    models = growing_models(settings)
    tasks: dict[tuple[str, int], Task] = {}
    windows: dict[tuple[str, int], int] = {}
    for name, model in models.items():
        vector = model.encode_queries([QUERY])[0]
        for count in counts:
            pool = synthetic(QUERY, count, model.dimension)

            def rerank(model: ResRank = model, pool: Any = pool, vector: Any = vector) -> Any:
                return pool.rerank(model, QUERY, vector)

            windows[name, count] = _windows(model, rerank)
            tasks[name, count] = Task(rerank, calls=settings.pick(5, 2))
    timings = take_turns(tasks, rounds=settings.pick(5, 2))
    outcome = Outcome(
        title=f"Growth with the number of candidates: {settings.model_name} on {settings.device}",
        sizes={"candidates": list(counts), "query": QUERY},
        results={},
        notes=["candidates are random unit vectors with random evidence: only the time is of interest"],
    )
    if settings.twin is not None:
        outcome.notes.append("all weights are random")
    for name in models:
        table = Table(title=f"attention: {name}", title_justify="left")
        for column in ("candidates", "windows", "ms (best)", "µs a candidate"):
            table.add_column(column, justify="right")
        table.add_column("time")
        longest = max(timings[name, count].median_ms for count in counts)
        rows: dict[str, Any] = {}
        for count in counts:
            timing = timings[name, count]
            each = timing.median_ms * 1_000 / count
            rows[str(count)] = {**timing.to_dict(), "us_per_candidate": each, "windows": windows[name, count]}
            bar = "█" * max(1, round(_WIDTH * timing.median_ms / longest))
            shown = f"{timing.median_ms:,.1f} ({timing.best_ms:,.1f})"
            table.add_row(f"{count:,}", str(windows[name, count]), shown, f"{each:,.0f}", bar)
        outcome.results[name] = rows
        outcome.shown.append(table)
        windowed = [count for count in counts if windows[name, count] > 1]
        if windowed:
            reranker = models[name].reranker
            most = reranker.capacity(reranker.prompt(QUERY))
            outcome.notes.append(
                f"{name}: {most:,} candidates fit into one pass, so {windowed[0]:,} are ranked in windows"
            )
    return outcome


def _windows(model: ResRank, rerank: Any) -> int:
    seen: list[int] = []
    hook = model.reranker.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    try:
        rerank()
    finally:
        hook.remove()
    return sum(seen)
