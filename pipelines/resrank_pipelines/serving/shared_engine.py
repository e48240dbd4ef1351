# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The model as the components of a server see it: what comes at once runs in shared forward passes, or side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from haystack_integrations.common.resrank import ResRankModel
from resrank import TruncationReport
from resrank.batching import token_budget_batches
from resrank.encoder import TOKENS_PER_BATCH
from resrank.query_memory import QueryMemory
from resrank.threads import BatchThreads

from .batcher import Batcher, Lane
from .work import Work, current

if TYPE_CHECKING:
    from resrank import Evidence, ResRank

# Tokens that fill a device: more lists in one pass are not faster, but wait for each other. Measured on 2 cores with
# resrank-mini: 4 lists of 10 in one pass take as long as 1.3 alone, 4 lists of 100 as long as 3.2.
_LIST_TOKENS = {"cpu": 512, "mps": 4_096, "cuda": 32_768}
_QUERY_TOKENS = {"cpu": 512, "mps": 4_096, "cuda": 16_384}
# A turn of documents to encode takes two passes: others wait that long.
_PASSES_A_TURN = 2
_CHARACTERS_PER_TOKEN = 3  # for budgets: counted texts would be tokenised twice

# Served weights do not change: nothing to look through for changes.
_UNCHANGING = nn.Module()

Observer = Callable[[str, int, int], None]
TokenCounter = Callable[[str, int], None]


class SharedEngine:
    """
    Does what `ResRank` does, for many threads at once.

    Queries are encoded together, lists are scored together (never mixed: each list sees its own passages alone), and
    documents of several requests fill the passes of the encoder. Results are those of one request alone up to float
    rounding: padding and the number of rows change the last bits of float32 (docs/serving.md has figures).

    Without sharing, each query and each list has a forward pass of its own, and so have the documents of each request.

    On a CPU the passes of a small model run side by side, a thread each, and one that is alone takes all threads. A
    pass on several threads waits at each operator for the slowest of them; beside requests that want the same cores it
    took four times as long as on one thread (`docs/LOG.md`).

    Whatever is not here goes to the model itself.

    :param engine: the loaded model.
    :param share: whether requests share forward passes.
    :param observe_pass: told of each shared pass: lane, items, requests.
    :param count_tokens: told how many tokens were read: `query` or `passage`, and the number.
    """

    def __init__(
        self,
        engine: ResRank,
        *,
        share: bool = True,
        observe_pass: Observer | None = None,
        count_tokens: TokenCounter | None = None,
    ) -> None:
        self._engine = engine
        self._count = count_tokens or (lambda *_: None)
        self._queries = QueryMemory()
        self._guard = threading.Lock()
        self._torch_threads = torch.get_num_threads()
        device = engine.runtime.device.type
        self._tokens_per_pass = None if share else 1  # one text or list fills a pass of its own
        lanes: dict[str, Lane] = {
            "queries": Lane(self._encode_queries, _QUERY_TOKENS.get(device, 4_096) if share else 1),
            "lists": Lane(self._score, _LIST_TOKENS.get(device, 4_096) if share else 1),
            "others": Lane(lambda functions: [function() for function in functions], 1),
        }
        self._passage_tokens = TOKENS_PER_BATCH.get(device, 8_192) * _PASSES_A_TURN
        if share:
            lanes["passages"] = Lane(self._encode_passages, self._passage_tokens)
        at_once = BatchThreads(engine.encoder).at_once
        engine.allow_passes(at_once)
        begin = self._begin if at_once > 1 else None
        self._batcher = Batcher(lanes, observe_pass if share else None, workers=at_once, begin=begin)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def close(self) -> None:
        """
        Finish what waits, and let the workers go.
        """
        self._batcher.close()
        self._engine.allow_passes(1)
        torch.set_num_threads(torch.get_num_threads())  # new threads get the number that was set last, anywhere

    def encode_queries(self, queries: Sequence[str], **_: Any) -> Any:
        """
        Encode queries, together with those of other requests.

        :param queries: a list of texts.
        :returns: (n, d) float32 unit vectors.
        """
        work = current.get() or Work()
        with work.timed("encode"):
            found = {query: self._remembered(query) for query in queries}
            missing = [query for query, known in found.items() if known is None]
            limit = self._engine.encoder.max_query_length
            costs = [_tokens(query, limit) for query in missing]
            for query, (vector, cut, tokens) in zip(missing, self._run("queries", missing, costs, work), strict=True):
                found[query] = (vector, cut)
                work.tokens += tokens
                with self._guard:
                    self._queries.put(query, vector, cut)
        known = [value for value in found.values() if value is not None]
        if any(cut for _vector, cut in known):
            work.warn(f"the query is longer than the {limit} tokens that the encoder takes and was cut")
        return np.stack([value[0] for query in queries if (value := found[query]) is not None])

    def encode_passages(self, passages: Sequence[str], max_tokens: int | None = None, **_: Any) -> Any:
        """
        Encode passages, in the passes of other requests' passages.

        :param passages: a list of texts.
        :param max_tokens: cut passages after so many tokens; `None` after as many as the encoder reads.
        :returns: (n, d) float32 unit vectors.
        """
        work = current.get() or Work()
        limit = self._engine.encoder.max_length
        with work.timed("encode"):
            items = [(text, max_tokens) for text in passages]
            results = self._run_passages(items, [_tokens(text, limit) for text in passages], work)
        work.tokens += sum(tokens for _vector, _cut, tokens in results)
        cut = sum(1 for _vector, lost, _tokens in results if lost)
        if cut:
            limit = limit if max_tokens is None else min(limit, max_tokens)
            work.warn(f"{cut} of {len(passages)} documents are longer than {limit} tokens and were cut")
        return np.stack([vector for vector, _cut, _tokens in results])

    def rerank(
        self,
        query: str,
        passage_embeddings: Any,
        evidence: Evidence | None = None,
        query_embedding: Any = None,
        **_: Any,
    ) -> Any:
        """
        Score passages against a query, in one pass with other requests' lists.

        :param query: the query.
        :param passage_embeddings: (n, d) vectors.
        :param evidence: of these candidates.
        :param query_embedding: (d,) vector; `None` encodes the query.
        :returns: (n,) float32 scores in input order.
        """
        vector = self.encode_queries([query])[0] if query_embedding is None else query_embedding
        work = current.get() or Work()
        cost = _tokens(query, self._engine.config.reranker.max_query_length) + len(passage_embeddings)
        work.candidates += len(passage_embeddings)
        with work.timed("rank"):
            ((scores, cut),) = self._run("lists", [(query, passage_embeddings, evidence, vector)], [cost], work)
        if cut:
            limit = self._engine.config.reranker.max_query_length
            work.warn(f"the query is longer than the {limit} tokens that the reranker takes and was cut")
        return scores

    def in_turn(self, function: Callable[[], Any]) -> Any:
        """
        Run something in a thread of the passes when it is its turn.

        :param function: what to do.
        :returns: its result.
        """
        work = current.get() or Work()
        return self._run("others", [function], [1], work)[0]

    def _run(self, lane: str, items: Sequence[Any], costs: Sequence[int], work: Work) -> Sequence[Any]:
        work.check()
        return self._batcher.run(lane, items, costs, lambda: work.abandoned)

    def _run_passages(self, items: list[tuple[str, int | None]], costs: list[int], work: Work) -> Sequence[Any]:
        if self._tokens_per_pass is None:
            return self._run("passages", items, costs, work)
        batches = list(token_budget_batches(costs, self._passage_tokens))
        encode = [partial(self._encode_passages, [items[place] for place in batch]) for batch in batches]
        found: list[Any] = [None] * len(items)
        for batch, results in zip(batches, self._run("others", encode, [1] * len(batches), work), strict=True):
            for place, result in zip(batch, results, strict=True):
                found[place] = result
        return found

    def _remembered(self, query: str) -> Any:
        with self._guard:
            return self._queries.get(query, _UNCHANGING)

    def _begin(self, alone: bool) -> None:
        torch.set_num_threads(self._torch_threads if alone else 1)

    def _encode_queries(self, queries: list[str]) -> list[tuple[Any, int, int]]:
        unique, report = list(dict.fromkeys(queries)), TruncationReport()
        vectors = self._engine.encode_queries(unique, report=report, tokens_per_batch=self._tokens_per_pass)
        tokens = report.tokens_per_text or (0,) * len(unique)  # none were read of a query that the model remembers
        self._count("query", sum(tokens))
        found = dict(zip(unique, zip(vectors, report.cut_per_text, tokens, strict=True), strict=True))
        return [found[query] for query in queries]

    def _encode_passages(self, items: list[tuple[str, int | None]]) -> list[tuple[Any, int, int]]:
        found: list[Any] = [None] * len(items)
        for limit in dict.fromkeys(each for _, each in items):
            places = [place for place, (_, each) in enumerate(items) if each == limit]
            texts, report = [items[place][0] for place in places], TruncationReport()
            vectors = self._engine.encode_passages(texts, max_tokens=limit, report=report)
            self._count("passage", sum(report.tokens_per_text))
            encoded = zip(vectors, report.cut_per_text, report.tokens_per_text, strict=True)
            for place, each in zip(places, encoded, strict=True):
                found[place] = each
        return found

    def _score(self, lists: list[tuple[str, Any, Evidence | None, Any]]) -> list[tuple[Any, int]]:
        queries, passages, evidence, vectors = (list(column) for column in zip(*lists, strict=True))
        report = TruncationReport()
        scores = self._engine.rerank_batch(
            queries, passages, evidence, vectors, report, tokens_per_batch=self._tokens_per_pass
        )
        return list(zip(scores, report.cut_per_text, strict=True))


class SharedModel(ResRankModel):
    """
    A handle that gives every component the same `SharedEngine`.

    :param handle: what it stands for.
    :param engine: what `load` gives.
    """

    def __init__(self, handle: ResRankModel, engine: SharedEngine) -> None:
        super().__init__(handle.model, device=handle.device, dtype=handle.dtype)
        self._shared = engine

    def load(self, *parts: str) -> Any:
        """
        Get the shared model.

        :param parts: `encoder`, `reranker`.
        :returns: the model, with these parts loaded.
        """
        if parts:
            self._shared.load(*parts)
        return self._shared


def _tokens(text: str, limit: int) -> int:
    return min(len(text) // _CHARACTERS_PER_TOKEN + 3, limit)
