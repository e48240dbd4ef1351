# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""`resrank-train peer …`: train the methods that ResRank is compared with on the same data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from resrank_pipelines.command import AsJson, Model, command, make_app

if TYPE_CHECKING:
    from .runs import PeerReport

app = make_app("peer", "Train a method that ResRank is compared with, on the same lists.")

Lists = Annotated[list[Path], typer.Argument(help="Folders of training lists.")]
Out = Annotated[Path, typer.Option("--out", help="Folder to write; made if missing.")]
Base = Annotated[str, typer.Option("--base", help="Model that is trained: a folder, a hub id, or all-MiniLM-L6-v2.")]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Of ranking; default: one epoch.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Lists a step.")]
UnjudgedCandidates = Annotated[
    Literal["tied", "pool"],
    typer.Option("--unjudged", help="After the positives, without a teacher's order: tied, or in the pool's order."),
]
SaveSteps = Annotated[int, typer.Option("--save-steps", min=1, help="Steps between checkpoints.")]
Seed = Annotated[int, typer.Option("--seed", help="Of fresh weights, draws and orders.")]


@app.command("pe-rank")
@command
def pe_rank(
    lists: Lists,
    *,
    out: Out,
    model: Model = "resrank-mini",
    base: Base = "all-MiniLM-L6-v2",
    candidates: Annotated[int, typer.Option("--candidates", min=2, help="Of a list.")] = 20,
    max_passage_length: Annotated[
        int, typer.Option("--max-passage-length", min=1, help="Tokens of a text in the content prompt.")
    ] = 12,
    max_query_length: Annotated[
        int, typer.Option("--max-query-length", min=1, help="Tokens of a query, in use likewise.")
    ] = 32,
    align_length: Annotated[int, typer.Option("--align-length", min=1, help="Tokens that stage 1 writes out.")] = 64,
    align_steps: Annotated[
        int | None, typer.Option("--align-steps", min=0, help="Of stage 1; default: one epoch over the passages.")
    ] = None,
    align_batch_size: Annotated[int, typer.Option("--align-batch-size", min=1, help="Passages a step.")] = 32,
    align_learning_rate: Annotated[float, typer.Option("--align-learning-rate", help="The highest one.")] = 1e-4,
    steps: Steps = None,
    batch_size: BatchSize = 16,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="The highest one of ranking.")] = 1e-4,
    unjudged: UnjudgedCandidates = "pool",
    lora_rank: Annotated[
        int, typer.Option("--lora-rank", min=0, help="Of adapters in ranking; 0 trains all weights.")
    ] = 0,
    save_steps: SaveSteps = 50,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> int:
    """
    Train PE-Rank (arXiv 2406.14848) on the vectors of --model. A killed run goes on from its last checkpoint.
    """
    from resrank import ResRank
    from resrank_pipelines.display import progress_display
    from resrank_training.lists import read_lists

    from .fit_pe_rank import PERankSettings, fit_pe_rank

    settings = PERankSettings(
        base=base,
        candidates=candidates,
        max_passage_length=max_passage_length,
        max_query_length=max_query_length,
        align_length=align_length,
        align_steps=align_steps,
        align_batch_size=align_batch_size,
        align_learning_rate=align_learning_rate,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        unjudged=unjudged,
        lora_rank=lora_rank,
        save_steps=save_steps,
        seed=seed,
    )
    with progress_display() as progress:
        sets = [read_lists(folder) for folder in lists]
        report = fit_pe_rank(sets, ResRank.from_pretrained(model), out, settings, progress)
    _show(report, out, f"pe-rank:{out}", as_json=as_json)
    return 0


@app.command("e2rank")
@command
def e2rank(
    lists: Lists,
    *,
    out: Out,
    base: Base = "all-MiniLM-L6-v2",
    candidates: Annotated[int, typer.Option("--candidates", min=2, help="Of a list, all in the prompt.")] = 10,
    max_length: Annotated[int, typer.Option("--max-length", min=1, help="Tokens of a text, in use likewise.")] = 36,
    max_query_length: Annotated[
        int, typer.Option("--max-query-length", min=1, help="Tokens of a query, in use likewise.")
    ] = 64,
    embed_steps: Annotated[
        int | None, typer.Option("--embed-steps", min=0, help="Of stage 1, InfoNCE alone; default: one epoch.")
    ] = None,
    embed_batch_size: Annotated[int, typer.Option("--embed-batch-size", min=1, help="Queries a step.")] = 64,
    embed_candidates: Annotated[
        int, typer.Option("--embed-candidates", min=2, help="Passages of a query in stage 1.")
    ] = 2,
    embed_learning_rate: Annotated[float, typer.Option("--embed-learning-rate", help="The highest one.")] = 1e-4,
    steps: Steps = None,
    batch_size: BatchSize = 16,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="The highest one of ranking.")] = 5e-5,
    unjudged: UnjudgedCandidates = "tied",
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Compute activations twice instead of keeping them: less memory.")
    ] = False,
    save_steps: SaveSteps = 50,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> int:
    """
    Train E2Rank (arXiv 2510.22733). A killed run goes on from its last checkpoint.
    """
    from resrank_pipelines.display import progress_display
    from resrank_training.lists import read_lists

    from .fit_e2rank import E2RankSettings, fit_e2rank

    settings = E2RankSettings(
        base=base,
        candidates=candidates,
        max_length=max_length,
        max_query_length=max_query_length,
        embed_steps=embed_steps,
        embed_batch_size=embed_batch_size,
        embed_candidates=embed_candidates,
        embed_learning_rate=embed_learning_rate,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        unjudged=unjudged,
        recompute=recompute,
        save_steps=save_steps,
        seed=seed,
    )
    with progress_display() as progress:
        report = fit_e2rank([read_lists(folder) for folder in lists], out, settings, progress)
    _show(report, out, f"e2rank:{out}{settings.system}", as_json=as_json)
    return 0


def _show(report: PeerReport, out: Path, system: str, *, as_json: bool) -> None:
    from dataclasses import asdict

    from resrank_pipelines.display import out as screen
    from resrank_pipelines.display import print_json

    if as_json:
        print_json({**asdict(report), "out": str(out), "system": system})
        return
    steps = ", ".join(f"{stage} {count:,}" for stage, count in report.steps.items())
    screen.print(
        f"Steps: {steps}; {report.lists:,} lists. Loss {report.first_loss:.3f}, at the end {report.last_loss:.3f}.",
        markup=False,
    )
    screen.print(f"Measure it with resrank-eval ir … -s [cyan]{escape(system)}[/]", soft_wrap=True)
