# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What ResRank writes beside a document, under `meta["resrank"]`, and the checks on it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from haystack import Document

from .embedding import StoredEmbedding
from .stored_meta import StoredMeta

if TYPE_CHECKING:
    from resrank import ResRank

META_KEY = "resrank"
FINGERPRINT = "fingerprint"
EMBEDDED_AS = "embedded_as"
SOURCE_HASH = "source_hash"
TRUNCATED_TOKENS = "truncated_tokens"
RETRIEVAL_SCORE = "retrieval_score"
RETRIEVAL_RANK = "retrieval_rank"


def entry(document: Document) -> dict[str, Any]:
    """
    What ResRank knows of a document.

    :param document: any document.
    :returns: its entry, or an empty one; not to be changed.
    """
    value = document.meta.get(META_KEY)
    return value if isinstance(value, dict) else {}


def with_entry(document: Document, values: Mapping[str, Any]) -> dict[str, Any]:
    """
    A document's meta with more in its entry.

    :param document: is not changed.
    :param values: to add or replace.
    :returns: a new meta.
    """
    return StoredMeta({**document.meta, META_KEY: StoredMeta({**entry(document), **values})})


def check_vectors(documents: Sequence[Document], fingerprint: str, dimension: int) -> None:
    """
    Refuse vectors that another model made.

    :param documents: those without a vector are passed over.
    :param fingerprint: of the model that is to read the vectors.
    :param dimension: of its vectors.
    :raises ValueError: naming how many, an id, what was expected and what to do.
    """
    # The usual case in one pass: 100 documents a query, twice.
    if all(
        type(d.embedding) is StoredEmbedding
        and len(d.embedding) == dimension
        and type(own := d.meta.get(META_KEY)) is StoredMeta
        and own.get(FINGERPRINT) == fingerprint
        for d in documents
    ):
        return
    with_vectors = [d for d in documents if d.embedding is not None]
    foreign = [d for d in with_vectors if entry(d).get(FINGERPRINT, fingerprint) != fingerprint]
    if foreign:
        msg = (
            f"{len(foreign)} of {len(documents)} documents carry vectors of another model (document {foreign[0].id}: "
            f"expected fingerprint {fingerprint}, got {entry(foreign[0])[FINGERPRINT]}): embed them again with this "
            "model (`resrank index` does it), or use the model that they were indexed with"
        )
        raise ValueError(msg)
    wrong = [d for d in with_vectors if _size(d.embedding) != dimension]
    if wrong:
        msg = (
            f"{len(wrong)} of {len(documents)} documents have vectors of another size (document {wrong[0].id}: "
            f"expected {dimension}, got {_size(wrong[0].embedding)}): embed them again with this model"
        )
        raise ValueError(msg)


def index_stamp(engine: ResRank, *, meta_fields: Sequence[str] | None, separator: str, sparse: bool) -> dict[str, str]:
    """
    What indexing writes into a document's entry to say how it was embedded.

    :param engine: the model.
    :param meta_fields: put before the content.
    :param separator: between them; without fields it does not matter.
    :param sparse: whether term weights are stored; without them BM25 settings do not matter.
    :returns: the model's fingerprint, and a hash of the other settings that decide what is stored: 16 hexadecimal
        digits, the same in every process.
    """
    lexical = asdict(engine.config.lexical) if sparse else None
    settings = [lexical, [separator, *meta_fields] if meta_fields else None]
    hashed = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    return {FINGERPRINT: engine.fingerprint, EMBEDDED_AS: hashed}


def document_text(document: Document, meta_fields: Sequence[str], separator: str) -> str:
    """
    The text that stands for a document, the same when indexing and when encoding a missing vector.

    :param document: with content.
    :param meta_fields: put before the content, where they are set.
    :param separator: between them.
    :returns: the text.
    :raises ValueError: when the document has no text, or one that is no Unicode.
    """
    text = joined_text(document, meta_fields, separator)
    if not text.strip():
        kind = "no content" if document.content is None else "blank content"
        msg = f"document {document.id} has {kind}: there is nothing to embed; give it a text or leave it out"
        raise ValueError(msg)
    _check_unicode(text, f"document {document.id}")
    return text


def joined_text(document: Document, meta_fields: Sequence[str], separator: str) -> str:
    """
    Meta fields and content.

    :param document: any document.
    :param meta_fields: put before the content, where they are set.
    :param separator: between them.
    :returns: the text; empty when there is none.
    """
    parts = [str(document.meta[key]) for key in meta_fields if document.meta.get(key) is not None]
    return separator.join([*parts, document.content or ""])


def check_documents(documents: Any) -> list[Document]:
    """
    Check the type that components take.

    :param documents: should be a list of documents.
    :returns: the list.
    :raises TypeError: saying what came.
    """
    if isinstance(documents, list) and all(isinstance(d, Document) for d in documents):
        return documents
    found = type(documents).__name__
    if isinstance(documents, list):
        found = f"a list with {next(type(d).__name__ for d in documents if not isinstance(d, Document))}"
    msg = f"documents must be a list of haystack Documents, got {found}. For a query text use ResRankTextEmbedder"
    raise TypeError(msg)


def unique_documents(documents: Sequence[Document]) -> list[Document]:
    """
    Each document once.

    :param documents: any.
    :returns: of those with one id, the one with the highest score, at the place of the first.
    """
    best: dict[str, Document] = {}
    for document in documents:
        other = best.get(document.id)
        if other is None or score_or_lowest(document) > score_or_lowest(other):
            best[document.id] = document
    return list(best.values())


def score_or_lowest(document: Document) -> float:
    """
    A document's score, to sort by.

    :param document: any document.
    :returns: its score; -inf when it has none or NaN.
    """
    return -math.inf if document.score is None or math.isnan(document.score) else document.score


def check_query(query: Any) -> str:
    """
    Check a query.

    :param query: should be a text that is not blank.
    :returns: the query.
    :raises TypeError: when it is not a string.
    :raises ValueError: when it is blank, or no Unicode.
    """
    if not isinstance(query, str):
        msg = f"the query must be a string, got {type(query).__name__}. For documents use ResRankDocumentEmbedder"
        raise TypeError(msg)
    if not query.strip():
        msg = "the query is blank: expected a question or keywords"
        raise ValueError(msg)
    _check_unicode(query, "the query")
    return query


def check_top_k(top_k: int | None) -> None:
    """
    Check a number of results.

    :param top_k: `None` means all.
    :raises ValueError: when it is not a positive integer.
    """
    if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k <= 0):
        msg = f"top_k must be a positive integer or None, got {top_k!r}"
        raise ValueError(msg)


def _size(vector: Any) -> int | str:
    return len(vector) if hasattr(vector, "__len__") else type(vector).__name__


def _check_unicode(text: str, where: str) -> None:
    # Half of an emoji, from text that was cut by UTF-16 units: neither tokenizers nor stores take it.
    try:
        text.encode()
    except UnicodeEncodeError as error:
        msg = (
            f"{where} has a lone surrogate ({text[error.start]!r} at character {error.start}), which no Unicode text "
            "may have: replace it, e.g. by text.encode('utf-8', 'replace').decode()"
        )
        raise ValueError(msg) from error
