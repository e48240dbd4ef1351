# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
A collection's passages in an embedded store, made once a model and reused.

The folder's name is a hash of the passages and of everything that decides their vectors, so that a store is never
mistaken for another one. Indexing that was killed goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from haystack import Document
from haystack.document_stores.types import DuplicatePolicy

from haystack_integrations.common.resrank import ResRankModel
from haystack_integrations.components.embedders.resrank import ResRankDocumentEmbedder
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
from resrank_pipelines.indexing import Progress, batches

from .collection import Collection
from .results import write_whole

# Large enough for length-sorted batches, small enough that a kill costs a few seconds.
_PASSAGES_PER_WRITE = 1_024
_DONE = "indexed.json"


@dataclass(frozen=True)
class IndexCost:
    """
    What it took to index a collection.

    :param passages: written.
    :param blank: left out because they hold no text; nothing can find them.
    :param truncated: longer than the encoder reads.
    :param tokens: that the encoder processed.
    """

    passages: int = 0
    blank: int = 0
    truncated: int = 0
    tokens: int = 0


class CollectionStore:
    """
    The store of one collection for one model.

    :param collection: whose passages.
    :param model: that embeds them.
    :param folder: where stores are kept.
    """

    def __init__(self, collection: Collection, model: ResRankModel, folder: Path) -> None:
        self._collection = collection
        self._model = model
        engine = model.load("encoder")
        lexical = json.dumps(asdict(engine.config.lexical), sort_keys=True)
        key = f"{collection.passages_fingerprint} {engine.fingerprint} {engine.runtime.dtype_name} {lexical}"
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        self.folder = folder / digest
        # Which neighbours an index misses differs from build to build: figures must not.
        self.store = QdrantEdgeDocumentStore(
            path=str(self.folder / "store"), embedding_dim=engine.dimension, search_params={"exact": True}
        )

    def fill(self, progress: Progress) -> IndexCost:
        """
        Index what is not stored yet.

        :param progress: told (what, done, total).
        :returns: what it took, also when an earlier run did it.
        :raises ValueError: when the collection has no passages.
        """
        done = self.folder / _DONE
        with suppress(OSError, ValueError, TypeError):  # not there, or damaged: counted anew
            cost = IndexCost(**json.loads(done.read_text(encoding="utf-8")))
            if self.store.count_documents() == cost.passages:
                return cost
        passages = {id_: passage.content for id_, passage in self._collection.passages.items()}
        if not passages:
            msg = f"collection {self._collection.name!r} has no passages: only run: systems can be measured on it"
            raise ValueError(msg)
        texts = {id_: content for id_, content in passages.items() if content.strip()}
        self._write(texts, progress)
        progress(f"Optimising the store of {self._collection.name}", 0, 0)
        self.store.optimize()
        self.store.flush()
        tokens = truncated = 0
        encoder = self._model.load("encoder").encoder
        # Counted from the texts: a resumed run has not encoded all of them itself.
        for ids in batches(list(texts), _PASSAGES_PER_WRITE):
            lengths, cut = encoder.tokenize([texts[id_] for id_ in ids], is_query=False)
            tokens += sum(map(len, lengths))
            truncated += sum(1 for each in cut if each)
        cost = IndexCost(len(texts), len(passages) - len(texts), truncated, tokens)
        write_whole(done, json.dumps(asdict(cost)) + "\n")
        return cost

    def close(self) -> None:
        """
        Let the store go.
        """
        self.store.close()

    def _write(self, texts: dict[str, str], progress: Progress) -> None:
        embedder = ResRankDocumentEmbedder(model=self._model, progress_bar=False)
        done = 0
        try:
            for ids in batches(list(texts), _PASSAGES_PER_WRITE):
                stored = {d.id for d in self.store.get_documents_by_id(ids, return_embedding=False)}
                new = [Document(id=id_, content=texts[id_]) for id_ in ids if id_ not in stored]
                if new:
                    self.store.write_documents(embedder.run(documents=new)["documents"], DuplicatePolicy.OVERWRITE)
                done += len(ids)
                progress(f"Embedding {self._collection.name}", done, len(texts))
        finally:
            embedder.close()
