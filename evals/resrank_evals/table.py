# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Results on the terminal, and as one CSV table for other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .boards import DEFAULT_MEASURE, Board, Cell, make_board, measures_of
from .report_costs import TOTAL, names, over
from .results import CollectionCard, SystemResult

if TYPE_CHECKING:
    from .judging import JudgedResult

WIDTH = 120  # characters; a wider leaderboard becomes one row per collection and system
MARKS = {1: "▲", -1: "▼", 0: " "}
NONE = "—"


def leaderboard(
    cards: Mapping[str, CollectionCard],
    results: Sequence[SystemResult],
    *,
    measure: str = DEFAULT_MEASURE,
    baseline: str | None = None,
    bounds: frozenset[str] = frozenset(),
) -> Table:
    """
    Systems by collections, with 95 % intervals and what differs significantly from the baseline.

    :param cards: collections by name; one may be missing.
    :param results: any.
    :param measure: one that the results have.
    :param baseline: a system; `None` for `bm25`, or the first one by name.
    :param bounds: systems that are neither ranked nor compared.
    :returns: a table; one row per collection and system when a column per collection would not fit.
    :raises ValueError: for an unknown measure or baseline, listing those that exist.
    """
    board = make_board(results, measure=measure, baseline=baseline, bounds=bounds)
    wide = _wide(board, cards)
    return wide if Console(width=10 * WIDTH).measure(wide).maximum <= WIDTH else _long(board, cards)


def costs(results: Sequence[SystemResult], title: str = "Cost per query") -> Table:
    """
    Time, tokens and memory of each system over its collections. The CSV has them one by one.

    :param results: any.
    :param title: of the table.
    :returns: one row per system.
    """
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.caption = (
        "Wall-clock milliseconds over all stages, medians over collections; tokens processed and generated, means. "
        "Memory: the most that the process took."
    )
    table.add_column("system", overflow="fold")
    for name in ("p50 ms", "p95 ms", "tokens", "generated", "memory MB"):
        table.add_column(name, justify="right", no_wrap=True)
    gpu = any(result.peak_gpu_memory_mb is not None for result in results)
    if gpu:
        table.add_column("GPU MB", justify="right", no_wrap=True)
    for system in sorted({result.system for result in results}):
        of = [result for result in results if result.system == system]
        times = [result.latency[TOTAL] for result in of if TOTAL in result.latency]
        row: list[str | Text] = [
            Text(system),
            f"{median(time.p50_ms for time in times):,.1f}" if times else NONE,
            f"{median(time.p95_ms for time in times):,.1f}" if times else NONE,
            _whole(over(fmean, (sum(result.tokens.values()) if result.tokens else None for result in of))),
            _whole(over(fmean, (result.generated_tokens for result in of))),
            _whole(over(max, (result.peak_memory_mb for result in of))),
        ]
        if gpu:
            row.append(_whole(over(max, (result.peak_gpu_memory_mb for result in of))))
        table.add_row(*row)
    return table


def judgments(results: Sequence[JudgedResult]) -> Table:
    """
    What a judge thinks.

    :param results: of one judge and budget, at least one.
    :returns: one row per collection and system.
    """
    first = results[0]
    table = Table(title=Text(f"{first.judge} on {first.budget} tokens"), title_justify="left", caption_justify="left")
    repeats = first.settings["repeats"]
    table.caption = (
        f"Mean ± standard deviation of {repeats} repeats; in brackets how many questions to the judge failed: "
        "the same command asks them again. "
        "A judge's opinion, not a measurement."
    )
    table.add_column("collection", overflow="fold")
    table.add_column("system", overflow="fold")
    for name in first.means:
        table.add_column(name, justify="right")
    for result in results:
        row = []
        for name, mean in result.means.items():
            spread, failed = result.spreads[name], result.failed[name]
            text = NONE if mean is None else f"{mean:.3f}" + ("" if spread is None else f" ± {spread:.3f}")
            row.append(Text(f"{text} ({failed})" if failed else text))
        table.add_row(Text(result.collection), Text(result.system), *row)
    return table


def results_csv(results: Sequence[SystemResult]) -> str:
    """
    All numbers as CSV.

    :param results: any.
    :returns: a header and one row per collection and system; a number that was not measured is empty.
    """
    measures = measures_of(results)
    ceilings = names(result.ceiling for result in results)
    stages = names(result.latency for result in results)
    kinds = names(result.tokens for result in results)
    header = ["collection", "system", "pool", "pool_depth", "queries", "missing_queries", *measures]
    header += [f"ceiling {measure}" for measure in ceilings]
    header += [f"{stage} {time}" for stage in stages for time in ("p50_ms", "p95_ms", "mean_ms")]
    header += [f"tokens {kind}" for kind in kinds]
    header += ["generated_tokens", "indexing_tokens", "peak_memory_mb", "peak_gpu_memory_mb", "seconds"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for result in sorted(results, key=lambda each: (each.collection, each.system)):
        row: list[Any] = [result.collection, result.system, result.pool, result.pool_depth]
        row += [len(result.per_query), result.missing_queries]
        row += [result.means.get(measure) for measure in measures]
        row += [result.ceiling.get(measure) for measure in ceilings]
        for stage in stages:
            times = result.latency.get(stage)
            row += [times.p50_ms, times.p95_ms, times.mean_ms] if times else [None, None, None]
        row += [result.tokens.get(kind) for kind in kinds]
        row += [result.generated_tokens, result.indexing_tokens, result.peak_memory_mb, result.peak_gpu_memory_mb]
        writer.writerow([*row, result.seconds])
    return text.getvalue()


def _wide(board: Board, cards: Mapping[str, CollectionCard]) -> Table:
    table = _titled(board)
    table.add_column("system", no_wrap=True)
    several = len(board.collections) > 1
    if several:
        table.add_column("mean", justify="right", no_wrap=True)
    for collection in board.collections:
        table.add_column(Text(f"{collection}\n{_queries(board, cards, collection)}"), justify="right", no_wrap=True)
    best = board.best_means
    for system in board.systems:
        mean = board.means[system]
        row = [Text(system)]
        if several:
            shown = NONE if mean is None else f"{mean:.3f}"
            row.append(Text(shown, style="bold" if system in best else ""))
        row += [_shown(board.cells.get((system, collection))) for collection in board.collections]
        table.add_row(*row)
    return table


def _long(board: Board, cards: Mapping[str, CollectionCard]) -> Table:
    """It fits into 80 columns with system names of 20 characters."""
    table = _titled(board)
    table.caption = Text(f"{table.caption}\ndiff: from {board.baseline}; w/t/l: queries won, tied and lost against it")
    table.add_column("system", overflow="fold")
    for name in (board.measure, "diff", "p", "w/t/l"):
        table.add_column(Text(name), justify="right", no_wrap=True)
    best = board.best_means
    if len(board.collections) > 1:
        table.add_row(Text("mean", style="bold"))
        for system in board.systems:
            mean = board.means[system]
            shown = Text(NONE if mean is None else f"{mean:.3f}", style="bold" if system in best else "")
            shown.append(" " * 16)
            table.add_row(Text(system), shown, end_section=system == board.systems[-1])
    for collection in board.collections:
        systems = [system for system in board.systems if (system, collection) in board.cells]
        table.add_row(Text(collection, style="bold"), Text(_queries(board, cards, collection), style="dim"))
        for number, system in enumerate(systems):
            cell = board.cells[system, collection]
            row: list[Text | str] = [Text(system), _shown(cell)]
            if found := cell.comparison:
                row += [f"{found.difference:+.3f}", f"{found.p_holm:.4f}"]
                row.append(f"{found.wins}/{found.ties}/{found.losses}")
            table.add_row(*row, end_section=number == len(systems) - 1)
    return table


def _titled(board: Board) -> Table:
    table = Table(title=Text(board.measure), title_justify="left", caption_justify="left")
    caption = f"[95 % interval]; ▲ better, ▼ worse than {board.baseline} (Holm-corrected p < 0.05); bold: best"
    if len(board.collections) > 1:
        caption += f"\nmean: macro average; {NONE} for a system that lacks a collection"
    if board.bounds:
        caption += f"\n{' and '.join(sorted(board.bounds))}: bounds, neither ranked nor compared"
    if any(not cell.comparable for cell in board.cells.values()):
        caption += "\n≠ measured on other queries than the rest: not compared"
    table.caption = Text(caption)
    return table


def _shown(cell: Cell | None) -> Text:
    if cell is None:
        return Text(NONE)
    mark = MARKS[cell.significant] if cell.comparable else "≠"
    text = Text(f"{cell.value:.3f}{mark}", style="bold" if cell.best else "")
    return text.append(f" [{cell.low:.3f}, {cell.high:.3f}]", style="not bold dim")


def _queries(board: Board, cards: Mapping[str, CollectionCard], collection: str) -> str:
    cells = [board.cells.get((system, collection)) for system in (board.baseline, *board.systems)]
    count = next((cell.queries for cell in cells if cell is not None and cell.comparable), 0)
    card = cards.get(collection)
    return f"{count:,} of {card.all_queries:,} queries" if card and card.all_queries > count else f"{count:,} queries"


def _whole(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}"
