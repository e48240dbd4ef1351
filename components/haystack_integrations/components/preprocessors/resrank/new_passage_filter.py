# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any, Literal, get_args

from haystack import Document, component
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

from haystack_integrations.common.resrank.documents import (
    META_KEY,
    SOURCE_HASH,
    check_documents,
    entry,
    index_stamp,
    with_entry,
)
from haystack_integrations.common.resrank.model import ResRankModel
from haystack_integrations.common.resrank.model_user import ModelUser
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore

Ids = Literal["content", "given"]

_BATCH = 1_000


@component
class NewPassageFilter(ModelUser):
    """
    Makes indexing incremental: gives passages stable ids and lets through only those that are not stored yet.

    An id comes from path, chunk number and content, so a second run over the same files writes nothing, and an edit
    re-embeds only the chunks that it changed or moved. Passages that are stored with another model's vectors, or with
    other settings of the embedder, go through again.

    Rows of a database or a corpus have ids of their own: with `ids="given"` they keep them, and a passage that is
    stored with another text or meta goes through again, to be written over the old one.

    Place it between splitter and embedder:

    ```python
    pipeline.connect("splitter.documents", "new_passages.documents")
    pipeline.connect("new_passages.documents", "embedder.documents")
    ```
    """

    def __init__(
        self,
        *,
        document_store: QdrantEdgeDocumentStore | QdrantDocumentStore,
        model: ResRankModel | str = "resrank-mini",
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        sparse: bool = True,
        ids: Ids = "content",
    ) -> None:
        """
        Create the filter; nothing loads or opens yet.

        :param document_store: where the passages will be written.
        :param model: the one that will embed them.
        :param meta_fields_to_embed: as in the `ResRankDocumentEmbedder` behind it. Where they differ, every run embeds
            everything again.
        :param embedding_separator: likewise.
        :param sparse: likewise.
        :param ids: `content` makes ids from path, chunk number and content; `given` keeps those of the documents.
        :raises ValueError: if `ids` is something else.
        """
        if ids not in get_args(Ids):
            msg = f"ids must be 'content' or 'given', got {ids!r}"
            raise ValueError(msg)
        self._init_model(model)
        self.document_store = document_store
        self.meta_fields_to_embed = list(meta_fields_to_embed) if meta_fields_to_embed is not None else None
        self.embedding_separator = embedding_separator
        self.sparse = sparse
        self.ids = ids
        self._stamp: dict[str, str] | None = None

    @component.output_types(
        documents=list[Document], passage_ids=dict[str, list[str]], unchanged=int, changed=int, blank=int
    )
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """
        Pick what is new.

        :param documents: passages, with `file_path` and `split_id` in their meta where they come from files.
        :returns: `documents`: new ones, once each (of several with one given id the last), with their stable id;
            `passage_ids`: the ids of all, by file path ("" where there is none); `unchanged`: how many were stored
            already; `changed`: how many of `documents` are stored, but with another model, other settings or, with
            given ids, another text or meta; `blank`: how many were left out because they hold no text.
        :raises TypeError: when it is not a list of documents.
        """
        with_text = [document for document in check_documents(documents) if (document.content or "").strip()]
        identified = _identified if self.ids == "content" else _with_source_hash
        passages = {passage.id: passage for passage in map(identified, with_text)}
        stamp = self.stamp() if passages else {}
        ids = list(passages)
        stored: set[str] = set()
        changed = 0
        for start in range(0, len(ids), _BATCH):
            for found in self._stored(ids[start : start + _BATCH]):
                known, source = entry(found), entry(passages[found.id]).get(SOURCE_HASH)
                if stamp.items() <= known.items() and (source is None or source == known.get(SOURCE_HASH)):
                    stored.add(found.id)
                else:
                    changed += 1
        new = [passage for id_, passage in passages.items() if id_ not in stored]
        by_file: dict[str, list[str]] = {}
        for id_, passage in passages.items():
            by_file.setdefault(str(passage.meta.get("file_path") or ""), []).append(id_)
        return {
            "documents": new,
            "passage_ids": by_file,
            "unchanged": len(ids) - len(new),
            "changed": changed,
            "blank": len(documents) - len(with_text),
        }

    def stamp(self) -> dict[str, str]:
        """
        What a stored passage must carry in `meta["resrank"]` to be left as it is.

        :returns: the model's fingerprint and the hash of the settings.
        """
        if self._stamp is not None:
            return self._stamp
        return index_stamp(
            self._loaded(),
            meta_fields=self.meta_fields_to_embed,
            separator=self.embedding_separator,
            sparse=self.sparse,
        )

    def release_model(self) -> None:
        """
        Let the model go, but know its stamp still: for a process that embeds nothing itself.
        """
        self._stamp = self.stamp()
        ModelUser.close(self)

    def close(self) -> None:
        """
        Let the model and the store go.
        """
        ModelUser.close(self)  # @component makes the class anew, so super() does not find it
        self._stamp = None
        self.document_store.close()

    def _stored(self, ids: list[str]) -> list[Document]:
        if isinstance(self.document_store, QdrantEdgeDocumentStore):
            return self.document_store.get_documents_by_id(ids, return_embedding=False)
        return self.document_store.get_documents_by_id(ids)


def _identified(document: Document) -> Document:
    path, chunk = document.meta.get("file_path"), document.meta.get("split_id")
    digest = hashlib.sha256(f"{path}\0{chunk}\0{document.content}".encode("utf-8", "surrogatepass")).hexdigest()
    # The splitter's source_id hashes the whole file: an edit anywhere would change the meta of every chunk.
    source = hashlib.sha256(str(path).encode("utf-8", "surrogatepass")).hexdigest() if path else None
    meta = {**document.meta, **({"source_id": source} if source else {})}
    meta.pop("_split_overlap", None)
    return replace(document, id=digest, meta=meta)


def _with_source_hash(document: Document) -> Document:
    meta = {key: value for key, value in document.meta.items() if key != META_KEY}
    # Compared by a hash: a server may return a float one unit in the last place off.
    described = json.dumps([document.content, meta], sort_keys=True, default=repr)
    digest = hashlib.sha256(described.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return replace(document, meta=with_entry(document, {SOURCE_HASH: digest}))
