# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What the commands of `resrank-eval` do alike: options, collections, and what they publish of a results folder."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from .answer_results import AnswerResult
    from .judging import JudgedResult
    from .lines import DuplicateIds, MissingPassages
    from .loading import CollectionSource
    from .results import CollectionCard, SystemResult

DEFAULT_OUT = ".resrank/results"
DEFAULT_STORES = ".resrank/eval-stores"
DEFAULT_SYSTEMS = ("bm25", "dense", "rrf", "resrank")
REPORT = "report.html"
SYSTEMS_HELP = (
    "bm25, dense, rrf, resrank[:pool=bm25|dense|rrf,evidence=on|off,attention=causal|order_free,"
    "order=given|shuffled,model=…], cross-encoder:MODEL[,pool=…,depth=all], "
    "pe-rank:MODEL[,pool=…,depth=all,window=20|none], "
    "e2rank:MODEL[,pool=…,depth=all,k=20,length=1024,prompt=length,query=none], "
    "run:FILE, or a pipeline's FILE.yaml. Give it several times."
)
_EVERY_S = 5.0  # without a terminal each is a line

Systems = Annotated[
    list[str], typer.Option("--system", "-s", help=SYSTEMS_HELP, show_default=", ".join(DEFAULT_SYSTEMS))
]
Results = Annotated[Path, typer.Option("--out", help="Results folder; what is there already is kept.")]
Stores = Annotated[Path, typer.Option("--stores", help="Where collections are indexed, once a model.")]
Queries = Annotated[
    int | None, typer.Option("--queries", min=1, help="Seeded sample of queries a collection; default: all.")
]
Seed = Annotated[int, typer.Option("--seed", help="Of samples and shuffles.")]
Depth = Annotated[int, typer.Option("--depth", min=1, help="Candidates a query.")]
Split = Annotated[str | None, typer.Option("--split", help="Of the qrels; default: test, else dev, else the only one.")]
Baseline = Annotated[
    str | None,
    typer.Option("--baseline", help="System that the others are compared with; default: bm25, else the first."),
]
Duplicates = Annotated[
    Literal["error", "first"],
    typer.Option("--duplicate-ids", help="Different passages or queries under one id: stop, or read the first."),
]

Missing = Annotated[
    Literal["error", "keep"],
    typer.Option("--missing-passages", help="Judgments of passages that a collection lacks."),
]


def named_sources(
    data: Sequence[str],
    *,
    split: str | None,
    duplicate_ids: DuplicateIds,
    missing_passages: MissingPassages = "error",
) -> list[CollectionSource]:
    """
    Find the collections that a user names.

    :param data: as `collection_sources` takes them; none means the folder in RESRANK_DATA.
    :param split: of the qrels.
    :param duplicate_ids: as `load_beir`.
    :param missing_passages: likewise.
    :returns: the collections, not read yet.
    :raises ValueError: when there are none.
    """
    from .loading import collection_sources

    specs = list(data) or [os.environ.get("RESRANK_DATA", "")]
    if not any(specs):
        msg = "name a collection, e.g. a BEIR folder, or set RESRANK_DATA to a folder of them (docs/data.md)"
        raise ValueError(msg)
    return [
        source
        for spec in specs
        for source in collection_sources(
            spec, split=split, missing_passages=missing_passages, duplicate_ids=duplicate_ids
        )
    ]


def seldom(progress: Callable[[str, int, int], None]) -> Callable[[str, int, int], None]:
    """
    Tell progress every few seconds, and when something is done: thousands of queries take milliseconds each.

    :param progress: is told (what, done, total).
    :returns: what takes the same.
    """
    last: dict[str, float] = {}

    def told(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total or now - last.get(what, -math.inf) >= _EVERY_S:
            last[what] = now
            progress(what, done, total)

    return told


def publish(
    results: Path, page: Path, measure: str | None, baseline: str | None
) -> tuple[dict[str, CollectionCard], list[SystemResult], list[AnswerResult]]:
    """
    Read a results folder and write its CSV files and its report.

    :param results: the results folder.
    :param page: the HTML file.
    :param measure: that the report shows first; `None` for nDCG@10, or the first there is.
    :param baseline: of its comparisons.
    :returns: what was read: collections by name, rankings, and the answers that belong to them; others are named on
        stderr.
    """
    from resrank_pipelines.display import err

    from .answer_results import by_reader, read_all_answers
    from .boards import DEFAULT_MEASURE, measures_of
    from .judging import read_all_judged
    from .present import present
    from .report import render_report, save_report
    from .results import folder_name, read_results, write_whole
    from .table import results_csv

    cards, every = read_results(results)
    if measure is None:
        known = measures_of(every)
        measure = DEFAULT_MEASURE if DEFAULT_MEASURE in known else known[0]
    stored = read_all_answers(results)
    found = present(results, cards, stored, read_all_judged(results))
    for text in found.left_out:
        err.print(text, markup=False)
    write_whole(results / "results.csv", results_csv(every))
    current = by_reader(found.answers)
    for reader in by_reader(stored):
        table = results_csv([result.as_system_result() for result in current.get(reader, [])])
        write_whole(results / f"answers-{folder_name(reader)}.csv", table)
    text = render_report(
        cards, every, found.answers, found.judged, measure=measure, baseline=baseline, left_out=found.left_out
    )
    save_report(text, page)
    return cards, every, found.answers


def stored_systems(results: Path) -> set[str]:
    """
    Look up what a results folder holds.

    :param results: the folder; may be missing.
    :returns: names of systems.
    """
    from .results import read_results

    return (
        {result.system for result in read_results(results)[1]} if results.is_dir() and any(results.iterdir()) else set()
    )


def answered_systems(results: Path, reader: dict[str, Any], collections: Collection[str], budget: int) -> set[str]:
    """
    Look up whose answers can stand beside new ones.

    :param results: the results folder; may be missing.
    :param reader: what decides the answers.
    :param collections: names.
    :param budget: in tokens.
    :returns: names of systems.
    """
    from .answer_results import read_all_answers
    from .present import present
    from .results import COLLECTION, read_collection

    cards = [read_collection(path) for path in results.glob(f"*/{COLLECTION}")]
    found = present(results, {card.name: card for card in cards}, read_all_answers(results)).answers
    return {
        result.system
        for result in found
        if result.settings.get("reader") == reader and result.collection in collections and budget in result.budgets
    }


def summary(result: SystemResult | AnswerResult | JudgedResult) -> dict[str, Any]:
    """
    A result without its values query by query, which are in its file.

    :param result: of rankings, of answers or of a judge.
    :returns: plain values.
    """
    left_out = ("per_query", "answers", "environment")
    return {name: value for name, value in asdict(result).items() if name not in left_out}
