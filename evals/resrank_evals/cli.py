# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The `resrank-eval` command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resrank_pipelines.command import AsJson, Device, Dtype, Model, command, make_app

from .command_line import (
    DEFAULT_OUT,
    DEFAULT_STORES,
    DEFAULT_SYSTEMS,
    REPORT,
    Baseline,
    Depth,
    Duplicates,
    Missing,
    Queries,
    Results,
    Seed,
    Split,
    Stores,
    Systems,
    named_sources,
    publish,
    seldom,
    stored_systems,
    summary,
)
from .rag_command import rag

if TYPE_CHECKING:
    from .results import CollectionCard, SystemResult

app = make_app("resrank-eval", "Measure rankings: is it better on your data, and what does it cost?")

Measure = Annotated[str, typer.Option("--measure", help="The measure that tables and report show first.")]


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
    system: Systems = list(DEFAULT_SYSTEMS),  # noqa: B006
    out: Results = Path(DEFAULT_OUT),
    stores: Stores = Path(DEFAULT_STORES),
    queries: Queries = None,
    seed: Seed = 0,
    depth: Depth = 100,
    split: Split = None,
    measures: Annotated[
        str, typer.Option("--measures", help="Comma-separated names of ir_measures.")
    ] = "nDCG@10,RR@10,R@100,AP,P@1",
    measure: Measure = "nDCG@10",
    baseline: Baseline = None,
    model: Model = "resrank-mini",
    device: Device = None,
    dtype: Dtype = "auto",
    missing_passages: Missing = "error",
    duplicate_ids: Duplicates = "error",
    as_json: AsJson = False,
) -> int:
    """
    Measure systems on test collections. A killed run goes on where it stopped.
    """
    from haystack_integrations.common.resrank import ResRankModel
    from resrank_pipelines.display import err, print_json, progress_display
    from resrank_pipelines.display import out as screen

    from .harness import Settings, run
    from .systems import parse_system

    systems = [parse_system(name) for name in system]
    sources = named_sources(data, split=split, duplicate_ids=duplicate_ids, missing_passages=missing_passages)
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
    if baseline is not None and baseline not in {each.name for each in systems} | stored_systems(out):
        msg = f"--baseline must be one of this run's systems or of those in {out}, got {baseline!r}"
        raise ValueError(msg)
    made: set[tuple[str, str]] = set()
    kept = 0
    told: set[str] = set()
    try:
        with progress_display(keep=False) as progress:
            for outcome in run(sources, systems, settings, seldom(progress)):
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
            cards, every, _ = publish(out, out / REPORT, measure, baseline)
    collections = {collection for collection, _ in made}
    shown = [result for result in every if result.collection in collections]
    if as_json:
        of_run = [result for result in shown if (result.collection, result.system) in made]
        print_json({"results": [summary(result) for result in of_run], "report": str(out / REPORT)})
    else:
        _show(cards, shown, measure, baseline)
        if kept:
            screen.print(f"{kept} of {len(made)} results were there already and were kept.")
        screen.print(f"Report: [cyan]{out / REPORT}[/]; runs, JSON and CSV beside it.", soft_wrap=True)
    return 0


app.command()(command(rag))


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
    cards, every, _ = publish(results, page, measure, baseline)
    if as_json:
        print_json({"results": [summary(result) for result in every], "report": str(page)})
        return 0
    _show(cards, every, measure, baseline)
    screen.print(f"Report: [cyan]{page}[/]", soft_wrap=True)
    return 0


def main() -> None:
    """
    Entry point of the installed command.
    """
    app()


def _show(cards: dict[str, CollectionCard], results: list[SystemResult], measure: str, baseline: str | None) -> None:
    from resrank_pipelines.display import out as screen

    from .table import costs, leaderboard

    screen.print(leaderboard(cards, results, measure=measure, baseline=baseline))
    screen.print(costs(results))
