# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The `resrank-eval` command."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from resrank_pipelines.command import AsJson, Device, Dtype, Model, command, make_app

if TYPE_CHECKING:
    from .results import CollectionCard, SystemResult

DEFAULT_OUT = ".resrank/results"
DEFAULT_STORES = ".resrank/eval-stores"
DEFAULT_SYSTEMS = ("bm25", "dense", "rrf", "resrank")
REPORT = "report.html"
_EVERY_S = 5.0  # without a terminal each is a line

app = make_app("resrank-eval", "Measure rankings: is it better on your data, and what does it cost?")

Results = Annotated[Path, typer.Option("--out", help="Results folder; what is there already is kept.")]
Measure = Annotated[str, typer.Option("--measure", help="The measure that tables and report show first.")]
Baseline = Annotated[
    str | None,
    typer.Option("--baseline", help="System that the others are compared with; default: bm25, else the first."),
]


@app.command()
@command
def ir(
    data: Annotated[
        list[str],
        typer.Argument(
            help="Collections: a BEIR folder, a folder of such folders, irds:ID, dl19, dl20, beir8, or "
            "trec:topics=FILE,qrels=FILE[,corpus=FILE][,name=NAME]. Default: the folder in RESRANK_DATA.",
            show_default=False,
        ),
    ] = [],  # noqa: B006 - typer needs a list
    *,
    system: Annotated[
        list[str],
        typer.Option(
            "--system",
            "-s",
            help="bm25, dense, rrf, resrank[:pool=bm25|dense|rrf,evidence=on|off,attention=causal|order_free,"
            "order=given|shuffled,model=…], cross-encoder:MODEL[,pool=…], pe-rank:MODEL[,pool=…,window=20|none], "
            "e2rank:MODEL[,pool=…,k=20], run:FILE, or a pipeline's FILE.yaml. Give it several times.",
            show_default=", ".join(DEFAULT_SYSTEMS),
        ),
    ] = list(DEFAULT_SYSTEMS),  # noqa: B006
    out: Results = Path(DEFAULT_OUT),
    stores: Annotated[Path, typer.Option("--stores", help="Where collections are indexed, once a model.")] = Path(
        DEFAULT_STORES
    ),
    queries: Annotated[
        int | None, typer.Option("--queries", min=1, help="Seeded sample of queries a collection; default: all.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of samples and shuffles.")] = 0,
    depth: Annotated[int, typer.Option("--depth", min=1, help="Candidates a query.")] = 100,
    split: Annotated[
        str | None, typer.Option("--split", help="Of the qrels; default: test, else dev, else the only one.")
    ] = None,
    measures: Annotated[
        str, typer.Option("--measures", help="Comma-separated names of ir_measures.")
    ] = "nDCG@10,RR@10,R@100,AP,P@1",
    measure: Measure = "nDCG@10",
    baseline: Baseline = None,
    model: Model = "resrank-mini",
    device: Device = None,
    dtype: Dtype = "auto",
    missing_passages: Annotated[
        Literal["error", "keep"],
        typer.Option("--missing-passages", help="Judgments of passages that a collection lacks."),
    ] = "error",
    duplicate_ids: Annotated[
        Literal["error", "first"],
        typer.Option("--duplicate-ids", help="Different passages or queries under one id: stop, or read the first."),
    ] = "error",
    as_json: AsJson = False,
) -> int:
    """
    Measure systems on test collections. A killed run goes on where it stopped.
    """
    from haystack_integrations.common.resrank import ResRankModel
    from resrank_pipelines.display import err, print_json, progress_display
    from resrank_pipelines.display import out as screen

    from .harness import Settings, run
    from .loading import collection_sources
    from .systems import parse_system

    systems = [parse_system(name) for name in system]
    specs = data or [os.environ.get("RESRANK_DATA", "")]
    if not any(specs):
        msg = "name a collection, e.g. a BEIR folder, or set RESRANK_DATA to a folder of them (docs/data.md)"
        raise ValueError(msg)
    sources = [
        source
        for spec in specs
        for source in collection_sources(
            spec, split=split, missing_passages=missing_passages, duplicate_ids=duplicate_ids
        )
    ]
    settings = Settings(
        out=out,
        stores=stores,
        model=ResRankModel(model, device=device, dtype=dtype),
        depth=depth,
        queries=queries,
        seed=seed,
        measures=tuple(name.strip() for name in measures.split(",") if name.strip()),
    )
    if measure not in settings.measures:
        msg = f"--measure must be one of {', '.join(settings.measures)}, got {measure!r}"
        raise ValueError(msg)
    if baseline is not None and baseline not in {each.name for each in systems} | _stored_systems(out):
        msg = f"--baseline must be one of this run's systems or of those in {out}, got {baseline!r}"
        raise ValueError(msg)
    made: set[tuple[str, str]] = set()
    kept = 0
    told: set[str] = set()
    try:
        with progress_display(keep=False) as progress:
            for outcome in run(sources, systems, settings, _seldom(progress)):
                result = outcome.result
                made.add((result.collection, result.system))
                kept += outcome.kept
                if not outcome.kept and not as_json:
                    value = result.means[measure]
                    err.print(f"{result.collection}: {result.system}: {measure} {value:.4f}", style="dim")
                if result.collection not in told and (result.truncated_passages or result.blank_passages):
                    told.add(result.collection)
                    err.print(
                        f"{result.collection}: {result.truncated_passages} passages are longer than the model reads "
                        f"and were cut, {result.blank_passages} are blank and were left out"
                    )
    finally:
        # Also when it was interrupted: what is shown is what is there.
        if made:
            cards, every = _publish(out, out / REPORT, measure, baseline)
    collections = {collection for collection, _ in made}
    shown = [result for result in every if result.collection in collections]
    if as_json:
        of_run = [result for result in shown if (result.collection, result.system) in made]
        print_json({"results": [_summary(result) for result in of_run], "report": str(out / REPORT)})
    else:
        _show(cards, shown, measure, baseline)
        if kept:
            screen.print(f"{kept} of {len(made)} results were there already and were kept.")
        screen.print(f"Report: [cyan]{out / REPORT}[/]; runs, JSON and CSV beside it.", soft_wrap=True)
    return 0


@app.command()
@command
def report(
    results: Annotated[Path, typer.Argument(help="A results folder.")] = Path(DEFAULT_OUT),
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="The HTML file.", show_default=f"{REPORT} in the results folder")
    ] = None,
    measure: Measure = "nDCG@10",
    baseline: Baseline = None,
    as_json: AsJson = False,
) -> int:
    """
    Show stored results, and write them as one HTML file that needs nothing else.
    """
    from resrank_pipelines.display import out as screen
    from resrank_pipelines.display import print_json

    page = out if out is not None else results / REPORT
    cards, every = _publish(results, page, measure, baseline)
    if as_json:
        print_json({"results": [_summary(result) for result in every], "report": str(page)})
        return 0
    _show(cards, every, measure, baseline)
    screen.print(f"Report: [cyan]{page}[/]", soft_wrap=True)
    return 0


def main() -> None:
    """
    Entry point of the installed command.
    """
    app()


def _publish(
    results: Path, page: Path, measure: str, baseline: str | None
) -> tuple[dict[str, CollectionCard], list[SystemResult]]:
    """Read a results folder and write its CSV and its report."""
    from .report import render_report, save_report
    from .results import read_results, write_whole
    from .table import results_csv

    cards, every = read_results(results)
    write_whole(results / "results.csv", results_csv(every))
    save_report(render_report(cards, every, measure=measure, baseline=baseline), page)
    return cards, every


def _stored_systems(results: Path) -> set[str]:
    from .results import read_results

    return (
        {result.system for result in read_results(results)[1]} if results.is_dir() and any(results.iterdir()) else set()
    )


def _seldom(progress: Callable[[str, int, int], None]) -> Callable[[str, int, int], None]:
    """Every few seconds, and when something is done: thousands of queries take milliseconds each."""
    last: dict[str, float] = {}

    def told(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total or now - last.get(what, -math.inf) >= _EVERY_S:
            last[what] = now
            progress(what, done, total)

    return told


def _show(cards: dict[str, CollectionCard], results: list[SystemResult], measure: str, baseline: str | None) -> None:
    from resrank_pipelines.display import out as screen

    from .table import costs, leaderboard

    screen.print(leaderboard(cards, results, measure=measure, baseline=baseline))
    screen.print(costs(results))


def _summary(result: SystemResult) -> dict[str, Any]:
    """A result without its values query by query, which are in its file."""
    from dataclasses import asdict

    return {name: value for name, value in asdict(result).items() if name not in ("per_query", "environment")}
