# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
A corpus of any size into one store.

1. Read the corpus row by row and hand out batches; ids that came before are left out.
2. Do the work on each batch (see `work`): in this process, in several, or in Ray's actors.
3. Acknowledge: a batch that came back is in the store. The checkpoint moves on, so that an interrupted run goes on
   there.

Memory holds a few batches, whatever the size of the corpus: neither passages nor ids are collected.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from haystack_integrations.common.resrank.documents import FINGERPRINT, META_KEY
from resrank_pipelines.server_errors import check_url, server_errors

from .batches import Batch, BatchReader, Problem, Tally
from .checkpoint import CheckpointFile, add_problems
from .fields import Fields
from .sources import CorpusFile, corpus_files
from .work import BatchWork, WorkSettings
from .workers import WorkerPool

Progress = Callable[[str, int, int], None]
Runner = Literal["processes", "ray"]

# Large enough for length-sorted batches, small enough that a kill costs seconds.
BATCH_SIZE = 512
INDEXING = "Indexing rows, total estimated"
STATE = Path(".resrank/bulk")
_TIMEOUT_S = 60


@dataclass
class BulkReport(Tally):
    """
    What a run did; counts are of the whole corpus, also those that an interrupted run made.

    :param resumed: passages of which an interrupted run had acknowledged that they are stored; counted in the others.
    :param lost_workers: processes that died and were replaced.
    :param outdated: stored passages that were embedded by another model or with other settings: not of this corpus.
    :param total: passages in the store afterwards.
    :param problems: the first of each kind.
    """

    resumed: int = 0
    lost_workers: int = 0
    outdated: int = 0
    total: int = 0
    problems: list[Problem] = field(default_factory=list)


class BulkIndexer:
    """
    Indexes a corpus.

    ```python
    from pathlib import Path

    from resrank_pipelines.bulk.indexer import BulkIndexer

    indexer = BulkIndexer(model={"model": "resrank-mini"}, store={"path": ".resrank/store"})
    report = indexer.run([Path("corpus.jsonl.gz")])
    indexer.close()
    ```

    :param model: init parameters of `ResRankModel`.
    :param store: init parameters of the document store, without the dimension, which is the model's: with `url` those
        of a Qdrant server's, else those of the embedded one.
    :param fields: of the corpus's rows.
    :param batch_size: passages embedded and written at a time by one process.
    :param workers: processes that embed; 1 is this process alone.
    :param runner: what runs them: `processes` of this machine, or the actors of a `ray` cluster, which needs a Qdrant
        server.
    :param skip_damaged: leave damaged rows out and count them; else the first one ends the run.
    :param state: folder for the checkpoint and the ids read, about 60 bytes each; gone after a run that ends.
    :param progress: told (what, done, total) after each acknowledged batch.
    :raises ValueError: for a value out of range, and settings that do not go together.
    """

    def __init__(
        self,
        *,
        model: dict[str, Any] | None = None,
        store: dict[str, Any] | None = None,
        fields: Fields | None = None,
        batch_size: int = BATCH_SIZE,
        workers: int = 1,
        runner: Runner = "processes",
        skip_damaged: bool = False,
        state: Path = STATE,
        progress: Progress | None = None,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("workers", workers)):
            if value < 1:
                msg = f"{name} must be at least 1, got {value}"
                raise ValueError(msg)
        store = dict(store or {})
        server = "url" in store
        if server:
            check_url(store["url"])
        elif runner == "ray":
            msg = (
                "Ray's actors write to a Qdrant server, which all machines reach: name one with --qdrant. An embedded "
                "store belongs to one process; --workers without --ray uses several processes of this machine for it"
            )
            raise ValueError(msg)
        self._fields = fields if fields is not None else Fields()
        self._batch_size, self._workers, self._runner = batch_size, workers, runner
        self._skip_damaged, self._state = skip_damaged, state
        self._progress = progress if progress is not None else lambda *_: None
        self._settings = WorkSettings(dict(model or {}), self._complete(store, server=server), server)
        self._work: BatchWork | None = None
        self._lost = 0

    @staticmethod
    def _complete(store: dict[str, Any], *, server: bool) -> dict[str, Any]:
        if not server:
            # One optimisation at the end, not one after each doubling.
            return {"optimize_threshold": 0, **store}
        quiet = {"progress_bar": False, "timeout": _TIMEOUT_S, "client_kwargs": {"check_compatibility": False}}
        return {**quiet, **store}

    def run(self, sources: list[Path], *, from_start: bool = False) -> BulkReport:
        """
        Index a corpus. What a killed run left is finished; a run with nothing to do embeds nothing.

        :param sources: files and folders, see `corpus_files`.
        :param from_start: do not trust the checkpoint of an interrupted run: ask the store about every passage.
        :returns: what was done.
        :raises OSError: when a source is not there or cannot be read.
        :raises ValueError: for a damaged row, unless they are skipped.
        :raises RuntimeError: when the store fails, or processes die again and again.
        """
        files = corpus_files(sources)
        work = self._open()
        stamp = work.new_passages.stamp()
        if self._runner == "ray" or self._workers > 1:
            work.new_passages.release_model()
        folder = self._state / self._key(files)
        conditions = {
            "files": [[str(file.path), file.size, file.modified_ns] for file in files],
            "stamp": stamp,
        }
        acknowledged = CheckpointFile(folder / "checkpoint.json", conditions)
        if from_start or not acknowledged.read() or not self._is_stored(work, acknowledged):
            shutil.rmtree(folder, ignore_errors=True)
            acknowledged = CheckpointFile(folder / "checkpoint.json", conditions)
        before = acknowledged.checkpoint
        report = BulkReport(**asdict(before.tally), resumed=before.tally.passages)
        add_problems(report.problems, before.problems)
        reader = BatchReader(
            files, self._fields, self._batch_size, folder / "seen.sqlite", before.position, self._skip_damaged
        )
        size = sum(file.size for file in files)
        self._tell(report, acknowledged, size)
        # Closed by hand: a generator that an exception leaves would hold its files until it is collected.
        with closing(self._results(work, reader)) as finished:
            for batch in finished:
                acknowledged.acknowledge(batch)
                report.add(batch.tally)
                add_problems(report.problems, batch.problems)
                self._tell(report, acknowledged, size)
        report.lost_workers = self._lost
        self._finish(work, report)
        shutil.rmtree(folder, ignore_errors=True)
        return report

    def close(self) -> None:
        """
        Let model and store go.
        """
        if self._work is not None:
            self._work.close()
            self._work = None

    def _open(self) -> BatchWork:
        """Open the store, with the model's dimension, and make it if it is not there."""
        if self._work is None:
            from haystack_integrations.common.resrank import ResRankModel
            from resrank_pipelines.loader import MODEL_TYPE

            handle = {"type": MODEL_TYPE, "init_parameters": self._settings.model}
            engine = ResRankModel.from_dict(handle).load("encoder")
            self._settings.store["embedding_dim"] = engine.dimension
            self._work = BatchWork(self._settings)
            stamp = self._work.new_passages.stamp()
            with server_errors(self._settings.store.get("url", "")):
                self._work.store.count_documents()
                known = getattr(self._work.store, "fingerprint", None)
                if known is not None and known != stamp[FINGERPRINT]:
                    # As `resrank index`: passages are embedded again as they come; a killed run goes on.
                    self._work.store.stamp(stamp[FINGERPRINT])
        return self._work

    def _key(self, files: list[CorpusFile]) -> str:
        store = self._settings.store
        target = [store["url"], store.get("index")] if self._settings.server else os.path.realpath(store["path"])
        described = [target, [str(file.path) for file in files], asdict(self._fields), self._skip_damaged]
        return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]

    def _is_stored(self, work: BatchWork, acknowledged: CheckpointFile) -> bool:
        """Whether the store is the one that the checkpoint speaks of, still with those passages in it."""
        checkpoint = acknowledged.checkpoint
        with server_errors(self._settings.store.get("url", "")):
            if work.store.count_documents() < checkpoint.tally.passages:
                return False
            return len(work.store.get_documents_by_id(checkpoint.last)) == len(checkpoint.last)

    def _results(self, work: BatchWork, reader: BatchReader) -> Generator[Batch, None, None]:
        if self._runner == "ray":
            try:
                from .ray_data import RayActors
            except ModuleNotFoundError as error:
                msg = f"--ray needs {error.name}: pip install 'resrank[distributed]'"
                raise ImportError(msg) from error
            yield from RayActors(self._settings, self._workers).map(reader)
            return
        with closing(iter(reader)) as batches:
            yield from map(work, batches) if self._workers == 1 else self._in_processes(work, batches)

    def _in_processes(self, work: BatchWork, batches: Iterator[Batch]) -> Iterator[Batch]:
        server = self._settings.server
        with WorkerPool(self._settings, "all" if server else "embed", self._workers) as pool:
            finished = pool.map(batches if server else map(work.select, batches))
            for batch in finished if server else map(work.write, finished):
                self._lost = pool.lost
                yield batch

    def _tell(self, report: BulkReport, acknowledged: CheckpointFile, size: int) -> None:
        # How many rows there will be is known at the end only: as if the others were as long as those so far.
        consumed, rows = acknowledged.checkpoint.position.consumed, acknowledged.checkpoint.tally.rows
        self._progress(INDEXING, report.rows, max(report.rows, round(rows * size / consumed)) if consumed else 0)

    def _finish(self, work: BatchWork, report: BulkReport) -> None:
        if (report.written or report.resumed) and not self._settings.server:
            self._progress("Optimising the store", 0, 0)
            work.store.optimize()
            work.store.flush()
        others = [
            {"field": f"meta.{META_KEY}.{key}", "operator": "!=", "value": value}
            for key, value in work.new_passages.stamp().items()
        ]
        with server_errors(self._settings.store.get("url", "")):
            report.outdated = work.store.count_documents_by_filter({"operator": "OR", "conditions": others})
            report.total = work.store.count_documents()
