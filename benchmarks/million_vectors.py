# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
As many vectors as asked for, from as many real ones as a laptop encodes.

1. Passages and queries are encoded by resrank-mini, once; the vectors are kept under `.resrank/benchmarks`.
2. A collection takes the real passages first, then perturbed copies: `normalise(v + s · n)`, where `n` is drawn from a
   normal distribution with the covariance of the real vectors, scaled to length 1 on average. Noise that is alike in
   all directions would be nearly orthogonal to everything, and its neighbours arbitrary; this noise keeps the spectrum,
   and so the number of directions in which vectors really differ.
3. `s` is drawn for each copy from 0.3 … 1.1, so that copies have a cosine of .96 … .67 to their origin. None is a
   near-duplicate, and the copies of different origins overlap. The collection is denser than the real vectors, as one
   of a million is denser than one of 20,000: the benchmark prints both distributions.
4. Queries are held out: one half real queries, one half copies of passages made like those of the collection.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .passages import QUERIES, documents

SMALLEST_NOISE, LARGEST_NOISE = 0.3, 1.1
CACHE = Path(".resrank") / "benchmarks"
_BLOCK = 50_000


@dataclass(frozen=True)
class RealVectors:
    """
    What the model made.

    :param texts: of the passages.
    :param passages: (passages, dimension) float32, unit length.
    :param queries: (queries, dimension) float32, unit length.
    :param source: where the texts come from.
    :param passages_per_s: how fast they were encoded, on the machine and in the run that encoded them.
    """

    texts: list[str]
    passages: np.ndarray
    queries: np.ndarray
    source: str
    passages_per_s: float


def real_vectors(passages: int, queries: int, *, small: bool = False) -> RealVectors:
    """
    Encode texts, or read what an earlier run encoded.

    :param passages: how many, spread over the BEIR folders in RESRANK_DATA, or the standard library's without it.
    :param queries: how many, spread likewise; without RESRANK_DATA there are a few.
    :param small: from one package of the standard library, without a cache: for the smoke test.
    :returns: the vectors; fewer where there are fewer texts.
    """
    from resrank import ResRank

    folder = None if small else os.environ.get("RESRANK_DATA")
    texts, asked = _beir_texts(Path(folder), passages, queries) if folder else _own_texts(passages, small=small)
    source = f"{len(texts):,} passages of " + ("BEIR folders" if folder else "the Python standard library")
    model = ResRank.from_pretrained()
    digest = hashlib.sha256("\0".join([model.fingerprint, *texts, "", *asked]).encode()).hexdigest()[:16]
    kept = CACHE / f"vectors-{digest}.npz"
    if not small and kept.is_file():
        with np.load(kept) as file:
            return RealVectors(texts, file["passages"], file["queries"], source, float(file["passages_per_s"]))
    started = time.perf_counter()
    parts = [model.encode_passages(texts[start : start + 500]) for start in range(0, len(texts), 500)]
    speed = len(texts) / (time.perf_counter() - started)
    made = RealVectors(
        texts,
        np.concatenate(parts).astype(np.float32),
        np.asarray(model.encode_queries(asked), np.float32),
        source,
        speed,
    )
    if not small:
        CACHE.mkdir(parents=True, exist_ok=True)
        np.savez(kept, passages=made.passages, queries=made.queries, passages_per_s=speed)
    return made


def _own_texts(passages: int, *, small: bool) -> tuple[list[str], list[str]]:
    return [document.content or "" for document in documents(passages, small=small)], list(QUERIES)


def _beir_texts(folder: Path, passages: int, queries: int) -> tuple[list[str], list[str]]:
    texts: list[str] = []
    asked: list[str] = []
    for path in sorted(folder.glob("*/corpus.jsonl.gz")):
        texts += [f"{row.get('title') or ''}\n{row['text']}".strip() for row in _rows(path)]
        asked += [row["text"] for row in _rows(path.with_name("queries.jsonl.gz"))]
    return _spread([text for text in texts if text], passages), _spread(asked, queries)


def _rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _spread(items: list[str], count: int) -> list[str]:
    return items if count >= len(items) else [items[i * len(items) // count] for i in range(count)]


class Growth:
    """Perturbed copies of real vectors; the same ones for the same seed."""

    def __init__(self, real: np.ndarray, seed: int = 0) -> None:
        """
        Learn the directions in which the real vectors differ.

        :param real: (vectors, dimension) float32, unit length.
        :param seed: of the noise.
        """
        self._real = real
        centred = real - real.mean(axis=0)
        values, directions = np.linalg.eigh(centred.T @ centred / len(real))
        scales = np.sqrt(np.maximum(values, 0) / max(float(values.sum()), 1e-12))
        self._colour = (directions * scales).T.astype(np.float32)  # rows: directions times their spread
        self._random = np.random.default_rng(seed)

    def copies(self, origins: np.ndarray) -> np.ndarray:
        """
        Perturb.

        :param origins: rows of the real vectors to copy, which may repeat.
        :returns: (origins, dimension) float32, unit length.
        """
        noise = self._random.standard_normal((len(origins), len(self._colour)), dtype=np.float32) @ self._colour
        size = self._random.uniform(SMALLEST_NOISE, LARGEST_NOISE, (len(origins), 1)).astype(np.float32)
        made = self._real[origins] + size * noise
        return made / np.linalg.norm(made, axis=1, keepdims=True)

    def collection(self, count: int) -> np.ndarray:
        """
        Make a collection.

        :param count: how many vectors.
        :returns: (count, dimension) float32: the real ones, then copies of each in turn, in random order.
        """
        made = np.empty((count, self._real.shape[1]), np.float32)
        made[: len(self._real)] = self._real[:count]
        for start in range(len(self._real), count, _BLOCK):
            end = min(start + _BLOCK, count)
            made[start:end] = self.copies(np.arange(start, end) % len(self._real))
        self._random.shuffle(made)
        return made


def exact_neighbours(vectors: np.ndarray, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Search by brute force, in blocks.

    :param vectors: (vectors, dimension) float32.
    :param queries: (queries, dimension) float32.
    :param count: neighbours of each query.
    :returns: rows and inner products, (queries, count) each, best first.
    """
    rows = np.empty((len(queries), 0), np.int64)
    scores = np.empty((len(queries), 0), np.float32)
    for start in range(0, len(vectors), _BLOCK):
        block = queries @ vectors[start : start + _BLOCK].T
        best = np.argpartition(-block, min(count, block.shape[1] - 1), axis=1)[:, :count]
        rows = np.concatenate([rows, best + start], axis=1)
        scores = np.concatenate([scores, np.take_along_axis(block, best, axis=1)], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        rows, scores = np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)
    return rows, scores
