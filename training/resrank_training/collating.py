# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""From drawn lists to the tensors of a step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from resrank.batching import token_budget_batches
from resrank.encoder import Encoder, pad
from resrank.evidence import Float32Array
from resrank.reranker import Prompt

from .drawing import DrawnList
from .lists import ListSet

_NO_KEY = -1


@dataclass(frozen=True)
class Vectors:
    """
    Vectors of a frozen encoder.

    :param passages: one (passages, d) float32 array a list set, in the order of its passages.
    :param rows: passage id to row, a list set.
    :param queries: one (lists, d) float32 array a list set.
    :param query_rows: query id to row, a list set.
    """

    passages: Sequence[Float32Array]
    rows: Sequence[dict[str, int]]
    queries: Sequence[Float32Array]
    query_rows: Sequence[dict[str, int]]


class Collator:
    """
    Makes batches: each passage of a step once, however many lists hold it.

    :param sets: the list sets of the stage.
    :param encoder: tokenises for an encoder that is trained; nothing else of it is used.
    :param prompt: tokenises a query for the reranker.
    :param tokens_per_chunk: padded tokens of a chunk of passages.
    :param vectors: of a frozen encoder; then no text is tokenised for it.
    """

    def __init__(
        self,
        sets: Sequence[ListSet],
        encoder: Encoder,
        prompt: Callable[[str], Prompt],
        tokens_per_chunk: int,
        vectors: Vectors | None = None,
    ) -> None:
        self._sets, self._prompt, self._tokens_per_chunk = sets, prompt, tokens_per_chunk
        self._encoder, self._vectors = encoder, vectors

    def __call__(self, drawn: Sequence[DrawnList]) -> dict[str, Any]:
        """
        Make a batch.

        :param drawn: lists.
        :returns: `prompts` (one a list), and tensors: `index` (lists, candidates) int64 into the step's passages,
            `mask` (lists, candidates) bool, `features` and `shown` (lists, candidates, 10) float32, `ranks` int64 and
            `grades` float32 (lists, candidates), `keys` (passages,) and `positive_keys` (lists, positives) int64;
            further `query_ids`, `query_mask` and `chunks` of token ids and masks with `order`, or `query_vectors` and
            `passage_vectors` of a frozen encoder.
        """
        place: dict[tuple[int, str], int] = {}
        index = [[place.setdefault((d.source, d.of.passages[row]), len(place)) for row in d.rows] for d in drawn]
        contents = [self._sets[source].passages[id_].content for source, id_ in place]
        positives = [
            [_key(self._sets[d.source].passages[d.of.passages[i]].content) for i in d.positives] for d in drawn
        ]
        batch: dict[str, Any] = {
            "prompts": [self._prompt(d.of.query) for d in drawn],
            "index": _padded(index, 0, torch.int64),
            "mask": _padded([[True] * len(d.rows) for d in drawn], False, torch.bool),
            "features": _padded([d.features for d in drawn], float("nan"), torch.float32),
            "shown": _padded([d.shown for d in drawn], float("nan"), torch.float32),
            "ranks": _padded([d.ranks for d in drawn], 0, torch.int64),
            "grades": _padded([d.grades for d in drawn], 0.0, torch.float32),
            "keys": torch.tensor([_key(content) for content in contents]),
            "positive_keys": _padded(positives, _NO_KEY, torch.int64),
        }
        return batch | (self._texts(drawn, contents) if self._vectors is None else _stored(self._vectors, drawn, place))

    def _texts(self, drawn: Sequence[DrawnList], contents: list[str]) -> dict[str, Any]:
        encoder, cpu = self._encoder, torch.device("cpu")
        padding = int(encoder.tokenizer.pad_token_id)
        queries, _ = encoder.tokenize([d.of.query for d in drawn], is_query=True)
        passages, _ = encoder.tokenize(contents, is_query=False)
        batches = list(token_budget_batches([len(ids) for ids in passages], self._tokens_per_chunk))
        query_ids, query_mask = pad(queries, padding, cpu)
        return {
            "query_ids": query_ids,
            "query_mask": query_mask,
            "chunks": [pad([passages[i] for i in rows], padding, cpu) for rows in batches],
            "order": torch.argsort(torch.tensor([i for rows in batches for i in rows])),
        }


def _stored(of: Vectors, drawn: Sequence[DrawnList], place: dict[tuple[int, str], int]) -> dict[str, Any]:
    passages = np.stack([of.passages[source][of.rows[source][id_]] for source, id_ in place])
    queries = np.stack([of.queries[d.source][of.query_rows[d.source][d.of.query_id]] for d in drawn])
    return {"passage_vectors": torch.from_numpy(passages), "query_vectors": torch.from_numpy(queries)}


@lru_cache(maxsize=1 << 17)
def _key(content: str) -> int:
    """The same text is the same passage, from whatever set it comes."""
    digest = hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1  # positive


def _padded(rows: Sequence[Any], value: Any, dtype: torch.dtype) -> torch.Tensor:
    tensors = [torch.as_tensor(np.asarray(row), dtype=dtype) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value)
