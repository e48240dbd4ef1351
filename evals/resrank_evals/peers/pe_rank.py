# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from haystack import Document, component, logging

from haystack_integrations.common.resrank.documents import (
    check_documents,
    check_query,
    check_top_k,
    check_vectors,
    unique_documents,
)
from resrank.candidates import UnusableVectorsError, as_vectors

from .pe_rank_model import PERank, PERankUsage

logger = logging.getLogger(__name__)


@component
class PERankRanker:
    """
    PE-Rank (arXiv 2406.14848) on stored vectors: what ResRank is compared with.

    A language model reads one vector a passage and generates the permutation, one token a passage. Longer lists are
    ranked in windows, from the end to the front, each window handing its best passages on to the next (RankGPT, Sun et
    al., arXiv 2304.09542). Here the last window always starts at the first passage, whatever the length of the list.

    `last_usage` tells what the last run cost: prompts, prompt tokens and generated tokens.

    ```python
    from resrank_evals.peers.pe_rank import PERankRanker

    ranker = PERankRanker.from_pretrained("pe-rank-qwen3-0.6b", top_k=None)
    ranked = ranker.run(query="how do I parse a date?", documents=documents_with_embeddings)["documents"]
    print(ranker.last_usage.generated_tokens)  # 180 for 100 documents
    ```
    """

    def __init__(self, model: PERank, *, top_k: int | None = 10, window_size: int | None = 20, step: int = 10) -> None:
        """
        Create the ranker.

        :param model: a loaded model.
        :param top_k: how many documents to return; `None` returns all. All are ranked in any case.
        :param window_size: passages in one prompt; `None` takes all at once.
        :param step: by how much the window moves to the front; 20 and 10 are the paper's.
        :raises ValueError: for a `top_k` that is not positive, or windows that do not overlap.
        """
        check_top_k(top_k)
        _check_windows(window_size, step)
        self.model = model
        self.top_k = top_k
        self.window_size = window_size
        self.step = step
        self.last_usage = PERankUsage()
        self._warned = False
        self._lock = threading.Lock()

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        device: str | None = None,
        dtype: str = "auto",
        attn_implementation: str = "auto",
        top_k: int | None = 10,
        window_size: int | None = 20,
        step: int = 10,
    ) -> PERankRanker:
        """
        Load a model and make a ranker of it.

        :param folder: that `save_pretrained` wrote.
        :param device: `cpu`, `cuda`, …; `None` takes the best one present.
        :param dtype: of the language model; projector and scores are float32.
        :param attn_implementation: the Hugging Face name, or `auto`.
        :param top_k: as in the constructor.
        :param window_size: likewise.
        :param step: likewise.
        :returns: the ranker.
        """
        model = PERank.from_pretrained(folder, device=device, dtype=dtype, attn_implementation=attn_implementation)
        return cls(model, top_k=top_k, window_size=window_size, step=step)

    def save_pretrained(self, folder: str | Path) -> None:
        """
        Write the model.

        :param folder: made if missing.
        """
        self.model.save_pretrained(folder)

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, list[Document]]:
        """
        Rank documents by their stored vectors.

        :param query: the query.
        :param documents: the candidates, in the first stage's order, on which the result depends; duplicates by id are
            ranked once (the one with the higher score stays, at the first one's place).
        :param top_k: how many to return; `None` means the constructor's.
        :returns: `documents`: copies, best first. The method gives an order and no scores: the score is 1 / rank.
        :raises TypeError: for a query or documents of another type.
        :raises ValueError: for a blank query, a bad `top_k`, and documents without a vector, or with a vector of
            another model, of another size, of zeros, or with NaN.
        """
        check_query(query)
        check_top_k(top_k)
        candidates = unique_documents(check_documents(documents))
        if not candidates:
            self.last_usage = PERankUsage()
            return {"documents": []}
        vectors = self._vectors(candidates)
        with self._lock:
            order, self.last_usage = self._rank(query, vectors)
        kept = order[: self.top_k if top_k is None else top_k]
        return {"documents": [replace(candidates[i], score=1.0 / rank) for rank, i in enumerate(kept, start=1)]}

    @torch.inference_mode()
    def _rank(self, query: str, vectors: Any) -> tuple[list[int], PERankUsage]:
        order, usage = list(range(len(vectors))), PERankUsage(cut_query_tokens=self._cut(query))
        slots = self.model.project(vectors)
        for start, end in _windows(len(order), self.window_size, self.step):
            window = order[start:end]
            ranked, cost = self.model.decode(query, slots[window])
            order[start:end] = [window[i] for i in ranked]
            usage += cost
        return order, usage

    def _cut(self, query: str) -> int:
        cut = self.model.cut_query_tokens(query)
        if cut and not self._warned:
            logger.warning(
                "a query is {cut} tokens longer than max_query_length {max_query_length} and is cut; `last_usage` "
                "counts it, later ones are cut without a word",
                cut=cut,
                max_query_length=self.model.config.max_query_length,
            )
            self._warned = True
        return cut

    def _vectors(self, documents: list[Document]) -> Any:
        config = self.model.config
        missing = [document.id for document in documents if document.embedding is None]
        if missing:
            msg = (
                f"{len(missing)} of {len(documents)} documents have no embedding ({missing[0]}): set "
                "return_embedding=True on the retriever, and index with ResRankDocumentEmbedder"
            )
            raise ValueError(msg)
        check_vectors(documents, config.encoder_fingerprint, config.embedding_dim)
        try:
            return as_vectors([document.embedding for document in documents], config.embedding_dim, "embeddings")
        except UnusableVectorsError as error:
            msg = (
                f"{len(error.rows)} of {len(documents)} documents have vectors that are zero or hold NaN or infinite "
                f"values ({', '.join(documents[row].id for row in error.rows[:3])}): embed these documents again"
            )
            raise ValueError(msg) from None


def _windows(count: int, window_size: int | None, step: int) -> list[tuple[int, int]]:
    """(start, end) of each window, from the end to the front; the last one starts at 0."""
    size = count if window_size is None else window_size
    found = [(max(0, count - size), count)]
    while found[-1][0] > 0:
        end = found[-1][1] - step
        found.append((max(0, end - size), end))
    return found


def _check_windows(window_size: int | None, step: int) -> None:
    sizes = (step,) if window_size is None else (step, window_size)
    whole = all(isinstance(size, int) and not isinstance(size, bool) for size in sizes)
    if not whole or step < 1 or (window_size is not None and step >= window_size):
        msg = (
            "step must be a positive integer, and window_size an integer above it, or None for one pass; got "
            f"window_size={window_size!r}, step={step!r}"
        )
        raise ValueError(msg)
