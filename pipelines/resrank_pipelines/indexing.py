# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Incremental indexing of files.

Each run: find files, convert and split them, let through what is not stored yet, embed and write it in small batches.
What was written is acknowledged and survives a kill; the next run finishes the rest. Nothing is deleted unless asked.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from haystack import Document, Pipeline
from haystack.core.serialization import component_to_dict

from haystack_integrations.common.resrank import ResRankModel
from haystack_integrations.common.resrank.documents import FINGERPRINT, META_KEY

from .loader import read_definition
from .source_files import SourceFiles

CONVERTERS = ("text", "markdown", "html", "pdf")
_FILTER = ("new_passages",)
_WRITE = ("embedder", "writer")
_FILES_PER_BATCH = 64
# Small enough that little is done again after a kill, large enough to fill the encoder's batches.
_PASSAGES_PER_WRITE = 128

Progress = Callable[[str, int, int], None]

T = TypeVar("T")


@dataclass
class IndexReport:
    """
    What a run did.

    :param files: files that were read.
    :param skipped_files: files of other kinds.
    :param passages: passages that these files hold now.
    :param written: passages embedded and written.
    :param unchanged: passages that were stored already.
    :param reembedded: passages of the store that were embedded again because the model or a setting changed.
    :param truncated: written passages that were longer than the encoder reads.
    :param stale: stored passages that no file holds any more; 0 after pruning.
    :param pruned: stale passages that were deleted.
    :param total: passages in the store afterwards.
    :param without_text: files that were read and hold no text.
    :param failures: (path, reason) of what could not be read.
    """

    files: int = 0
    skipped_files: int = 0
    passages: int = 0
    written: int = 0
    unchanged: int = 0
    reembedded: int = 0
    truncated: int = 0
    stale: int = 0
    pruned: int = 0
    total: int = 0
    without_text: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)


class Indexer:
    """
    Runs an index pipeline in three parts: files to passages, passages to new ones, new ones to the store.

    :param definition: `index` or `index_server`.
    :param model: init parameters of `ResRankModel`.
    :param store: init parameters of the document store.
    :param progress: told (what, done, total) as work goes on.
    """

    def __init__(
        self,
        definition: str = "index",
        *,
        model: dict[str, Any] | None = None,
        store: dict[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> None:
        whole = read_definition(definition, model=model, store=store, components={"embedder": {"progress_bar": False}})
        self._progress = progress if progress is not None else lambda *_: None
        self._files = _part(whole, lambda name: name not in {*_FILTER, *_WRITE})
        self._filter = Pipeline.from_dict(_part(whole, lambda name: name in _FILTER))
        self._write = Pipeline.from_dict(_part(whole, lambda name: name in _WRITE))
        new_passages: Any = self._filter.get_component("new_passages")
        self._new_passages = new_passages
        self.store = new_passages.document_store
        self.model: ResRankModel = new_passages.model
        self._check_settings()

    def run(self, roots: list[Path], *, prune: bool = False) -> IndexReport:
        """
        Index files and folders.

        :param roots: what to index.
        :param prune: delete stored passages that files under these roots no longer hold. Never under a root that is
            missing, empty or not fully readable, and never those of a file that could not be read.
        :returns: what was done.
        """
        report = IndexReport()
        self.adopt_model(report)
        found = SourceFiles.find(roots)
        report.skipped_files = found.skipped
        report.failures = [(str(path), reason) for path, reason in found.failures]
        passage_ids: dict[str, list[str]] = {}
        for start in range(0, len(found.files), _FILES_PER_BATCH):
            self._progress("Reading files", start, len(found.files))
            new = self._read(found.files[start : start + _FILES_PER_BATCH], passage_ids, report)
            self.write(new, report)
        if found.files:
            self._progress("Reading files", len(found.files), len(found.files))
        report.passages = sum(map(len, passage_ids.values()))
        self._stale(found, passage_ids, report, prune=prune)
        self._finish(report)
        return report

    def run_documents(self, documents: list[Document]) -> IndexReport:
        """
        Index passages that are not in files.

        :param documents: with content, and `file_path` and `title` in their meta.
        :returns: what was done.
        """
        report = IndexReport()
        self.adopt_model(report)
        outcome = self._filter.run({"documents": documents})["new_passages"]
        report.passages = sum(map(len, outcome["passage_ids"].values()))
        report.unchanged = outcome["unchanged"]
        self.write(outcome["documents"], report)
        self._finish(report)
        return report

    def adopt_model(self, report: IndexReport) -> None:
        """
        Embed stored passages again, from their stored text, that were embedded by another model or with other settings.

        Can be killed and resumed.

        :param report: counts them.
        """
        wanted = self._new_passages.stamp()
        stamp = getattr(self.store, "fingerprint", None)
        if stamp is not None and stamp != wanted[FINGERPRINT]:
            self.store.stamp(wanted[FINGERPRINT])
        conditions = [
            {"field": f"meta.{META_KEY}.{key}", "operator": "!=", "value": value} for key, value in wanted.items()
        ]
        other = {"operator": "OR", "conditions": conditions}
        if not self.store.count_documents_by_filter(other):
            return
        for documents in batches(self.store.filter_documents(other), _PASSAGES_PER_WRITE):
            self._write.run({"embedder": {"documents": documents}})
            report.reembedded += len(documents)
            self._progress("Embedding again for the changed model", report.reembedded, 0)

    def write(self, documents: list[Document], report: IndexReport) -> None:
        """
        Embed and write, batch by batch; each batch is durable when its progress is told.

        :param documents: new passages.
        :param report: counts them.
        """
        done = 0
        for batch in batches(documents, _PASSAGES_PER_WRITE):
            outcome = self._write.run({"embedder": {"documents": batch}}, include_outputs_from={"embedder"})
            report.truncated += outcome["embedder"]["meta"]["truncated_documents"]
            report.written += len(batch)
            done += len(batch)
            self._progress("Embedding passages", done, len(documents))

    def close(self) -> None:
        """
        Let model and store go.
        """
        self._filter.close()
        self._write.close()

    def _check_settings(self) -> None:
        found, expected = (
            component_to_dict(part.get_component(name), name)["init_parameters"]
            for part, name in ((self._filter, "new_passages"), (self._write, "embedder"))
        )
        for name in ("model", "meta_fields_to_embed", "embedding_separator", "sparse"):
            if found[name] != expected[name]:
                msg = (
                    f"components new_passages and embedder must have the same {name}, got {found[name]!r} and "
                    f"{expected[name]!r}: everything would be embedded again in each run"
                )
                raise ValueError(msg)

    @cached_property
    def _convert(self) -> Pipeline:
        return Pipeline.from_dict(self._files)

    def _read(self, files: list[Path], passage_ids: dict[str, list[str]], report: IndexReport) -> list[Document]:
        readable = []
        for file in files:
            reason = _unreadable(file)
            if reason is None:
                readable.append(str(file))
            else:
                report.failures.append((str(file), reason))
        if not readable:
            return []
        with _converter_messages() as messages:
            outcome = self._convert.run(
                {"router": {"sources": readable}}, include_outputs_from={*CONVERTERS, "splitter"}
            )
        converted = {d.meta.get("file_path") for name in CONVERTERS for d in outcome.get(name, {}).get("documents", [])}
        split = outcome.get("splitter", {}).get("documents", [])
        broken = {document.meta.get("file_path") for document in split if not _is_unicode(document)}
        split = [document for document in split if document.meta.get("file_path") not in broken]
        passages = self._filter.run({"documents": split})["new_passages"]
        for path in readable:
            if path in broken:
                report.failures.append((path, "its text is not valid Unicode (half a surrogate pair)"))
                continue
            if path not in converted:
                reasons = [message for message in messages if path in message]
                report.failures.append((path, reasons[-1] if reasons else "could not be converted"))
                continue
            report.files += 1
            passage_ids[path] = passages["passage_ids"].get(path, [])
            if not passage_ids[path]:
                report.without_text.append(path)
        report.unchanged += passages["unchanged"]
        return passages["documents"]

    def _stale(
        self, found: SourceFiles, passage_ids: dict[str, list[str]], report: IndexReport, *, prune: bool
    ) -> None:
        failed = {path for path, _ in report.failures}
        for path in self._stored_paths():
            # A file that is there but could not be read this time keeps its passages.
            if not found.may_prune(path) or path in failed or (path not in passage_ids and os.path.lexists(path)):
                continue
            current = set(passage_ids.get(path, []))
            of_file = {"field": "meta.file_path", "operator": "==", "value": path}
            if self.store.count_documents_by_filter(of_file) == len(current):
                continue
            stale = [d.id for d in self.store.filter_documents(of_file) if d.id not in current]
            if prune:
                self.store.delete_documents(stale)
                report.pruned += len(stale)
            else:
                report.stale += len(stale)

    def _stored_paths(self) -> list[str]:
        paths: list[str] = []
        while True:
            values, total = self.store.get_metadata_field_unique_values("file_path", None, len(paths), 10_000)
            paths.extend(str(value) for value in values)
            if not values or len(paths) >= total:
                return paths

    def _finish(self, report: IndexReport) -> None:
        if report.written + report.reembedded + report.pruned and hasattr(self.store, "optimize"):
            self._progress("Optimising the store", 0, 0)
            self.store.optimize()
            self.store.flush()
        report.total = self.store.count_documents()


def _part(definition: dict[str, Any], keep: Callable[[str], bool]) -> dict[str, Any]:
    def inside(connection: dict[str, str]) -> bool:
        return all(keep(connection[end].split(".", 1)[0]) for end in ("sender", "receiver"))

    return {
        "components": {name: value for name, value in definition["components"].items() if keep(name)},
        "connections": [connection for connection in definition["connections"] if inside(connection)],
    }


def batches(items: list[T], size: int) -> Iterator[list[T]]:
    """
    Cut a list.

    :param items: in any number.
    :param size: of each part but the last.
    :returns: the parts in order.
    """
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _unreadable(path: Path) -> str | None:
    try:
        str(path).encode()
        if not stat.S_ISREG(path.stat().st_mode):
            return "not a regular file"
        with path.open("rb"):
            return None
    except UnicodeEncodeError:
        return "its name is not valid Unicode: rename it"
    except OSError as error:
        return error.strerror or str(error)


def _is_unicode(document: Document) -> bool:
    try:
        (document.content or "").encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def _converter_messages() -> Iterator[list[str]]:
    """Collects what Haystack's converters log about files they skip, instead of showing it between progress bars."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger = logging.getLogger("haystack.components.converters")
    collector, propagate, level = Collector(level=logging.WARNING), logger.propagate, logger.level
    logger.addHandler(collector)
    logger.propagate = False
    logger.setLevel(logging.WARNING)  # also where the command has quietened Haystack
    try:
        yield messages
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagate
        logger.setLevel(level)
