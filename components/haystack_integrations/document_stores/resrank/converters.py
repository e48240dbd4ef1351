# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Documents to points of the engine and back, without loss.

A point's payload is `Document.to_dict(flatten=False)` without the vectors and the score: `id`, `content`, `blob` and
`meta`. The engine keeps JSON, with two gaps that are closed here:

* Its number parser may return a float of 16 or 17 significant digits a unit in the last place off. Documents with such
  floats carry their meta a second time, as JSON text under `meta_json`, and are read from there.
* What JSON cannot hold (NaN, integers beyond 64 bits, dates, ...) is refused with the document's id and the key.

`TRAITS` say what kinds of values a collection has ever held. Filters are cheaper as long as a kind never occurred.
"""

import functools
import json
import math
import uuid
from collections.abc import Iterable
from typing import Any

import numpy as np
import qdrant_edge as edge
from haystack.dataclasses import ByteStream, Document, SparseEmbedding

from haystack_integrations.common.resrank.embedding import StoredEmbedding

from .engine_config import DENSE_VECTORS_NAME, SPARSE_VECTORS_NAME

# The namespace of qdrant-haystack, so that both stores give a document the same point id.
UUID_NAMESPACE = uuid.UUID("3896d314-1e95-4a3a-b45a-945f9f0b541d")

META_JSON = "meta_json"
HAS_LISTS = "lists"
HAS_EMPTY_LISTS = "empty_lists"
HAS_LONG_FLOATS = "long_floats"
TRAITS = frozenset({HAS_LISTS, HAS_EMPTY_LISTS, HAS_LONG_FLOATS})

_FIRST_INTEGER, _END_OF_INTEGERS = -(2**63), 2**64
_MAX_DEPTH = 100  # the engine cannot read back a payload nested deeper than 127
# A parser that multiplies digits by a power of ten, as the engine's does, is exact while both fit a float: digits up to
# 2**53 and powers up to 1e22. 15 digits and an exponent of 8 stay within both.
_EXACT_DIGITS = 15
_EXACT_EXPONENT = 8


@functools.lru_cache(maxsize=100_000)
def point_id(document_id: str) -> uuid.UUID:
    """
    Give the engine's id of a document.

    :param document_id: Any text.
    :returns: The same UUID that `qdrant-haystack` uses.
    """
    return uuid.uuid5(UUID_NAMESPACE, document_id)


def _is_exact(value: float) -> bool:
    """Say whether the engine is certain to return this float bit by bit."""
    digits, _, exponent = repr(value).lstrip("-").removesuffix(".0").partition("e")
    return len(digits.replace(".", "").lstrip("0")) <= _EXACT_DIGITS and abs(int(exponent or 0)) <= _EXACT_EXPONENT


def _is_text(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def json_value(value: Any, *, where: str, traits: set[str], depth: int = 0) -> Any:
    """
    Copy a value as the JSON that the engine keeps exactly.

    :param value: The value. Tuples become lists, as in any JSON.
    :param where: How to name the value in an error, such as `Document 'a': meta['year']`.
    :param traits: Gets those of `TRAITS` that the value has.
    :param depth: How deeply the value is nested.
    :returns: A copy made of dict, list, str, int, float, bool and `None`.
    :raises ValueError: If the engine would lose or change the value.
    """
    if isinstance(value, dict | list | tuple) and depth >= _MAX_DEPTH:
        msg = f"{where} is nested deeper than {_MAX_DEPTH} levels; flatten it."
        raise ValueError(msg)
    if isinstance(value, dict):
        copied = {}
        for key, item in value.items():
            if not isinstance(key, str) or not _is_text(key):
                msg = f"{where} has the key {key!r}; the store keeps keys of type str in valid Unicode only."
                raise ValueError(msg)
            copied[key] = json_value(item, where=f"{where}[{key!r}]", traits=traits, depth=depth + 1)
        return copied
    if isinstance(value, list | tuple):
        traits |= {HAS_LISTS} if value else {HAS_LISTS, HAS_EMPTY_LISTS}
        return [
            json_value(item, where=f"{where}[{position}]", traits=traits, depth=depth + 1)
            for position, item in enumerate(value)
        ]
    problem = _problem(value)
    if problem is not None:
        msg = f"{where} {problem}."
        raise ValueError(msg)
    if isinstance(value, float) and not _is_exact(value):
        traits.add(HAS_LONG_FLOATS)
    return value


def _problem(value: Any) -> str | None:
    """Say why the engine cannot keep a scalar, or None if it can."""
    if isinstance(value, str):
        return None if _is_text(value) else "holds half of a surrogate pair, which UTF-8 cannot encode; repair the text"
    if isinstance(value, int):  # bool too
        return None if _FIRST_INTEGER <= value < _END_OF_INTEGERS else "does not fit 64 bits; store it as a str"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"is {value}, which JSON cannot hold; leave it out or use None"
    if value is None:
        return None
    return (
        f"has the type {type(value).__name__}, which JSON cannot hold; use str, int, float, bool, list, dict or None "
        "(a date as text: .isoformat(), a numpy number: .item())"
    )


def meta_payload(meta: dict[str, Any], *, where: str, traits: set[str]) -> dict[str, Any]:
    """
    Make the part of a payload that holds a document's meta.

    :param meta: The document's meta.
    :param where: How to name it in an error.
    :param traits: Gets those of `TRAITS` that the meta has.
    :returns: `{"meta": ...}`, with `meta_json` if the engine would round a float.
    :raises ValueError: If the engine would lose or change a value.
    """
    if not isinstance(meta, dict):
        msg = f"{where} must be a dict, got {type(meta).__name__}."
        raise ValueError(msg)
    found: set[str] = set()
    plain = json_value(meta, where=where, traits=found)
    traits |= found
    return {"meta": plain, META_JSON: json.dumps(plain)} if HAS_LONG_FLOATS in found else {"meta": plain}


def dense_vector(embedding: Any, *, embedding_dim: int, name: str) -> list[float]:
    """
    Check a dense vector.

    :param embedding: `embedding_dim` finite numbers within the range of float32.
    :param embedding_dim: The dimension of the store.
    :param name: How to name the vector in an error, such as `the embedding of document 'a'`.
    :returns: The vector, rounded to float32, as Python floats.
    :raises ValueError: If the dimension differs or a value is not finite.
    """
    try:
        with np.errstate(over="ignore"):
            array = np.asarray(embedding, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        msg = f"{name} must be a list of {embedding_dim} floats, got {embedding!r:.80} ({error})."
        raise ValueError(msg) from error
    if array.shape != (embedding_dim,):
        got = array.shape[0] if array.ndim == 1 else f"the shape {array.shape}"
        msg = (
            f"{name} must have {embedding_dim} dimensions (embedding_dim of the store), got {got}. Use the model whose "
            "vectors the store holds, or a store in another folder with the embedding_dim of this model."
        )
        raise ValueError(msg)
    finite = np.isfinite(array)
    if not finite.all():
        position = int(np.argmin(finite))
        msg = f"{name} must hold finite float32 values, got {embedding[position]!r} at position {position}."
        raise ValueError(msg)
    values: list[float] = array.tolist()
    return values


def sparse_vector(embedding: SparseEmbedding, *, name: str) -> edge.SparseVector:
    """
    Check and translate a sparse vector.

    :param embedding: Distinct indices from 0 to 2**32 - 1 and as many finite float32 values.
    :param name: How to name the vector in an error.
    :returns: The engine's class.
    :raises ValueError: If an index or a value is out of range, or an index is there twice.
    """
    indices, values = list(embedding.indices), list(embedding.values)
    try:
        positions = np.asarray(indices, dtype=np.int64)
        with np.errstate(over="ignore"):
            weights = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        msg = f"{name} must hold int indices below 2**32 and float values ({error})."
        raise ValueError(msg) from error
    if positions.shape != weights.shape or positions.ndim != 1:
        msg = f"{name} must hold as many values as indices, got {positions.shape} and {weights.shape}."
        raise ValueError(msg)
    if indices and (positions.min() < 0 or positions.max() >= 2**32):
        msg = f"{name} must hold indices from 0 to 2**32 - 1, got {positions.min()} to {positions.max()}."
        raise ValueError(msg)
    if len(set(indices)) != len(indices):
        msg = f"{name} holds an index more than once; add up the values of equal indices first."
        raise ValueError(msg)
    if not np.isfinite(weights).all():
        msg = f"{name} must hold finite float32 values, got NaN or an infinite value."
        raise ValueError(msg)
    return edge.SparseVector(positions.tolist(), weights.tolist())


def to_point(document: Document, *, embedding_dim: int, use_sparse_embeddings: bool, traits: set[str]) -> edge.Point:
    """
    Make a point of a document.

    :param document: The document; its score is left out.
    :param embedding_dim: The dimension of the store.
    :param use_sparse_embeddings: Whether the store keeps sparse vectors; if not, the document's is left out.
    :param traits: Gets those of `TRAITS` that the document's meta has.
    :returns: The point.
    :raises ValueError: If a part of the document cannot be kept as it is.
    """
    name = f"Document {document.id!r}"
    document_id = json_value(document.id, where=f"{name}: id", traits=traits)
    if not isinstance(document_id, str):
        msg = f"{name}: id must be a str, got {type(document_id).__name__}."
        raise ValueError(msg)
    blob = document.blob
    payload: dict[str, Any] = {
        "id": document_id,
        "content": json_value(document.content, where=f"{name}: content", traits=traits),
        "blob": None,
    }
    if blob is not None:
        payload["blob"] = {
            "data": list(blob.data),
            **meta_payload(blob.meta, where=f"{name}: blob.meta", traits=set()),
            "mime_type": json_value(blob.mime_type, where=f"{name}: blob.mime_type", traits=set()),
        }
    payload |= meta_payload(document.meta, where=f"{name}: meta", traits=traits)
    vectors: dict[str, Any] = {}
    if document.embedding is not None:
        vectors[DENSE_VECTORS_NAME] = dense_vector(
            document.embedding, embedding_dim=embedding_dim, name=f"{name}: embedding"
        )
    if use_sparse_embeddings and document.sparse_embedding is not None:
        vectors[SPARSE_VECTORS_NAME] = sparse_vector(document.sparse_embedding, name=f"{name}: sparse_embedding")
    return edge.Point(point_id(document_id), vectors, payload)


def payload_meta(payload: dict[str, Any]) -> dict[str, Any]:
    """
    Read the meta of a payload.

    :param payload: A payload, or the part of one, as written by `meta_payload`.
    :returns: The meta, exactly as written.
    """
    exact = payload.get(META_JSON)
    meta: dict[str, Any] = json.loads(exact) if exact is not None else payload.get("meta") or {}
    return meta


def to_document(point: edge.Record | edge.ScoredPoint, *, score: float | None = None) -> Document:
    """
    Make a document of a point.

    :param point: A record with its payload, and with vectors if the document shall have them.
    :param score: The score to set.
    :returns: The document.
    """
    payload = point.payload or {}
    vectors: Any = point.vector or {}
    dense, sparse, blob = vectors.get(DENSE_VECTORS_NAME), vectors.get(SPARSE_VECTORS_NAME), payload.get("blob")
    if blob is not None:
        blob = ByteStream(data=bytes(blob["data"]), meta=payload_meta(blob), mime_type=blob["mime_type"])
    return Document(
        id=payload["id"],
        content=payload["content"],
        blob=blob,
        meta=payload_meta(payload),
        score=score,
        embedding=None if dense is None else StoredEmbedding(dense),
        sparse_embedding=None if sparse is None else _sparse_embedding(sparse),
    )


def _sparse_embedding(vector: edge.SparseVector) -> SparseEmbedding:
    # Lists that are cheap to deep-copy, as the dense one.
    indices: Any = StoredEmbedding(vector.indices)
    return SparseEmbedding(indices=indices, values=StoredEmbedding(vector.values))


def document_fingerprint(document: Document) -> str | None:
    """
    Read which model made the document's vectors.

    :param document: A document, with `meta["resrank"]["fingerprint"]` if the embedder of ResRank wrote it.
    :returns: The fingerprint, or `None`.
    :raises ValueError: If there is one that is no text.
    """
    return meta_fingerprint(document.meta, where=f"Document {document.id!r}: meta")


def meta_fingerprint(meta: dict[str, Any], *, where: str) -> str | None:
    """
    Read the fingerprint of a meta.

    :param meta: The meta of a document.
    :param where: How to name it in an error.
    :returns: The fingerprint, or `None`.
    :raises ValueError: If there is one that is no text.
    """
    own = meta.get("resrank")
    fingerprint = own.get("fingerprint") if isinstance(own, dict) else None
    if fingerprint is not None and not isinstance(fingerprint, str):
        msg = f"{where}['resrank']['fingerprint'] must be a str, got {type(fingerprint).__name__}."
        raise ValueError(msg)
    return fingerprint


def first_names(names: Iterable[str], *, limit: int = 5) -> str:
    """
    List some names for an error text.

    :param names: The names.
    :param limit: How many to show.
    :returns: Such as `'a', 'b' and 3 more`.
    """
    every = list(names)
    shown = ", ".join(repr(name) for name in every[:limit])
    return f"{shown} and {len(every) - limit} more" if len(every) > limit else shown
