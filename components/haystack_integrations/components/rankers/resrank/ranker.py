# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from haystack import Document, component, logging

from haystack_integrations.common.resrank.documents import (
    RETRIEVAL_RANK,
    RETRIEVAL_SCORE,
    check_documents,
    check_query,
    check_top_k,
    check_vectors,
    document_text,
    entry,
    joined_text,
    score_or_lowest,
    unique_documents,
    with_entry,
)
from haystack_integrations.common.resrank.model import ResRankModel
from haystack_integrations.common.resrank.model_user import ModelUser

if TYPE_CHECKING:
    from resrank import ResRank

logger = logging.getLogger(__name__)

MissingEmbedding = Literal["encode", "raise"]


@component
class ResRankRanker(ModelUser):
    """
    Ranks documents by their **stored** vectors, all in one forward pass of the Reranker-LLM.

    Give it documents with embeddings (`return_embedding=True` on the retriever; `ResRankRetriever` does it). Evidence
    of the first stage that `ResRankRetriever` left in `meta["resrank"]` is used when it belongs to this query. How the
    words of each document's content match the query's is used, too (`resrank.matching`; no model reads the content).

    Scores are listwise: they depend on the whole list, so thresholds carry over between lists only roughly. In
    `evidence` mode a score is an unbounded logit (`scale_score`: its sigmoid), in `paper` mode a cosine (`scale_score`:
    (1 + s) / 2).

    ```python
    from haystack import Document
    from haystack_integrations.components.embedders.resrank import ResRankDocumentEmbedder
    from haystack_integrations.components.rankers.resrank import ResRankRanker

    texts = ["Bread needs yeast.", "Parse dates with datetime.strptime."]
    documents = ResRankDocumentEmbedder().run([Document(content=text) for text in texts])["documents"]
    ranked = ResRankRanker(top_k=1).run(query="how do I parse a date?", documents=documents)["documents"]
    print(ranked[0].content)  # Parse dates with datetime.strptime.
    ```
    """

    _parts: ClassVar[tuple[str, ...]] = ("encoder", "reranker")

    def __init__(
        self,
        *,
        model: ResRankModel | str = "resrank-mini",
        top_k: int | None = 10,
        scale_score: bool = False,
        score_threshold: float | None = None,
        use_evidence: bool = True,
        on_missing_embedding: MissingEmbedding = "encode",
        return_embedding: bool = False,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
    ) -> None:
        """
        Create the ranker; nothing loads yet.

        :param model: a `ResRankModel`, or a name, folder or hub id; the one that the documents were embedded with.
        :param top_k: how many documents to return; `None` returns all.
        :param scale_score: map scores to 0 … 1; the order stays.
        :param score_threshold: leave out documents that score lower (after scaling); `None` leaves out none.
        :param use_evidence: `False` is the pure mode: vectors only, neither the first stage's numbers nor words.
        :param on_missing_embedding: `encode` documents without a vector, with a warning, or `raise`.
        :param return_embedding: keep the vectors on the returned documents; off, because each later component would
            copy them.
        :param meta_fields_to_embed: as in `ResRankDocumentEmbedder`, for missing vectors.
        :param embedding_separator: likewise.
        :raises ValueError: for a `top_k` that is not positive, or another `on_missing_embedding`.
        """
        self._init_model(model)
        check_top_k(top_k)
        if on_missing_embedding not in get_args(MissingEmbedding):
            msg = f"on_missing_embedding must be 'encode' or 'raise', got {on_missing_embedding!r}"
            raise ValueError(msg)
        self.top_k = top_k
        self.scale_score = scale_score
        self.score_threshold = score_threshold
        self.use_evidence = use_evidence
        self.on_missing_embedding = on_missing_embedding
        self.return_embedding = return_embedding
        self.meta_fields_to_embed = list(meta_fields_to_embed) if meta_fields_to_embed is not None else None
        self.embedding_separator = embedding_separator

    @component.output_types(documents=list[Document])
    def run(  # noqa: PLR0917 - Haystack calls it by keyword
        self,
        query: str,
        documents: list[Document],
        query_embedding: list[float] | None = None,
        top_k: int | None = None,
        scale_score: bool | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, list[Document]]:
        """
        Rank documents. Run-time values of `None` mean the ones given to the constructor.

        :param query: the query.
        :param documents: the candidates; duplicates by id are ranked once (the one with the higher score stays).
        :param query_embedding: d floats from the same model; `None` encodes the query.
        :param top_k: how many to return.
        :param scale_score: map scores to 0 … 1.
        :param score_threshold: leave out documents that score lower.
        :returns: `documents`: copies by score descending, equal ones by the score they came with, then by id; that
            score and rank stay in `meta["resrank"]` as `retrieval_score` and `retrieval_rank`.
        :raises TypeError: for a query or documents of another type.
        :raises ValueError: for a blank query, a bad `top_k`, vectors of another model, and NaN or zero vectors.
        """
        check_query(query)
        check_top_k(top_k)
        candidates = unique_documents(check_documents(documents))
        if not candidates:
            return {"documents": []}
        engine = self._loaded()
        check_vectors(candidates, engine.fingerprint, engine.dimension)
        _check_query_embedding(query_embedding, engine.dimension)
        vectors = self._vectors(candidates, engine)
        evidence = self._evidence(query, candidates, engine)
        try:
            raw = engine.rerank(query, vectors, evidence, query_embedding=query_embedding).tolist()
        except ValueError as error:
            raise _naming_documents(error, candidates) from None
        scaled = self.scale_score if scale_score is None else scale_score
        scores = [scaled_score(score, engine.config.mode) for score in raw] if scaled else raw
        threshold = self.score_threshold if score_threshold is None else score_threshold
        limit = self.top_k if top_k is None else top_k
        kept = [i for i, score in enumerate(scores) if threshold is None or score >= threshold]
        kept.sort(key=lambda i: (-raw[i], -score_or_lowest(candidates[i]), candidates[i].id))
        return {"documents": [self._ranked(candidates[i], i + 1, scores[i]) for i in kept[:limit]]}

    def _vectors(self, documents: list[Document], engine: ResRank) -> list[Any]:
        vectors: list[Any] = [document.embedding for document in documents]
        missing = [i for i, vector in enumerate(vectors) if vector is None]
        if not missing:
            return vectors
        hint = "set return_embedding=True on the retriever, and index with ResRankDocumentEmbedder"
        if self.on_missing_embedding == "raise":
            msg = f"{len(missing)} of {len(documents)} documents have no embedding ({documents[missing[0]].id}): {hint}"
            raise ValueError(msg)
        logger.warning(
            "{missing} of {total} documents have no embedding and are encoded now, which is slow: {hint}",
            missing=len(missing),
            total=len(documents),
            hint=hint,
        )
        texts = [
            document_text(documents[i], self.meta_fields_to_embed or [], self.embedding_separator) for i in missing
        ]
        for i, vector in zip(missing, engine.encode_passages(texts), strict=True):
            vectors[i] = vector
        return vectors

    def _evidence(self, query: str, documents: list[Document], engine: ResRank) -> Any:
        if not self.use_evidence or engine.config.mode == "paper":  # which does not read it
            return None
        from resrank.evidence import evidence_from_meta

        matches = engine.matcher.matches(query, [self._text(document) for document in documents])
        evidence, foreign = evidence_from_meta(query, [entry(document) for document in documents], matches)
        if foreign:
            logger.warning(
                "{foreign} of {total} documents carry first-stage evidence of another query, which is ignored",
                foreign=foreign,
                total=len(documents),
            )
        return evidence

    def _text(self, document: Document) -> str | None:
        """What `document_text` gives; of documents without text their vectors alone are read."""
        if document.content is None:
            return None
        return joined_text(document, self.meta_fields_to_embed or [], self.embedding_separator)

    def _ranked(self, document: Document, rank: int, score: float) -> Document:
        first = {RETRIEVAL_SCORE: document.score, RETRIEVAL_RANK: rank}
        return replace(
            document,
            score=score,
            meta=with_entry(document, first),
            embedding=document.embedding if self.return_embedding else None,
            sparse_embedding=document.sparse_embedding if self.return_embedding else None,
        )


def _naming_documents(error: ValueError, documents: list[Document]) -> ValueError:
    from resrank.candidates import UnusableVectorsError

    if not isinstance(error, UnusableVectorsError) or error.name != "passage_embeddings":
        return error
    ids = ", ".join(documents[row].id for row in error.rows[:3])
    more = ", …" if len(error.rows) > 3 else ""
    msg = (
        f"{len(error.rows)} of {len(documents)} documents have vectors that are zero or hold NaN or infinite values "
        f"({ids}{more}): embed these documents again"
    )
    return ValueError(msg)


def _check_query_embedding(query_embedding: list[float] | None, dimension: int) -> None:
    if query_embedding is None:
        return
    found = len(query_embedding) if hasattr(query_embedding, "__len__") else type(query_embedding).__name__
    if found != dimension:
        msg = (
            f"query_embedding must hold {dimension} floats, got {found}: use the same model for query "
            "and documents, and give it either by a connection or as an input, not both (Haystack joins the two lists)"
        )
        raise ValueError(msg)


def scaled_score(score: float, mode: str) -> float:
    """
    Map a score to 0 … 1, as `scale_score` does.

    :param score: of a list.
    :param mode: of the model: `evidence` or `paper`.
    :returns: its sigmoid in `evidence` mode, (1 + s) / 2 in `paper` mode.
    """
    if mode == "paper":
        return (1.0 + score) / 2.0
    return 1.0 / (1.0 + math.exp(-score)) if score >= 0 else math.exp(score) / (1.0 + math.exp(score))
