# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The work done on a batch: the one implementation that a single process, several processes and Ray's actors share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from haystack import Pipeline

from haystack_integrations.common.resrank.documents import TRUNCATED_TOKENS, entry
from resrank_pipelines.loader import read_definition
from resrank_pipelines.server_errors import server_errors

from .batches import Batch


@dataclass(frozen=True)
class WorkSettings:
    """
    What the work needs to know; small, and can be sent to another process.

    :param model: init parameters of `ResRankModel`.
    :param store: init parameters of the document store.
    :param server: the store is a Qdrant server, which all processes write to; else it is an embedded one, which belongs
        to one process.
    """

    model: dict[str, Any]
    store: dict[str, Any]
    server: bool = False


class BatchWork:
    """
    Three steps, run by the pipeline `passages` or `passages_server`: pick what the store lacks, embed it, write it.

    Calling it takes all three. With an embedded store and several processes, the one that has the store open selects
    and writes, and the others embed. Nothing is loaded or opened before it is needed.

    :param settings: of the run.
    """

    def __init__(self, settings: WorkSettings) -> None:
        self._settings = settings
        name = "passages_server" if settings.server else "passages"
        definition = read_definition(
            name, model=settings.model, store=settings.store, components={"embedder": {"progress_bar": False}}
        )
        pipeline = Pipeline.from_dict(definition)
        new_passages: Any = pipeline.get_component("new_passages")
        self.new_passages = new_passages
        self.store = new_passages.document_store
        self._embedder: Any = pipeline.get_component("embedder")
        self._writer: Any = pipeline.get_component("writer")

    def __call__(self, batch: Batch) -> Batch:
        """
        Do all there is to do.

        :param batch: as read.
        :returns: the batch, in the store.
        """
        return self.write(self.embed(self.select(batch)))

    def select(self, batch: Batch) -> Batch:
        """
        Leave out what is stored already.

        :param batch: as read.
        :returns: with the documents that are new or changed.
        """
        with self._errors():
            outcome = self.new_passages.run(documents=batch.documents)
        batch.documents = outcome["documents"]
        batch.tally.unchanged += outcome["unchanged"]
        batch.tally.replaced += outcome["changed"]
        return batch

    def embed(self, batch: Batch) -> Batch:
        """
        Embed the documents.

        :param batch: after `select`.
        :returns: with embedded documents.
        """
        batch.documents = self._embedder.run(documents=batch.documents)["documents"]
        for document in batch.documents:
            cut = entry(document).get(TRUNCATED_TOKENS)
            if cut:
                batch.note("truncated", batch.places[document.id], f"{document.id!r}: {cut} tokens were cut off")
        return batch

    def write(self, batch: Batch) -> Batch:
        """
        Write the documents; what is written when this returns survives a killed process.

        :param batch: after `embed`.
        :returns: without documents.
        """
        if batch.documents:
            with self._errors():
                self._writer.run(documents=batch.documents)
        batch.tally.written += len(batch.documents)
        batch.documents = []
        return batch

    def close(self) -> None:
        """
        Let model and store go.
        """
        self._embedder.close()
        self.new_passages.close()

    def _errors(self) -> Any:
        return server_errors(self._settings.store.get("url", ""))
