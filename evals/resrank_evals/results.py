# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
What one system did on one collection, and how it is kept on disk.

A results folder holds `<collection>/collection.json` (name, split, counts, the text of the evaluated queries) and
`<collection>/<system>/result.json` with `run.trec` beside it. A result is there as a whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO

FORMAT = 1
RESULT = "result.json"
RUN = "run.trec"
COLLECTION = "collection.json"
_LONGEST_NAME = 80
# Of Windows.
_RESERVED = frozenset({"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(10))})


@dataclass(frozen=True)
class Latency:
    """
    Wall-clock time of one stage a query, in milliseconds.

    :param p50_ms: median over queries.
    :param p95_ms: 95th percentile.
    :param mean_ms: mean.
    """

    p50_ms: float
    p95_ms: float
    mean_ms: float


@dataclass(frozen=True)
class CollectionCard:
    """
    A collection without its passages.

    :param name: of the collection.
    :param split: of the qrels.
    :param fingerprint: of passages, evaluated queries and qrels.
    :param passages: how many there are.
    :param queries: text by id, of the evaluated queries.
    :param relevant: how many passages are relevant, by query id.
    :param all_queries: how many queries the split has before sampling.
    :param source: where it came from, as the user named it.
    :param depth: candidates a query of every system.
    """

    name: str
    split: str
    fingerprint: str
    passages: int
    queries: dict[str, str]
    relevant: dict[str, int]
    all_queries: int
    source: str = ""
    depth: int | None = None


@dataclass(frozen=True)
class SystemResult:
    """
    One system on one collection.

    :param collection: name of the collection.
    :param system: name of the system, unique within a results folder, e.g. `resrank(pool=bm25)`.
    :param settings: everything that decides the result; a stored result with other settings is computed anew.
    :param means: measure name to mean over all evaluated queries (a query without results counts as 0).
    :param per_query: query id to measure name to value; holds every evaluated query.
    :param latency: stage name (in the order of the stages) to its time; empty for `run:` systems. `total` is the sum.
    :param tokens: what was processed a query, on average: kind (`query`, `slots`, `prompt`, `pairs`, ...) to tokens;
        empty when not known.
    :param generated_tokens: tokens generated a query, on average; `None` when not known.
    :param indexing_tokens: tokens encoded once for the whole collection, before any query; 0 for what reads no vector.
    :param peak_memory_mb: most resident memory of the process while the system ran; `None` when not measured.
    :param peak_gpu_memory_mb: most allocated GPU memory; `None` without a GPU.
    :param pool: name of the first stage whose candidates were reranked; `None` for a first stage itself.
    :param pool_depth: how many candidates a query the pool holds at most.
    :param ceiling: measure name to the mean that a perfect ranking of the pool would reach; empty without a pool.
    :param missing_queries: evaluated queries for which the system gave nothing.
    :param environment: machine, versions, device, dtype, date.
    :param seconds: wall-clock time of the whole system on the collection, without indexing.
    :param truncated_passages: passages longer than the encoder reads, which were cut.
    :param blank_passages: passages without text, which nothing can find.
    """

    collection: str
    system: str
    settings: dict[str, Any]
    means: dict[str, float]
    per_query: dict[str, dict[str, float]]
    latency: dict[str, Latency] = field(default_factory=dict)
    tokens: dict[str, float] = field(default_factory=dict)
    generated_tokens: float | None = None
    indexing_tokens: int | None = None
    peak_memory_mb: float | None = None
    peak_gpu_memory_mb: float | None = None
    pool: str | None = None
    pool_depth: int | None = None
    ceiling: dict[str, float] = field(default_factory=dict)
    missing_queries: int = 0
    environment: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    truncated_passages: int | None = None
    blank_passages: int | None = None


def folder_name(name: str) -> str:
    """
    A name of a system or collection as a folder name.

    :param name: any text.
    :returns: the name itself when every file system takes it, else a readable part of it and a hash of the whole.
    """
    safe = re.sub(r"[^\w=,+.-]+", "_", name, flags=re.ASCII).strip("._ ")
    if safe == name and len(safe) <= _LONGEST_NAME and safe.upper().partition(".")[0] not in _RESERVED:
        return safe
    return f"{safe[:_LONGEST_NAME]}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def latencies(stages: Mapping[str, Sequence[float]]) -> dict[str, Latency]:
    """
    Sum up times.

    :param stages: stage name to milliseconds of each query, in the same order of queries.
    :returns: stage name to its time, and their sum as `total`; empty without stages.
    """
    if not stages:
        return {}
    total = [math.fsum(times) for times in zip(*stages.values(), strict=True)]
    return {stage: _percentiles(sorted(times)) for stage, times in {**stages, "total": total}.items()}


def write_result(results: Path, result: SystemResult, run: str) -> Path:
    """
    Keep a result.

    :param results: the results folder.
    :param result: what was measured.
    :param run: the run in TREC format.
    :returns: the folder it went to.
    """
    folder = results / folder_name(result.collection) / folder_name(result.system)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT).unlink(missing_ok=True)  # never an old result beside a new run
    write_whole(folder / RUN, run)
    write_whole(folder / RESULT, json.dumps({"format": FORMAT, **asdict(result)}, indent=1, ensure_ascii=False) + "\n")
    return folder


def read_result(path: Path) -> SystemResult:
    """
    Read a `result.json`.

    :param path: the file.
    :returns: the result.
    :raises ValueError: when it is none, naming the file.
    """
    values = read_record(path, SystemResult)
    try:
        latency = {stage: Latency(**times) for stage, times in values.pop("latency", {}).items()}
        return SystemResult(**values, latency=latency)
    except (AttributeError, TypeError) as error:
        raise damaged(path, error) from error


def write_collection(results: Path, card: CollectionCard) -> None:
    """
    Keep what is known of a collection.

    :param results: the results folder.
    :param card: the collection without its passages.
    """
    folder = results / folder_name(card.name)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": FORMAT, **asdict(card)}, indent=1, ensure_ascii=False) + "\n"
    write_whole(folder / COLLECTION, text)


def read_results(results: Path) -> tuple[dict[str, CollectionCard], list[SystemResult]]:
    """
    Read a results folder.

    :param results: the folder.
    :returns: collections by name, and every result, in the order in which they were made.
    :raises FileNotFoundError: when the folder holds no result.
    :raises ValueError: for a damaged file, naming it.
    """
    paths = sorted(results.glob(f"*/*/{RESULT}"), key=lambda path: (path.stat().st_mtime_ns, path))
    if not paths:
        msg = f"{results} holds no results (<collection>/<system>/{RESULT}): make some with `resrank-eval ir`"
        raise FileNotFoundError(msg)
    cards = [read_collection(path) for path in sorted(results.glob(f"*/{COLLECTION}"))]
    return {card.name: card for card in cards}, [read_result(path) for path in paths]


def read_collection(path: Path) -> CollectionCard:
    """
    Read a `collection.json`.

    :param path: the file.
    :returns: the card.
    :raises ValueError: when it is none, naming the file.
    """
    try:
        return CollectionCard(**read_record(path, CollectionCard))
    except TypeError as error:
        raise damaged(path, error) from error


def check_different(what: str, names: Sequence[str], advice: str) -> None:
    """
    Refuse names whose results would go to one folder.

    :param what: they name, in the plural.
    :param names: any.
    :param advice: what to do.
    :raises ValueError: when two are alike as folders.
    """
    folders = [folder_name(name).casefold() for name in names]
    twice = sorted({name for name, folder in zip(names, folders, strict=True) if folders.count(folder) > 1})
    if twice:
        msg = f"{what} must have different names, got {', '.join(twice)} more than once: {advice}"
        raise ValueError(msg)


def write_whole(path: Path, text: str) -> None:
    """
    Write a file that is there as a whole or not at all, also when the process is killed meanwhile.

    :param path: the file.
    :param text: its content.
    """
    with whole_file(path) as file:
        file.write(text.encode())


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """
    Open a file for writing that is there as a whole or not at all, also when the process is killed meanwhile.

    :param path: the file.
    :returns: a context manager; the file is there when it ends without an error.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _percentiles(ordered: Sequence[float]) -> Latency:
    return Latency(
        p50_ms=statistics.median(ordered),
        p95_ms=ordered[math.ceil(0.95 * len(ordered)) - 1],
        mean_ms=statistics.fmean(ordered),
    )


def read_record(path: Path, kind: type, made_by: str = "ir") -> dict[str, Any]:
    """
    Read a JSON file of a results folder.

    :param path: the file.
    :param kind: the dataclass whose fields it may hold.
    :param made_by: the command that makes it.
    :returns: the fields.
    :raises ValueError: when it is damaged or of another version, naming the file.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise damaged(path, error, made_by) from error
    known = {each.name for each in fields(kind)}
    found = values.pop("format", None) if isinstance(values, dict) else None
    if found != FORMAT or not known.issuperset(values):
        msg = (
            f"{path} has format {found!r}; this version of resrank reads {FORMAT}: make it anew with "
            f"`resrank-eval {made_by}`"
        )
        raise ValueError(msg)
    return dict(values)


def damaged(path: Path, error: Exception, made_by: str = "ir") -> ValueError:
    """
    Word the error of a file that cannot be read.

    :param path: the file.
    :param error: what went wrong.
    :param made_by: the command that makes it.
    :returns: the error, to be raised.
    """
    msg = f"{path} is damaged ({error}): delete it and run `resrank-eval {made_by}` again, which makes it anew"
    return ValueError(msg)
