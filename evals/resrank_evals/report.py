# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Results as one HTML file that needs nothing else: no network, no second file.

Every text of the results is untrusted: the template escapes what it writes, and the data for the page's script is JSON
in which no character can end the script element.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from . import report_answers, report_costs, report_settings
from .answer_results import BOUNDS, AnswerResult, read_all_answers
from .boards import (
    DEFAULT_MEASURE,
    LEVEL,
    Board,
    check_baseline,
    check_measure,
    make_board,
    measures_of,
    query_values,
)
from .judging import JudgedResult, read_all_judged
from .present import present
from .report_charts import Spot, scatter
from .results import CollectionCard, SystemResult, read_results, write_whole
from .statistics import SAMPLES

TEMPLATES = Path(__file__).parent / "report"
MINUS = "\N{MINUS SIGN}"
NONE = "—"

_TEST_BUDGET = 500_000  # values of measures beside the first that are tested and get the full bootstrap: a minute
_FEWER_SAMPLES = 1_000
_PAGE_BUDGET = 3_000_000  # values in the page: some 15 MB

_MEASURES = {
    "nDCG": "how good the order of the first {k} passages is, between 0 and 1: a relevant passage counts the more the "
    "higher its grade and the nearer it is to the top, and 1 is the best order there is",
    "RR": "1 divided by the rank of the first relevant passage, 0 when there is none among the first {k}",
    "R": "the share of all relevant passages that are among the first {k}",
    "P": "the share of relevant passages among the first {k}",
    "AP": "average precision: the mean, over relevant passages, of the share of relevant ones down to there",
    "Success": "1 when there is a relevant passage among the first {k}, else 0",
}


def write_report(results: Path, out: Path, *, measure: str = DEFAULT_MEASURE, baseline: str | None = None) -> Path:
    """
    Write the report of a results folder.

    :param results: the results folder.
    :param out: the HTML file; its folder is made when it is missing.
    :param measure: shown first, and without a script the only one.
    :param baseline: the system that others are compared with; `None` for `bm25`, or the first one by name.
    :returns: the file.
    :raises FileNotFoundError: when the folder holds no result.
    :raises ValueError: for an unknown measure or baseline, listing those that exist, and for a damaged file.
    """
    cards, every = read_results(results)
    of = present(results, cards, read_all_answers(results), read_all_judged(results))
    text = render_report(cards, every, of.answers, of.judged, measure=measure, baseline=baseline, left_out=of.left_out)
    return save_report(text, out)


def save_report(text: str, out: Path) -> Path:
    """
    Write a report that was made.

    :param text: the HTML document.
    :param out: the HTML file; its folder is made when it is missing.
    :returns: the file.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, text)
    out.chmod(0o644)
    return out


def render_report(
    cards: Mapping[str, CollectionCard],
    results: Sequence[SystemResult],
    answers: Sequence[AnswerResult] = (),
    judged: Sequence[JudgedResult] = (),
    *,
    measure: str = DEFAULT_MEASURE,
    baseline: str | None = None,
    left_out: Sequence[str] = (),
) -> str:
    """
    Make the report.

    :param cards: collections by name; one may be missing, then query ids stand for query texts.
    :param results: at least one.
    :param answers: from their rankings; none leaves the section out.
    :param judged: what judges think of the answers.
    :param measure: shown first, and without a script the only one.
    :param baseline: the system that others are compared with; `None` for `bm25`, or the first one by name.
    :param left_out: what the folder holds and the report does not show, a sentence or two each.
    :returns: an HTML document.
    :raises ValueError: for an unknown measure or baseline, listing those that exist.
    """
    baseline = check_baseline(results, baseline)
    check_measure(results, measure)
    measures = [measure, *(other for other in measures_of(results) if other != measure)]
    boards = [_board(results, each, baseline, first=each == measure) for each in measures]
    systems = boards[0].systems
    names = boards[0].collections
    blocks, shown = _query_blocks(cards, results, names, systems, measures)
    index = {
        "systems": systems,
        "measures": [each for each in measures if each in shown],
        "collections": names,
        "baseline": systems.index(baseline),
    }
    environments = report_settings.environments(results)
    read = report_answers.sections(cards, answers, judged, _answer_board(baseline))
    text = (
        _environment()
        .get_template("report.html.jinja")
        .render(
            boards=boards,
            views={board.measure: _view(board, results, environments) for board in boards},
            measure=measure,
            measures=measures,
            baseline=baseline,
            systems=systems,
            collections=[_collection(cards, results, name) for name in names],
            queries=sum(_query_count(results, name) for name in names),
            dates=report_settings.dates(results),
            cost_summary=report_costs.summary(results, systems),
            cost_tables=[report_costs.table(results, name, systems) for name in names],
            environments=environments,
            settings=report_settings.settings(results, systems),
            warnings=[*report_settings.warnings(results, environments), *left_out],
            index=index,
            blocks=blocks,
            answers=read,
            answer_index=[
                {
                    "collections": section.collections,
                    "systems": section.systems,
                    "baseline": section.systems.index(section.baseline),
                    "budgets": section.shown_budgets,
                }
                for section in read
            ],
            answer_kinds=report_answers.KINDS,
            bounds=BOUNDS,
            level=LEVEL,
            all_samples=SAMPLES,
        )
    )
    return text.encode("utf-8", "replace").decode("utf-8")


def describe(measure: str) -> str:
    """
    A measure in plain words.

    :param measure: e.g. `nDCG@10`.
    :returns: what it says, without a full stop; empty for an unknown one.
    """
    found = re.fullmatch(r"(\w+)(?:\([^)]*\))?(?:@(\d+))?", measure)
    words = _MEASURES.get(found[1], "") if found else ""
    return words.format(k=found[2] if found and found[2] else "passages returned")


def signed(value: float) -> str:
    """
    A difference.

    :param value: any number.
    :returns: three digits with a sign.
    """
    text = f"{value:+.3f}"
    return text.replace("-", MINUS) if float(text) else "0.000"


def number(value: float | None, digits: int = 0) -> str:
    """
    A count, an amount or a time.

    :param value: `None` for not measured.
    :param digits: after the point.
    :returns: the number with thousands separated, or a dash.
    """
    return NONE if value is None else f"{value:,.{digits}f}"


def breakable(name: str) -> Markup:
    """
    A name that a browser may break after punctuation rather than within a word.

    :param name: of a system or collection.
    :returns: escaped HTML.
    """
    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[(,=+:/_-])(?=.)", name))


def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(signed=signed, number=number, describe=describe, ms=report_costs.ms, breakable=breakable)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment


def _board(
    results: Sequence[SystemResult],
    measure: str,
    baseline: str | None,
    *,
    first: bool,
    bounds: frozenset[str] = frozenset(),
) -> Board:
    amount = sum(len(result.per_query) * (len(result.means) - 1) for result in results)
    if first or amount <= _TEST_BUDGET:
        return make_board(results, measure=measure, baseline=baseline, bounds=bounds)
    return make_board(results, measure=measure, baseline=baseline, samples=_FEWER_SAMPLES, tested=False, bounds=bounds)


def _answer_board(baseline: str) -> report_answers.MakeBoard:
    def made(results: Sequence[SystemResult], measure: str, first: bool) -> Board:
        own = baseline if any(result.system == baseline for result in results) else None
        return _board(results, measure, own, first=first, bounds=BOUNDS)

    return made


def _view(
    board: Board, results: Sequence[SystemResult], environments: Sequence[report_settings.Setting]
) -> dict[str, Any]:
    spots, left_out = _spots(board, results, environments)
    return {
        "scatter": scatter(spots) if spots else None,
        "names": [spot.name for spot in spots],
        "left_out": left_out,
        "ceilings": _ceilings(board, results),
    }


def _spots(
    board: Board, results: Sequence[SystemResult], environments: Sequence[report_settings.Setting]
) -> tuple[list[Spot], list[tuple[str, str]]]:
    usual = set(environments[0].results) if environments else set()
    spots: list[Spot] = []
    left_out: list[tuple[str, str]] = []
    for system in board.systems:
        own = [result for result in results if result.system == system]
        times = [result.latency["total"].p50_ms for result in own if "total" in result.latency]
        mean = board.means[system]
        if mean is None:
            absent = board.absent(system)
            shown = ", ".join(absent[:3]) + (f" and {len(absent) - 3} more" if len(absent) > 3 else "")
            left_out.append((system, f"no comparable result on {shown}"))
        elif len(times) < len(own) or min(times) <= 0:
            left_out.append((system, "its time was not measured"))
        else:
            other = any((result.system, result.collection) not in usual for result in own)
            spots.append(Spot(system, statistics.median(times), mean, other))
    return spots, left_out


def _ceilings(board: Board, results: Sequence[SystemResult]) -> list[dict[str, Any]]:
    pools: dict[tuple[str, int | None], list[SystemResult]] = {}
    for result in results:
        if result.pool is not None and board.measure in result.ceiling and board.measure in result.means:
            pools.setdefault((result.pool, result.pool_depth), []).append(result)
    found = []
    for (pool, depth), members in sorted(pools.items(), key=lambda each: (each[0][0], each[0][1] or 0)):
        rows: dict[tuple[str, float], dict[str, SystemResult]] = {}
        for result in sorted(members, key=lambda each: each.collection):
            key = result.collection, round(result.ceiling[board.measure], 6)
            rows.setdefault(key, {})[result.system] = result
        for (collection, _), row in rows.items():
            queries = set(next(iter(row.values())).per_query)
            for result in results:
                if (result.system, result.collection) == (pool, collection) and set(result.per_query) == queries:
                    row.setdefault(pool, result)
        systems = [name for name in board.systems if any(name in row for row in rows.values()) and name != pool]
        columns = [pool, *systems] if any(pool in row for row in rows.values()) else systems
        found.append(
            {
                "pool": pool,
                "depth": depth,
                "systems": columns,
                "rows": [
                    {
                        "collection": collection,
                        "ceiling": ceiling,
                        "values": [row[name].means.get(board.measure) if name in row else None for name in columns],
                    }
                    for (collection, ceiling), row in rows.items()
                ],
            }
        )
    return found


def _query_blocks(
    cards: Mapping[str, CollectionCard],
    results: Sequence[SystemResult],
    collections: Sequence[str],
    systems: Sequence[str],
    measures: Sequence[str],
) -> tuple[list[dict[str, Any]], set[str]]:
    """Data of the query table: values are ten-thousandths, queries are written once for each collection."""
    blocks: list[dict[str, Any]] = []
    for name in collections:
        texts = dict(cards[name].queries) if name in cards else {}
        evaluated = [query for result in results if result.collection == name for query in result.per_query]
        queries = {query: texts.get(query, "") for query in dict.fromkeys(evaluated)}
        blocks.append({"queries": [[query, text] for query, text in queries.items()], "values": {}})
    shown: set[str] = set()
    amount = 0
    for measure in measures:
        values = {name: query_values(results, name, measure) for name in collections}
        amount += sum(len(row) for rows in values.values() for row in rows.values())
        if shown and amount > _PAGE_BUDGET:
            break
        for name, block in zip(collections, blocks, strict=True):
            block["values"][measure] = {
                systems.index(system): [
                    round(row[query] * 10_000) if query in row else None for query, _ in block["queries"]
                ]
                for system, row in values[name].items()
            }
        shown.add(measure)
    return blocks, shown


def _collection(cards: Mapping[str, CollectionCard], results: Sequence[SystemResult], name: str) -> dict[str, Any]:
    card = cards.get(name)
    return {
        "name": name,
        "evaluated": _query_count(results, name),
        "card": card,
        "relevant": statistics.mean(card.relevant.values()) if card and card.relevant else None,
    }


def _query_count(results: Sequence[SystemResult], collection: str) -> int:
    return len({query for result in results if result.collection == collection for query in result.per_query})
