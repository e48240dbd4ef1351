# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
The `resrank` command.

Exit codes: 0 done; 1 error; 2 wrong usage; 3 done, but some files could not be read; 130 interrupted.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from .bulk.command import bulk
from .command import (
    DEFAULT_STORE,
    AsJson,
    Collection,
    Device,
    Dtype,
    Model,
    Qdrant,
    Store,
    command,
    make_app,
    model_parameters,
)

if TYPE_CHECKING:
    from resrank import ResRank

SOME_FILES_FAILED = 3

app = make_app(
    "resrank", "Index your files and search them: hybrid retrieval, then listwise reranking in one forward pass."
)

TopK = Annotated[int, typer.Option("--top-k", "-k", min=1, help="How many results.")]
Reader = Annotated[
    str, typer.Option("--reader", envvar="RESRANK_READER", help="What finds answers: a name, folder or hub id.")
]


@app.command()
@command
def index(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders: txt, md, html, pdf.")],
    *,
    store: Store = Path(DEFAULT_STORE),
    model: Model = "resrank-mini",
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete stored passages that files under these paths no longer hold.")
    ] = False,
    device: Device = None,
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> int:
    """
    Index files. A second run writes only what is new or changed.
    """
    from .display import err, out, print_json, progress_display
    from .indexing import Indexer

    started = time.perf_counter()
    handle = model_parameters(model, device, dtype)
    with progress_display() as progress:
        progress("Loading the model", 0, 0)
        encoder = _encoder(handle)
        indexer = Indexer(model=handle, store=_store_parameters(store, encoder), progress=progress)
        try:
            report = indexer.run(paths, prune=prune)
        finally:
            indexer.close()
    seconds = time.perf_counter() - started
    if as_json:
        print_json({**asdict(report), "store": str(store), "seconds": round(seconds, 2)})
    else:
        out.print(
            f"[bold]{report.written}[/] passages written, {report.unchanged} unchanged, from {report.files} files in "
            f"{seconds:.1f} s; the store [cyan]{escape(str(store))}[/] holds {report.total}."
        )
        notes = {
            "passages were embedded again for the changed model": report.reembedded,
            "passages were longer than the model reads and were cut": report.truncated,
            "stale passages were deleted": report.pruned,
            "stored passages are no longer in these files: delete them with --prune": report.stale,
            "files of other kinds were skipped": report.skipped_files,
            "files hold no text": len(report.without_text),
        }
        for note, count in notes.items():
            if count:
                out.print(f"  {count} {note}")
    for path, reason in report.failures:
        err.print(f"[yellow]could not read[/] {escape(path)}: {escape(' '.join(reason.split()))}", soft_wrap=True)
    if not report.files and report.failures and not report.total:
        return 1
    return SOME_FILES_FAILED if report.failures else 0


app.command()(bulk)


@app.command()
@command
def search(
    query: Annotated[str, typer.Argument(help="A question or keywords.")],
    *,
    store: Store = Path(DEFAULT_STORE),
    model: Model = "resrank-mini",
    top_k: TopK = 10,
    dense: Annotated[bool, typer.Option("--dense", help="Dense retrieval only, no BM25.")] = False,
    device: Device = None,
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> int:
    """
    Search the store and rerank.
    """
    from .display import err, out, print_json, results_table
    from .loader import load_pipeline

    _require_store(store)
    handle = model_parameters(model, device, dtype)
    encoder = _encoder(handle)
    pipeline = load_pipeline(
        "search_dense" if dense else "search",
        model=handle,
        store=_store_parameters(store, encoder),
        components={"ranker": {"top_k": top_k}, "retriever": {"top_k": max(100, top_k)}},
    )
    try:
        pipeline.warm_up()
        started = time.perf_counter()
        documents = pipeline.run({"query": query})["ranker"]["documents"]
        milliseconds = (time.perf_counter() - started) * 1_000
    finally:
        pipeline.close()
    if as_json:
        from .display import result_dict

        results = [result_dict(document, rank) for rank, document in enumerate(documents, 1)]
        print_json({"query": query, "latency_ms": round(milliseconds, 2), "results": results})
    elif documents:
        out.print(results_table(documents, query))
        err.print(f"{len(documents)} results in {milliseconds:.0f} ms", style="dim")
    else:
        err.print(_nothing_in(store))
    return 0


@app.command()
@command
def ask(
    query: Annotated[str, typer.Argument(help="A question.")],
    *,
    store: Store = Path(DEFAULT_STORE),
    model: Model = "resrank-mini",
    reader: Reader = "resrank-reader-mini",
    llm: Annotated[
        bool,
        typer.Option(
            "--llm",
            help="Let an LLM answer, at OPENAI_BASE_URL with OPENAI_API_KEY and OPENAI_MODEL; it is sent the passages.",
        ),
    ] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait for the LLM.")] = 120.0,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="How many passages to read.")] = 5,
    device: Device = None,
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> int:
    """
    Answer a question from the store: with a piece of a passage, or in an LLM's words (--llm).
    """
    from .display import citation_dict, err, extracted_dict, out, print_json, show_extracted, show_generated
    from .loader import load_pipeline

    _require_store(store)
    handle = model_parameters(model, device, dtype)
    encoder = _encoder(handle)
    own = {"generator": {"timeout": timeout}} if llm else {"reader": {**handle, "model": reader}}
    pipeline = load_pipeline(
        "rag" if llm else "rag_extractive",
        model=handle,
        store=_store_parameters(store, encoder),
        components={"ranker": {"top_k": top_k}, "retriever": {"top_k": max(100, top_k)}, **own},
    )
    try:
        pipeline.warm_up()
        started = time.perf_counter()
        outcome = pipeline.run({"query": query}, include_outputs_from={"ranker"})
        milliseconds = (time.perf_counter() - started) * 1_000
    finally:
        pipeline.close()
    answers = outcome["answer_builder" if llm else "reader"]["answers"]
    if as_json:
        found = {"query": query, "latency_ms": round(milliseconds, 2), "answer": answers[0].data}
        if llm:
            print_json({**found, "citations": [citation_dict(document) for document in answers[0].documents]})
        else:
            print_json({**found, "answers": [extracted_dict(answer) for answer in answers]})
    elif not outcome["ranker"]["documents"]:
        err.print(_nothing_in(store))
    else:
        out.print(show_generated(answers[0]) if llm else show_extracted(answers))
        err.print(f"{len(outcome['ranker']['documents'])} passages read in {milliseconds:.0f} ms", style="dim")
    return 0


@app.command()
@command
def serve(
    *,
    store: Store = Path(DEFAULT_STORE),
    qdrant: Qdrant = None,
    collection: Collection = "resrank",
    rerank_only: Annotated[bool, typer.Option("--rerank-only", help="Only rank texts that clients send.")] = False,
    model: Model = "resrank-mini",
    reader: Reader = "resrank-reader-mini",
    llm: Annotated[
        bool, typer.Option("--llm", help="Let an LLM answer, as in `resrank ask --llm`, and serve chat completions.")
    ] = False,
    mcp: Annotated[bool, typer.Option("--mcp", help="Offer search, ask and rerank as MCP tools at /mcp.")] = False,
    dense: Annotated[bool, typer.Option("--dense", help="Dense retrieval only, no BM25.")] = False,
    host: Annotated[str, typer.Option("--host", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="0 takes a free one.")] = 8_000,
    without_token: Annotated[
        bool, typer.Option("--without-token", help="Listen for other machines although RESRANK_API_KEY is not set.")
    ] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Most seconds of a request.")] = 60.0,
    max_documents: Annotated[int, typer.Option("--max-documents", min=1, help="Most documents to rerank.")] = 1_000,
    max_top_k: Annotated[int, typer.Option("--max-top-k", min=1, help="Most results of a search.")] = 100,
    max_body_mb: Annotated[float, typer.Option("--max-body-mb", min=0.001, help="Most megabytes of a request.")] = 8.0,
    max_requests: Annotated[int, typer.Option("--max-requests", min=1, help="Most requests at once.")] = 128,
    share_passes: Annotated[
        bool | None,
        typer.Option(
            "--share-passes/--no-share-passes",
            help="Let requests that come at once share forward passes; default: in float32, where it changes nothing.",
        ),
    ] = None,
    device: Device = None,
    dtype: Dtype = "auto",
) -> int:
    """
    Serve search, answers and reranking over HTTP, with a search page. Needs the extra `serve`.
    """
    try:
        from .serving.server import serve as run
    except ModuleNotFoundError as error:
        msg = f"resrank serve needs {error.name}: pip install 'resrank[serve]'"
        raise ImportError(msg) from error
    from .serving.settings import KEY_VARIABLE, Limits, ServeSettings, check_address

    api_key = os.environ.get(KEY_VARIABLE) or None
    local = check_address(host, api_key, open_to_all=without_token)
    if not rerank_only and qdrant is None:
        _require_store(store)
    handle = model_parameters(model, device, dtype)
    limits = Limits(
        body_bytes=int(max_body_mb * 1024 * 1024),
        documents=max_documents,
        top_k=max_top_k,
        timeout_s=timeout,
        in_flight=max_requests,
    )
    run(
        ServeSettings(
            model=handle,
            store={"path": str(store)} if qdrant is None else {"url": qdrant, "index": collection},
            with_store=not rerank_only,
            server=qdrant is not None,
            dense=dense,
            reader={**handle, "model": reader},
            llm=llm,
            mcp=mcp,
            share_passes=share_passes,
            api_key=api_key,
            local_only=local and api_key is None,
            limits=limits,
        ),
        host,
        port,
    )
    return 0


@app.command()
@command
def migrate(
    *,
    store: Store = Path(DEFAULT_STORE),
    qdrant: Annotated[str, typer.Option("--qdrant", envvar="RESRANK_QDRANT_URL", help="URL of the Qdrant server.")],
    collection: Annotated[str, typer.Option("--collection", help="To write to; made if it is not there.")] = "resrank",
    into_existing: Annotated[
        bool, typer.Option("--into-existing", help="Accept a collection that holds other documents as well.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and count; write nothing.")] = False,
    as_json: AsJson = False,
) -> int:
    """
    Copy the store to a Qdrant server, and verify the copy. Started again, it goes on.
    """
    from .display import err, out, print_json, progress_display
    from .migration import Migration

    started = time.perf_counter()
    with progress_display() as progress:
        migration = Migration(store, qdrant, collection, progress=progress)
        try:
            report = migration.run(into_existing=into_existing, dry_run=dry_run)
        finally:
            migration.close()
    seconds = time.perf_counter() - started
    if as_json:
        places = {"store": str(store), "qdrant": qdrant, "collection": collection, "dry_run": dry_run}
        print_json({**asdict(report), **places, "seconds": round(seconds, 2)})
    elif dry_run:
        made = " (it would be made)" if report.created else ""
        out.print(
            f"Of {report.documents} passages, {report.written} would be written to the collection "
            f"[cyan]{escape(collection)}[/]{made}; {report.unchanged} are there already."
        )
    else:
        out.print(
            f"[bold]{report.written}[/] passages written, {report.unchanged} were there already, in {seconds:.1f} s; "
            f"the collection [cyan]{escape(collection)}[/] holds {report.total}."
        )
        if report.verified:
            out.print(f"Verified: all {report.documents} are in the collection as they are in the store.")
    if report.verified is not False:
        return 0
    expected = report.documents + report.others
    if report.total != expected:
        err.print(f"[red]the collection holds {report.total} documents, {expected} were expected[/]", soft_wrap=True)
    for difference in report.differences:
        err.print(f"[red]differs[/] {escape(difference['id'])}: {', '.join(difference['differs'])}", soft_wrap=True)
    if report.differing > len(report.differences):
        err.print(f"… and {report.differing - len(report.differences)} more")
    err.print("Run the same command again to write these once more.")
    return 1


@app.command()
@command
def info(
    *,
    store: Store = Path(DEFAULT_STORE),
    model: Model = "resrank-mini",
    device: Device = None,
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> int:
    """
    Show model, store and versions.
    """
    from rich.table import Table

    from .display import out, print_json
    from .information import describe

    described = describe(model_parameters(model, device, dtype), store)
    if as_json:
        print_json(described)
        return 0
    for section, values in described.items():
        table = Table(title=section, title_justify="left", show_header=False)
        for key, value in values.items():
            table.add_row(key, str(value))
        out.print(table)
    return 0


@app.command()
@command
def demo(
    *,
    store: Annotated[
        Path | None, typer.Option("--store", help="Folder of the demo's store; default: in the user's cache.")
    ] = None,
    model: Model = "resrank-mini",
    top_k: TopK = 3,
    device: Device = None,
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> int:
    """
    See it work: index the Python standard library and compare BM25, dense retrieval and ResRank.
    """
    from .demo import QUESTIONS, Demo, ask, demo_folder, show
    from .display import err, out, print_json, progress_display

    folder = store if store is not None else _cache_folder() / demo_folder()
    handle = model_parameters(model, device, dtype)
    encoder = _encoder(handle)
    demonstration = Demo(model=handle, store=_store_parameters(folder, encoder), top_k=top_k)
    try:
        with progress_display() as progress:
            counts = demonstration.index(progress)
        if not as_json:
            out.print(
                f"{counts['passages']} passages of the Python standard library: {counts['written']} embedded, "
                f"{counts['unchanged']} already stored ({counts['index_s']:.1f} s); {counts['truncated']} were longer "
                "than the model reads and were cut."
            )
        comparisons = []
        for question in QUESTIONS:
            comparisons.append(demonstration.compare(question))
            if not as_json:
                show(comparisons[-1])
        if as_json:
            print_json({"index": counts, "comparisons": [c.to_dict() for c in comparisons]})
            return 0
        if demonstration.is_safe_start:
            out.print(
                f"Note: {escape(model)} is not trained yet (safe start). ResRank's order here is its first stage's: "
                "BM25 and dense retrieval, fused."
            )
        out.print(
            "Each ResRank answer is one forward pass over up to 100 stored vectors: no model read a passage again.\n"
            "Search your own files:\n"
            "  [bold]resrank index[/] PATH\n"
            '  [bold]resrank search[/] "your question"'
        )
        if sys.stdin.isatty() and err.is_terminal:
            ask(demonstration)
    finally:
        demonstration.close()
    return 0


@app.callback(invoke_without_command=True)
def _main(
    *,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if show_version:
        try:
            print(version("resrank"))  # noqa: T201 - what programs read
        except PackageNotFoundError:
            print("unknown")  # noqa: T201
        raise typer.Exit


def main() -> None:
    """
    Entry point of the installed command.
    """
    app()


def _encoder(model: dict[str, Any]) -> ResRank:
    """Load the model; whoever holds it until the pipeline runs spares the pipeline loading it again."""
    from haystack_integrations.common.resrank import ResRankModel

    from .loader import MODEL_TYPE

    return ResRankModel.from_dict({"type": MODEL_TYPE, "init_parameters": dict(model)}).load("encoder")


def _store_parameters(store: Path, encoder: ResRank) -> dict[str, Any]:
    return {"path": str(store), "embedding_dim": encoder.dimension}


def _require_store(store: Path) -> None:
    if not store.is_dir():
        msg = f"there is no store at {store}: index some files first (resrank index PATH), or name one with --store"
        raise FileNotFoundError(msg)


def _nothing_in(store: Path) -> str:
    return f"nothing found: the store {escape(str(store))} holds no passages yet. Index some: resrank index PATH"


def _cache_folder() -> Path:
    if platform.system() == "Windows":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "resrank"
