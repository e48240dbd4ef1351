# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resrank_pipelines.command import AsJson, Device, Dtype, Model

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
    answered_systems,
    named_sources,
    publish,
    seldom,
    summary,
)

if TYPE_CHECKING:
    from .answering import Answered
    from .readers import Reader


def rag(
    data: Annotated[
        list[str],
        typer.Argument(
            help="Collections with gold answers: BEIR folders with answers.jsonl, or folders of them. "
            "Default: the folder in RESRANK_DATA.",
            show_default=False,
        ),
    ] = [],  # noqa: B006 - typer needs a list
    *,
    system: Systems = list(DEFAULT_SYSTEMS),  # noqa: B006
    reader: Annotated[
        str, typer.Option("--reader", help="Name, folder or hub id of an extractive question-answering model.")
    ] = "resrank-reader-mini",
    generator: Annotated[
        str | None,
        typer.Option(
            "--generator",
            help="A language model that answers in place of the reader, from the same contexts: its name on the server "
            "in OPENAI_BASE_URL, with OPENAI_API_KEY.",
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            help="A language model on the same server that judges the answers within the budget of --measure, through "
            "ragas: pip install 'resrank[rag]'.",
        ),
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="How often the judge is asked everything.")] = 3,
    budget: Annotated[
        str, typer.Option("--budget", help="Tokens of context that the reader is given, comma-separated.")
    ] = "128,256,512",
    out: Results = Path(DEFAULT_OUT),
    stores: Stores = Path(DEFAULT_STORES),
    queries: Queries = None,
    seed: Seed = 0,
    depth: Depth = 100,
    split: Split = None,
    measure: Annotated[
        str | None,
        typer.Option(
            "--measure",
            help="The measure that the table shows, e.g. EM@256, 'answer in context@512'; default: F1 of the budget in "
            "the middle.",
        ),
    ] = None,
    baseline: Baseline = None,
    model: Model = "resrank-mini",
    device: Device = None,
    dtype: Dtype = "auto",
    missing_passages: Missing = "error",
    duplicate_ids: Duplicates = "error",
    as_json: AsJson = False,
) -> int:
    """
    Measure the answers that a reader finds in each system's passages, within fixed budgets of tokens.

    Rankings that `resrank-eval ir` has left in the results folder are used, others are made first.
    """
    from haystack_integrations.common.resrank import ResRankModel
    from resrank_pipelines.display import out as screen
    from resrank_pipelines.display import print_json, progress_display

    from .answer_results import BOUNDS
    from .answering import answer, check_budgets
    from .harness import Settings
    from .judging import ragas_judge
    from .systems import parse_system
    from .table import costs, judgments, leaderboard

    budgets = check_budgets(_numbers(budget))
    shown = measure if measure is not None else f"F1@{budgets[len(budgets) // 2]}"
    at = _budget_of(shown, budgets)
    systems = [parse_system(name) for name in system]
    sources = named_sources(data, split=split, duplicate_ids=duplicate_ids, missing_passages=missing_passages)
    settings = Settings(
        out=out,
        stores=stores,
        model=ResRankModel(model, device=device, dtype=dtype),
        depth=depth,
        queries=queries,
        seed=seed,
    )
    answerer = _reader(reader, generator, device, dtype)
    described = answerer.describe()
    own = {each.name for each in systems}
    if baseline is not None and baseline not in own:
        known = own | answered_systems(out, described, [source.label for source in sources], at) - BOUNDS
        if baseline not in known:
            msg = (
                f"--baseline must be one of this run's systems or of those that {answerer.name} has answered from "
                f"within {at} tokens in {out} ({', '.join(sorted(known))}), got {baseline!r}"
            )
            raise ValueError(msg)
    judging = None if judge is None else ragas_judge(judge, repeats)
    made: list[Answered] = []
    told: set[str] = set()
    try:
        with progress_display(keep=False) as progress:
            for answered in answer(
                sources,
                systems,
                settings,
                answerer,
                budgets,
                seldom(progress),
                duplicate_ids=duplicate_ids,
                judge=judging,
                judged_budget=at,
            ):
                made.append(answered)
                _tell(answered, shown, told, quiet=as_json)
    finally:
        # Also when it was interrupted: what is shown is what is there.
        if made:
            cards, _, every = publish(out, out / REPORT, None, None)
    if as_json:
        opinions = [summary(each.judged) for each in made if each.judged is not None]
        shown_results = [summary(each.result) for each in made]
        print_json({"results": shown_results, "judged": opinions, "report": str(out / REPORT)})
        return 0
    collections = {each.result.collection for each in made}
    of_reader = [each for each in every if each.settings.get("reader") == described and each.collection in collections]
    results = [each.as_system_result(at) for each in of_reader if at in each.budgets]
    screen.print(leaderboard(cards, results, measure=shown, baseline=baseline, bounds=BOUNDS))
    screen.print(costs(results, f"Cost of reading {at} tokens, per query"))
    if judging is not None:
        screen.print(judgments([each.judged for each in made if each.judged is not None]))
    kept = sum(each.kept for each in made)
    if kept:
        screen.print(f"{kept} of {len(made)} results were there already and were kept.")
    screen.print(f"Report: [cyan]{out / REPORT}[/]; answers, JSON and CSV beside it.", soft_wrap=True)
    return 0


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        msg = f"--budget must be numbers of tokens such as 128,256,512, got {text!r}"
        raise ValueError(msg)
    return [int(part) for part in parts]


def _budget_of(measure: str, budgets: Sequence[int]) -> int:
    from .answering import MEASURES

    name, _, at = measure.rpartition("@")
    if name not in MEASURES or at not in map(str, budgets):
        msg = (
            f"--measure must be {', '.join(MEASURES[:-1])} or {MEASURES[-1]}, @ and one of the budgets "
            f"{', '.join(map(str, budgets))}, such as F1@{budgets[0]}; got {measure!r}"
        )
        raise ValueError(msg)
    return int(at)


def _reader(name: str, generator: str | None, device: str | None, dtype: str) -> Reader:
    from .generation import GeneratedAnswers
    from .readers import SpanAnswers

    reader = SpanAnswers.from_pretrained(name, device=device, dtype=dtype)
    return reader if generator is None else GeneratedAnswers(generator, reader.tokenizer)


def _tell(answered: Answered, shown: str, told: set[str], *, quiet: bool) -> None:
    from resrank_pipelines.display import err

    result = answered.result
    if not answered.kept and not quiet:
        value = result.means.get(shown)
        tail = "" if value is None else f": {shown} {value:.4f}"
        err.print(f"{result.collection}: answers from {result.system}{tail}", style="dim")
    if not answered.kept and result.failed:
        err.print(
            f"{result.collection}: {result.failed} answers from {result.system} were refused, cut short or empty, and "
            "count as empty"
        )
    if result.collection not in told and result.without_gold:
        told.add(result.collection)
        err.print(f"{result.collection}: {result.without_gold} queries have no gold answer: left out")
