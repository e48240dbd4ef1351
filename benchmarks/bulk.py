# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
`python -m benchmarks.bulk`: does `resrank bulk` keep its memory, and does it survive being killed?

1. One undisturbed run over a generated corpus; its resident memory is read at each acknowledged batch.
2. The same corpus into another store, killed (kill -9) at random moments; what the store holds after each kill is
   counted, then the next run goes on. A last run finishes.

Not among the benchmarks of `python -m benchmarks`, because a corpus of a useful size takes minutes.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from .outcome import Bar, Outcome
from .passages import texts_of_words
from .settings import Settings

GROWTH = 0.1  # of resident memory after the first rows, at most
_FIRST_ROWS = 20_000
_WORDS = range(8, 13)
_COMMAND = [sys.executable, "-c", "from resrank_pipelines.cli import main; main()", "bulk"]
_TOLD = re.compile(r"Indexing rows[^:]*(?:: (\d+))?")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass
class Run:
    """
    One run of the command.

    :param seconds: it took, or until it was killed.
    :param rows: that were acknowledged, those of earlier runs included.
    :param resumed: rows that an earlier run had acknowledged.
    :param memory: [rows, seconds, resident MiB, of that anonymous] at each acknowledgement.
    :param summary: what `--json` said; `None` when it was killed.
    :param stored: documents in the store afterwards.
    """

    seconds: float = 0.0
    rows: int = 0
    resumed: int = 0
    memory: list[list[float]] = field(default_factory=list)
    summary: dict[str, Any] | None = None
    stored: int = 0


class _Target:
    """
    Where a run writes.

    :param folder: of the embedded store; its name is that of the collection.
    :param url: of a server, in place of it.
    """

    def __init__(self, folder: Path, url: str | None) -> None:
        self._folder, self._url = folder, url
        self._collection = f"resrank-benchmark-{os.getpid()}-{folder.name}"

    @property
    def arguments(self) -> list[str]:
        """
        For the command.

        :returns: store and state.
        """
        store = (
            ["--qdrant", self._url, "--collection", self._collection] if self._url else ["--store", str(self._folder)]
        )
        return [*store, "--state", f"{self._folder}-state"]

    def ids(self) -> set[str]:
        """
        What is there.

        :returns: ids of the points, or of the documents of an embedded store.
        """
        if self._url:
            client, found, offset = self._client(), set[str](), None
            while client.collection_exists(self._collection):
                records, offset = client.scroll(self._collection, limit=20_000, offset=offset, with_payload=False)
                found.update(str(record.id) for record in records)
                if offset is None:
                    break
            return found
        from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
        from haystack_integrations.document_stores.resrank.shard import read_manifest

        manifest = read_manifest(str(self._folder))
        if manifest is None:
            return set()
        store = QdrantEdgeDocumentStore(
            path=str(self._folder), embedding_dim=manifest.embedding_dim, optimize_threshold=0
        )
        try:
            return {document.id for batch in store.document_batches(1_000) for document in batch}
        finally:
            store.close()

    def remove(self) -> None:
        """Leave nothing on the server."""
        if self._url:
            self._client().delete_collection(self._collection)

    def _client(self) -> Any:
        import qdrant_client

        key = os.environ.get("QDRANT_API_KEY")
        return qdrant_client.QdrantClient(url=self._url, api_key=key, timeout=120, check_compatibility=False)


@app.command()
def main(
    *,
    passages: Annotated[int, typer.Option(min=1_000, help="Of the corpus, 8 to 12 words each.")] = 200_000,
    kills: Annotated[int, typer.Option(min=0, help="Of the second store's runs.")] = 3,
    workers: Annotated[int, typer.Option(min=1, help="As of `resrank bulk`.")] = 1,
    qdrant: Annotated[
        str | None,
        typer.Option(help="URL of a Qdrant server, in place of an embedded store; collections are made there."),
    ] = None,
    model: Annotated[str, typer.Option(help="As of `resrank bulk`.")] = "resrank-mini",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of the corpus and the moments of the kills.")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file; default in benchmarks/results/.")] = None,
) -> None:
    """
    Measure bulk indexing into an embedded store, or a server, of which the memory is not ours.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from .environment import describe
    from .report import RESULTS, Report

    chance = random.Random(seed)
    settings = Settings(dtype=dtype)
    target = "embedded store" if qdrant is None else "Qdrant server"
    sizes = {"passages": passages, "kills": kills, "workers": workers, "seed": seed, "model": model, "target": target}
    path = out if out is not None else RESULTS / f"bulk-{passages}.json"
    console = Console(width=None if sys.stdout.isatty() else 120)
    report = Report(path, describe(settings), {**asdict(settings), **sizes}, console)
    report.show_environment()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="resrank-bulk-") as name:
        folder = Path(name)
        corpus = _write_corpus(folder / "corpus.jsonl", passages, chance)
        stores = [_Target(folder / name, qdrant) for name in ("undisturbed", "killed")]
        arguments = ["--workers", str(workers), "--dtype", dtype, "--model", model]
        undisturbed = _run(corpus, stores[0], arguments)
        console.print(f"undisturbed run: {undisturbed.seconds:.0f} s", highlight=False)
        runs = []
        for _ in range(kills):
            # At a random moment of what is left, so that every kill meets work.
            done = runs[-1].stored if runs else 0
            kill_at = done + (passages - done) * chance.uniform(0.1, 0.6)
            runs.append(_run(corpus, stores[1], arguments, kill_at=kill_at, delay=chance.random()))
            console.print(f"killed at {runs[-1].rows} rows after {runs[-1].seconds:.0f} s", highlight=False)
        runs.append(_run(corpus, stores[1], arguments))
        same = stores[0].ids() == stores[1].ids()
        for store in stores:
            store.remove()
    outcome = _outcome(sizes, undisturbed, runs, same=same)
    report.add("bulk", outcome, time.perf_counter() - started)
    console.print(f"written to {path}", highlight=False, soft_wrap=True)


def _write_corpus(path: Path, count: int, chance: random.Random) -> Path:
    words = sorted({w.lower() for text in texts_of_words(2_000, 20, small=False) for w in text.split() if w.isalpha()})
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            text = " ".join(chance.choices(words, k=chance.choice(_WORDS)))
            file.write(json.dumps({"_id": f"p{number}", "text": text}) + "\n")
    return path


def _run(corpus: Path, store: _Target, arguments: list[str], *, kill_at: float = 0.0, delay: float = 0.0) -> Run:
    run = Run()
    started = time.perf_counter()
    command = [*_COMMAND, str(corpus), *store.arguments, "--json", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        last = ""
        for line in process.stderr:
            last = line
            told = _TOLD.search(line)
            if not told:
                continue
            run.rows = int(told[1] or 0)
            if not run.memory:
                run.resumed = run.rows
            run.memory.append([run.rows, time.perf_counter() - started, *_resident(process.pid)])
            if kill_at and run.rows >= kill_at:
                time.sleep(delay)
                process.send_signal(signal.SIGKILL)
                break
        stdout = process.stdout.read()
    run.seconds = time.perf_counter() - started
    if not kill_at:
        if process.returncode:
            msg = f"`{' '.join(command[3:])}` ended with {process.returncode}: {last}"
            raise RuntimeError(msg)
        run.summary = json.loads(stdout)
    run.stored = len(store.ids())
    return run


def _resident(pid: int) -> tuple[float, float]:
    """Resident memory of a process in MiB, and the part of it that is no file's."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0, 0.0
    values = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "RssAnon"))}
    return int(values["VmRSS"]) / 1_024, int(values["RssAnon"]) / 1_024


def _outcome(sizes: dict[str, Any], undisturbed: Run, runs: list[Run], *, same: bool) -> Outcome:
    first = min(_FIRST_ROWS, sizes["passages"] // 5)
    early = max(row[2] for row in undisturbed.memory if row[0] <= first)
    late = max(row[2] for row in undisturbed.memory if row[0] > first)
    begun, ended = undisturbed.memory[0], undisturbed.memory[-1]
    rate = (ended[0] - begun[0]) / (ended[1] - begun[1])
    summary = runs[-1].summary or {}
    # An embedded store keeps what it holds in the memory of the process, mostly as mapped files.
    growth = Bar(f"growth of resident memory after {first:,} rows", late / early - 1, "<=", GROWTH)
    memory = Table(title="resident memory of the undisturbed run", title_justify="left")
    for column in ("rows", "s", "resident MiB", "anonymous MiB"):
        memory.add_column(column, justify="right")
    step = max(1, len(undisturbed.memory) // 12)
    for rows, seconds, resident, anonymous in [*undisturbed.memory[::step], ended]:
        memory.add_row(f"{rows:,}", f"{seconds:.0f}", f"{resident:,.0f}", f"{anonymous:,.0f}")
    killed = Table(title="runs into the second store", title_justify="left")
    for column in ("run", "goes on at", "acknowledged", "stored", "s", "end"):
        killed.add_column(column, justify="right")
    for number, run in enumerate(runs, 1):
        end = "killed" if run.summary is None else "done"
        killed.add_row(str(number), f"{run.resumed:,}", f"{run.rows:,}", f"{run.stored:,}", f"{run.seconds:.0f}", end)
    lost = sum(max(0, run.rows - run.stored) for run in runs)
    # What a killed run had written beyond its checkpoint must be found in the store, and not be encoded again.
    beyond = sum(run.stored - following.resumed for run, following in pairwise(runs))
    twice = beyond - summary["unchanged"]
    return Outcome(
        title=f"Bulk indexing of {sizes['passages']:,} passages of {_WORDS[0]} to {_WORDS[-1]} words",
        sizes=sizes,
        results={
            "passages_per_s": rate,
            "resident_mib": {"up_to_first_rows": early, "after": late, "first_rows": first},
            "undisturbed": asdict(undisturbed),
            "runs": [asdict(run) for run in runs],
            "same_ids": same,
            "acknowledged_and_lost": lost,
            "stored_beyond_checkpoints": beyond,
            "encoded_though_stored": twice,
        },
        shown=[memory, killed],
        bars=[
            *([] if sizes["target"] == "embedded store" else [growth]),
            Bar("acknowledged passages that a kill lost", lost, "<=", 0),
            Bar("stored passages that were encoded again", twice, "<=", 0),
            Bar("both stores hold the same passages", float(same), ">=", 1),
        ],
        notes=[
            f"{rate:,.0f} passages a second, between the first and the last acknowledgement",
            f"{beyond} passages were stored but not acknowledged when a run was killed; {summary['unchanged']} found",
        ],
    )


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.bulk")
