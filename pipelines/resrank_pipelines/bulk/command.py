# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The command `resrank bulk`."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from resrank_pipelines.command import (
    DEFAULT_STORE,
    AsJson,
    Collection,
    Device,
    Dtype,
    Model,
    Qdrant,
    Store,
    command,
    model_parameters,
)

ROWS_DAMAGED = 3
_SHOWN = 3  # of each kind; --json names more
_NOTES = {
    "replaced": "of them were stored with another text or meta, or embedded otherwise",
    "truncated": "passages were longer than the model reads and were cut",
    "blank": "rows hold no text and were left out",
    "duplicates": "rows repeat an earlier one and were left out",
    "conflicts": "rows have the id of an earlier one and another text or meta, and were left out",
    "damaged": "rows are damaged and were left out",
    "resumed": "passages were stored by an earlier run that was interrupted",
    "lost_workers": "processes died and were replaced",
    "outdated": "stored passages of other corpora are embedded by another model or otherwise: index them again",
}

Names = list[str]


@command
def bulk(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Files of passages: jsonl, jsonl.gz, parquet; folders of them, or in BEIR layout."),
    ],
    *,
    store: Store = Path(DEFAULT_STORE),
    qdrant: Qdrant = None,
    collection: Collection = "resrank",
    model: Model = "resrank-mini",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that embed.")] = 1,
    ray: Annotated[
        bool, typer.Option("--ray", help="Run the workers on a Ray cluster (RAY_ADDRESS); needs --qdrant.")
    ] = False,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Passages that a worker takes at once.")] = 512,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Leave damaged rows out and count them, rather than stop.")
    ] = False,
    prefix: Annotated[str, typer.Option("--prefix", help="Put before each id.")] = "",
    id_field: Annotated[str | None, typer.Option("--id-field", help="Default: _id, id or docid.")] = None,
    text_field: Annotated[str | None, typer.Option("--text-field", help="Default: text or contents.")] = None,
    title_field: Annotated[str | None, typer.Option("--title-field", help="Default: title.")] = None,
    meta: Annotated[Names | None, typer.Option("--meta", help="A field to keep for filters; repeatable.")] = None,
    state: Annotated[Path, typer.Option("--state", help="Folder for the checkpoint of an unfinished run.")] = Path(
        ".resrank/bulk"
    ),
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Ignore the checkpoint: ask the store about every passage.")
    ] = False,
    device: Device = None,
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> int:
    """
    Index a corpus of any size. A second run writes only what is new or changed.
    """
    from resrank_pipelines.display import err, out, print_json, progress_display

    from .fields import Fields
    from .indexer import BulkIndexer

    named = {"id": id_field, "text": text_field, "title": title_field}
    fields = Fields(**{key: (name,) for key, name in named.items() if name}, meta=tuple(meta or ()), prefix=prefix)
    target: dict[str, Any] = {"path": str(store)} if qdrant is None else {"url": qdrant, "index": collection}
    started = time.perf_counter()
    with progress_display() as progress:
        progress("Loading the model", 0, 0)
        indexer = BulkIndexer(
            model=model_parameters(model, device, dtype),
            store=target,
            fields=fields,
            batch_size=batch_size,
            workers=workers,
            runner="ray" if ray else "processes",
            skip_damaged=skip_damaged,
            state=state,
            progress=progress,
        )
        try:
            report = indexer.run(sources, from_start=from_start)
        finally:
            indexer.close()
    seconds = time.perf_counter() - started
    places = {"store": str(store)} if qdrant is None else {"qdrant": qdrant, "collection": collection}
    if as_json:
        print_json({**asdict(report), **places, "seconds": round(seconds, 2)})
    else:
        name = f"the store [cyan]{escape(str(store))}[/]" if qdrant is None else f"[cyan]{escape(collection)}[/]"
        out.print(
            f"[bold]{report.written}[/] passages written, {report.unchanged} unchanged, from {report.rows} rows in "
            f"{seconds:.1f} s; {name} holds {report.total}."
        )
        for key, note in _NOTES.items():
            if getattr(report, key):
                out.print(f"  {getattr(report, key)} {note}")
    for kind in dict.fromkeys(problem.kind for problem in report.problems):
        for problem in [problem for problem in report.problems if problem.kind == kind][:_SHOWN]:
            err.print(f"[yellow]{kind}[/] {escape(problem.where)}: {escape(problem.what)}", soft_wrap=True)
        more = getattr(report, kind) - _SHOWN
        if more > 0:
            err.print(f"… and {more} more {kind}")
    return ROWS_DAMAGED if report.damaged else 0
