# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
The embedded store at a million vectors: `python -m benchmarks.million --vectors 1000000`.

1. Make vectors and queries (see `million_vectors`), and search them exactly.
2. Write them to a `QdrantEdgeDocumentStore`, each stage in a process of its own, and build its index once for each of
   the settings asked for: later builds change the settings of the existing store and optimise it.
3. After each build, in fresh processes: open the store once with its files dropped from the page cache and once with
   them in it, time the first ten searches, then recall and latency over a grid of search settings, one search at a
   time.
4. Write all of it again into a store that builds its index by itself, in the background, while another thread searches
   (`--live`; with the settings of the last build).

Recall@10 is the share of the ten exact neighbours that were found.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from .million_vectors import CACHE, LARGEST_NOISE, SMALLEST_NOISE, Growth, exact_neighbours, real_vectors
from .outcome import Bar, Outcome
from .probing import run_probe
from .settings import Settings

VECTORS = 1_000_000
REAL = 20_000
QUERIES = 2_000
_TOP_K = 10
_SAMPLE = 1_000
_EFS = (64, 128, 256, 384, 512)
_OVERSAMPLING = (1.0, 2.0, 4.0)
_RECALL, _RECALL_INT8, _P95_MS = 0.99, 0.98, 5.0
_COSTS = ("index", "build s", "processor s", "peak MiB", "disk MiB", "open s cold / warm", "first ms cold / warm")
_COSTS += ("resident MiB", "of it anonymous")
_GRID = ("index", "ef", "rescored", "recall", "of real queries", "of copies", "p50 ms", "p95 ms", "p99 ms")
_GRID += ("processor p95 ms",)


@dataclass(frozen=True)
class Build:
    """
    Settings of an index.

    :param m: edges of a node.
    :param ef_construct: candidates while building.
    :param int8: whether to quantise.
    """

    m: int
    ef_construct: int
    int8: bool

    @property
    def name(self) -> str:
        """
        For tables.

        :returns: such as `m 16, ef_construct 100, int8`.
        """
        return f"m {self.m}, ef_construct {self.ef_construct}" + (", int8" if self.int8 else "")

    def store(self) -> dict[str, Any]:
        """
        For the store.

        :returns: parameters of `QdrantEdgeDocumentStore`.
        """
        quantization = {"scalar": {"type": "int8", "quantile": 0.99, "always_ram": True}} if self.int8 else None
        return {
            "hnsw_config": {"m": self.m, "ef_construct": self.ef_construct},
            "quantization_config": quantization,
        }

    def searches(self, efs: tuple[int, ...]) -> list[dict[str, Any]]:
        """
        The grid.

        :param efs: candidates while searching.
        :returns: `search_params` of the store.
        """
        if not self.int8:
            return [{"hnsw_ef": ef} for ef in efs]
        # Without rescoring is what a client gets that cannot ask for it, such as qdrant-haystack's retrievers.
        ways = [{"ignore": True}, {"rescore": False}]
        ways += [{"rescore": True, "oversampling": factor} for factor in _OVERSAMPLING]
        return [{"hnsw_ef": ef, "quantization": way} for ef in efs for way in ways]


DEFAULT_BUILDS = "16:100,16:100:int8"


def builds_of(text: str) -> list[Build]:
    """
    Read the builds of the command line.

    :param text: such as `16:100,16:100:int8`: m, ef_construct, and int8 for a quantised one.
    :returns: the builds, in that order.
    :raises ValueError: when it cannot be read.
    """
    builds = []
    for item in text.split(","):
        m, colon, rest = item.strip().partition(":")
        ef_construct, _, kind = rest.partition(":")
        if not colon or not m.isdecimal() or not ef_construct.isdecimal() or kind not in ("", "int8"):
            msg = f"expected builds such as {DEFAULT_BUILDS}, got {item!r}"
            raise ValueError(msg)
        builds.append(Build(int(m), int(ef_construct), kind == "int8"))
    return builds


def run(settings: Settings) -> Outcome:
    """
    Measure, with the default builds.

    :param settings: of the run.
    :returns: times, memory, disk, latency and recall by build.
    """
    builds = builds_of(DEFAULT_BUILDS)
    return measure(
        vectors=settings.pick(VECTORS, 2_000),
        real=settings.pick(REAL, 200),
        queries=settings.pick(QUERIES, 20),
        builds=builds,
        efs=_EFS[: settings.pick(len(_EFS), 1)],
        small=settings.quick,
    )


def measure(
    *,
    vectors: int,
    real: int,
    queries: int,
    builds: list[Build],
    efs: tuple[int, ...] = _EFS,
    live: bool = True,
    small: bool = False,
    kept: Path | None = None,
) -> Outcome:
    """
    Measure.

    :param vectors: of the collection.
    :param real: passages to encode.
    :param queries: half of them real, half copies.
    :param builds: settings of the index, built in turn on one store.
    :param efs: candidates while searching.
    :param live: whether to measure a store that is written, indexed and searched at once.
    :param small: texts of one package of the standard library.
    :param kept: an empty folder, for the vectors and the store of the last build; `None` removes them.
    :returns: times, memory, disk, latency and recall by build.
    """
    os.makedirs(CACHE, exist_ok=True)
    with ExitStack() as stack:
        if kept is None:
            where = tempfile.TemporaryDirectory(dir=None if small else CACHE, ignore_cleanup_errors=True)
            folder = Path(stack.enter_context(where))
        else:
            kept.mkdir(parents=True, exist_ok=True)
            folder = kept
        source = _prepare(folder, vectors=vectors, real=real, queries=queries, small=small)
        results: dict[str, Any] = {"source": source, "builds": {}, "passages": _passages(folder, source, builds[0])}
        for number, build in enumerate(builds):
            job = {**source["job"], "store": build.store(), "searches": build.searches(efs)}
            (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
            if number == 0:
                results["write"] = _probe("write", folder)
                results["write"]["disk_mib"] = _disk_mib(folder / "store")
                _say("write", results["write"])
            row: dict[str, Any] = {**asdict(build), "optimize": _probe("optimize", folder)}
            row["disk_mib"] = _disk_mib(folder / "store")
            _say(f"optimize {build.name}", {**row["optimize"], "disk_mib": row["disk_mib"]})
            _drop_from_page_cache(folder / "store")
            row["cold"] = _probe("search", folder, {**job, "searches": job["searches"][:1]})
            row["warm"] = _probe("search", folder, job)
            results["builds"][build.name] = row
            for search in row["warm"]["searches"]:
                _say("search", search)
        if live:
            results["live"] = _probe("live", folder)
            _say("live", results["live"])
    return _outcome(results, vectors, len(builds))


def _passages(folder: Path, source: dict[str, Any], build: Build) -> dict[str, Any]:
    """What whole passages take, with text, BM25 and meta: the real ones, in a store of their own."""
    job = {**source["job"], "store": build.store()}
    row = _probe("passages", folder, job)
    row["disk_mib"] = _disk_mib(folder / "passages")
    row["opened"] = _probe("open", folder, job)
    row["bytes_by_part"] = _bytes_by_part(folder / "passages", row["passages"])
    _say("passages", row)
    return row


def _bytes_by_part(folder: Path, passages: int) -> dict[str, float]:
    """Bytes a passage of each part of the engine's segments, and of the write-ahead log."""
    parts: dict[str, float] = {}
    for path in _files(folder):
        names = path.relative_to(folder).parts
        part = names[3] if len(names) > 4 and names[1] == "segments" else names[1] if len(names) > 2 else names[-1]
        parts[part] = parts.get(part, 0.0) + path.stat().st_blocks * 512 / passages
    return {part: size for part, size in sorted(parts.items(), key=lambda item: -item[1]) if size >= 1}


def _say(what: str, values: dict[str, Any]) -> None:
    """Tell a waiting user how far it is."""
    parts = [f"{key} {value:,.3f}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items()]
    print(f"{time.strftime('%H:%M:%S')} {what}: {', '.join(parts)}", file=sys.stderr, flush=True)


def _prepare(folder: Path, *, vectors: int, real: int, queries: int, small: bool) -> dict[str, Any]:
    made = real_vectors(real, queries // 2, small=small)
    grown = Growth(made.passages)
    collection = grown.collection(vectors)
    held_out = grown.copies(np.arange(queries - len(made.queries)) * 7 % len(made.passages))
    asked = np.concatenate([made.queries, held_out])
    started = time.perf_counter()
    rows, scores = exact_neighbours(collection, asked, _TOP_K)
    searching = time.perf_counter() - started
    among_real = _nearest(made.passages, made.passages[:: max(1, len(made.passages) // _SAMPLE)])
    among_all = _nearest(collection, collection[:: max(1, len(collection) // _SAMPLE)])
    arrays = {"vectors": collection, "queries": asked, "neighbours": rows, "real": made.passages}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "texts.json").write_text(json.dumps(made.texts), encoding="utf-8")
    return {
        "job": {"dimension": int(collection.shape[1]), "real_queries": len(made.queries)},
        "texts": made.source,
        "encoded_passages_per_s": made.passages_per_s,
        "noise": [SMALLEST_NOISE, LARGEST_NOISE],
        "cosine_to_nearest_among_real": _quartiles(among_real),
        "cosine_to_nearest_in_collection": _quartiles(among_all),
        "query_to_first": _quartiles(scores[:, 0]),
        "query_to_tenth": _quartiles(scores[:, -1]),
        "exact_search_ms_per_query": 1_000 * searching / len(asked),
    }


def _nearest(vectors: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Cosine of each vector of a sample to its nearest neighbour but itself."""
    return exact_neighbours(vectors, sample, 2)[1][:, 1]


def _quartiles(values: np.ndarray) -> list[float]:
    return [float(value) for value in np.percentile(values, (5, 25, 50, 75, 95))]


def _probe(stage: str, folder: Path, job: dict[str, Any] | None = None) -> dict[str, Any]:
    if job is not None:
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    return run_probe("million_probe", stage, folder)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _disk_mib(folder: Path) -> float:
    """What the files take on the disk; those of the engine have holes."""
    return sum(path.stat().st_blocks * 512 for path in _files(folder)) / 2**20


def _drop_from_page_cache(folder: Path) -> None:
    if not hasattr(os, "posix_fadvise"):
        return
    for path in _files(folder):
        with suppress(OSError):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)


def _outcome(results: dict[str, Any], vectors: int, builds: int) -> Outcome:
    costs = Table(title=f"{vectors:,} vectors", title_justify="left")
    for column in _COSTS:
        costs.add_column(column, justify="left" if column == "index" else "right")
    grid = Table(title="recall@10 and latency, one search at a time", title_justify="left")
    for column in _GRID:
        grid.add_column(column, justify="left" if column == "index" else "right")
    bars: list[Bar] = []
    for name, row in results["builds"].items():
        cold, warm, optimize = row["cold"], row["warm"], row["optimize"]
        costs.add_row(
            name,
            f"{optimize['seconds']:,.0f}",
            f"{optimize['processor_seconds']:,.0f}",
            f"{optimize['peak_mib']:,.0f}",
            f"{row['disk_mib']:,.0f}",
            f"{cold['open_seconds']:.1f} / {warm['open_seconds']:.1f}",
            f"{max(cold['first_searches_ms']):.1f} / {max(warm['first_searches_ms']):.1f}",
            f"{warm['rss_mib']:,.0f}",
            f"{warm['anonymous_mib']:,.0f}",
        )
        for search in warm["searches"]:
            params = search["params"]
            real = search["recall_real_queries"]
            grid.add_row(
                name,
                str(params["hnsw_ef"]),
                _way(params.get("quantization")),
                f"{search['recall']:.4f}",
                "" if real is None else f"{real:.4f}",
                f"{search['recall_copies']:.4f}",
                f"{search['p50_ms']:.2f}",
                f"{search['p95_ms']:.2f}",
                f"{search['p99_ms']:.2f}",
                f"{search['processor_p95_ms']:.2f}",
            )
        fast = [search["recall"] for search in warm["searches"] if search["p95_ms"] < _P95_MS]
        limit = _RECALL_INT8 if row["int8"] else _RECALL
        bars.append(Bar(f"recall@10 with p95 under {_P95_MS:g} ms, {name}", max(fast, default=0.0), ">=", limit))
    shown = [costs, grid]
    written, source = results["write"], results["source"]
    notes = [
        f"real vectors: {source['texts']}",
        f"copies: normalise(v + s · n), n as real vectors vary and of length 1, s {SMALLEST_NOISE} to {LARGEST_NOISE}",
        f"cosine to the nearest (5, 25, 50, 75, 95 %): real {_shown(source['cosine_to_nearest_among_real'])}",
        f"cosine to the nearest in the collection: {_shown(source['cosine_to_nearest_in_collection'])}",
        f"write_documents: {written['seconds']:,.0f} s, and {written['making_seconds']:,.0f} s to make the documents",
        f"exact search in numpy, all queries at once: {source['exact_search_ms_per_query']:.1f} ms a query",
        "dense vectors, ids and a short text: no sparse vectors",
    ]
    whole = results["passages"]
    notes.append(
        f"{whole['passages']:,} passages with text ({whole['characters']:.0f} characters) and BM25 "
        f"({whole['terms']:.0f} terms): {whole['disk_mib'] * 2**20 / whole['passages']:,.0f} bytes of disk each, "
        f"{whole['opened']['anonymous_mib'] * 2**20 / whole['passages']:,.0f} bytes of memory that is no file"
    )
    if "live" in results:
        live = results["live"]
        shown.append(_live_table(live, list(results["builds"])[-1]))
        notes.append(
            f"all at once: recall@10 {live['recall']:.4f} at the end; the longest write of 10,000 documents took "
            f"{live['longest_write_seconds']:,.1f} s; peak memory of the writing process {live['peak_mib']:,.0f} MiB"
        )
    if builds > 1:
        notes.append("builds after the first change the settings of the store and rebuild its index")
    return Outcome(
        title=f"The embedded store at {vectors:,} vectors",
        sizes={"vectors": vectors, "dimension": source["job"]["dimension"], "top_k": _TOP_K},
        results=results,
        shown=shown,
        bars=bars,
        notes=notes,
    )


def _live_table(live: dict[str, Any], build: str) -> Table:
    table = Table(title=f"written, indexed and searched at once: {build}", title_justify="left")
    for column in ("phase", "s", "searches", "p50 ms", "p95 ms", "longest ms"):
        table.add_column(column, justify="left" if column == "phase" else "right")
    for phase, seconds, searches in (
        ("writing", f"{live['writing_seconds']:,.0f}", live["searches"]["writing"]),
        ("indexing the rest", f"{live['indexing_seconds']:,.0f}", live["searches"]["indexing"]),
        ("indexed", "", live["indexed"]),
    ):
        count, *times = searches.values()
        table.add_row(phase, seconds, str(count), *(f"{each:,.1f}" for each in times))
    return table


def _way(quantization: dict[str, Any] | None) -> str:
    if quantization is None:
        return ""
    if quantization.get("ignore"):
        return "original vectors"
    return f"oversampling {quantization['oversampling']:g}" if quantization["rescore"] else "no rescoring"


def _shown(values: list[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    *,
    vectors: Annotated[int, typer.Option(min=100, help="Size of the collection.")] = VECTORS,
    real: Annotated[int, typer.Option(min=10, help="Passages to encode; the others are perturbed copies.")] = REAL,
    queries: Annotated[int, typer.Option(min=10, help="Half real, half copies.")] = QUERIES,
    builds: Annotated[str, typer.Option(help="m:ef_construct[:int8], separated by commas.")] = DEFAULT_BUILDS,
    live: Annotated[bool, typer.Option(help="Also write, index and search a store at once.")] = True,
    keep: Annotated[Path | None, typer.Option(help="An empty folder that keeps the vectors and the store.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file; default in benchmarks/results/.")] = None,
) -> None:
    """
    Measure the embedded store: time, memory, disk, latency and recall. About 12 KB of free disk a vector.
    """
    try:
        asked = builds_of(builds)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--builds") from error
    os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from .environment import describe
    from .report import RESULTS, Report

    settings = Settings()
    console = Console(width=None if sys.stdout.isatty() else 160)
    path = out if out is not None else RESULTS / f"million-{vectors}.json"
    sizes = {"vectors": vectors, "real": real, "queries": queries, "builds": [asdict(build) for build in asked]}
    report = Report(path, describe(settings), {**sizes, "benchmarks": ["million"]}, console)
    report.show_environment()
    started = time.perf_counter()
    outcome = measure(vectors=vectors, real=real, queries=queries, builds=asked, live=live, kept=keep)
    report.add("million", outcome, time.perf_counter() - started)
    console.print(f"written to {path}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.million")
