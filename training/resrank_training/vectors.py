# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Vectors of a frozen encoder: every text once, kept on disk, so that a stage only runs the reranker."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resrank import ResRank
from resrank.evidence import Float32Array
from resrank_evals.results import whole_file

from .collating import Vectors
from .lists import ListSet


def passage_vectors(folder: Path, fingerprint: str) -> Path:
    """
    Where a folder of training lists keeps the vectors of its passages, when `mine` had them at hand.

    :param folder: of the lists.
    :param fingerprint: of the encoder.
    :returns: the file: (passages, d) float32 in the order of `passages.jsonl`.
    """
    return folder / f"passages-{fingerprint}.npy"


def write_vectors(path: Path, vectors: Float32Array) -> None:
    """
    Write a file as a whole or not at all.

    :param path: of the file.
    :param vectors: (n, d) float32.
    """
    with whole_file(path) as file:
        np.save(file, vectors)


def encode_sets(model: ResRank, sets: Sequence[ListSet], folder: Path, *, progress_bar: bool = True) -> Vectors:
    """
    Encode all passages and queries of list sets, or read what an earlier run encoded.

    :param model: whose encoder is frozen.
    :param sets: of the stage.
    :param folder: where vectors are kept, one file a set, kind and encoder.
    :param progress_bar: show one when it takes over two seconds.
    :returns: the vectors.
    """
    folder.mkdir(parents=True, exist_ok=True)
    passages, rows, queries, query_rows = [], [], [], []
    for of in sets:
        passages.append(
            _kept(model, of, folder, [p.content for p in of.passages.values()], is_query=False, bar=progress_bar)
        )
        rows.append({id_: row for row, id_ in enumerate(of.passages)})
        queries.append(_kept(model, of, folder, [each.query for each in of.lists], is_query=True, bar=progress_bar))
        query_rows.append({each.query_id: row for row, each in enumerate(of.lists)})
    return Vectors(passages, rows, queries, query_rows)


def _kept(model: ResRank, of: ListSet, folder: Path, texts: list[str], *, is_query: bool, bar: bool) -> Float32Array:
    kind = "queries" if is_query else "passages"
    key = hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    paths = [folder / f"{of.name}-{kind}-{key}-{model.fingerprint}.npy"]
    if of.folder is not None and not is_query:
        paths.insert(0, passage_vectors(of.folder, model.fingerprint))
    for path in paths:
        if path.is_file():
            kept: Float32Array = np.load(path, allow_pickle=False)
            if kept.shape != (len(texts), model.dimension):
                msg = f"{path}: expected {(len(texts), model.dimension)} vectors, got {kept.shape}: remove it"
                raise ValueError(msg)
            return kept
    vectors = (model.encode_queries if is_query else model.encode_passages)(texts, progress_bar=bar)
    write_vectors(paths[-1], vectors)
    return vectors
