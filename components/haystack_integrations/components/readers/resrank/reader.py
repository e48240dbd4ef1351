# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import asyncio
import gc
import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from haystack import Document, ExtractedAnswer, component, logging
from haystack.utils import ComponentDevice, Secret

from haystack_integrations.common.resrank.documents import (
    check_documents,
    check_query,
    check_top_k,
    document_text,
    score_or_lowest,
    unique_documents,
)
from haystack_integrations.common.resrank.model import shared

if TYPE_CHECKING:
    from resrank.reader import Span, SpanReader

logger = logging.getLogger(__name__)


@component
class ResRankReader:
    """
    Answers a question with a piece of one of the documents, or says that none of them holds the answer.

    Give it the few best documents of a ranker. An answer's score is its confidence, 0 to 1: those of all documents'
    best answers and of "no answer" sum to 1.

    ```python
    from haystack import Document
    from haystack_integrations.components.readers.resrank import ResRankReader

    documents = [Document(content="Penicillin was discovered by Alexander Fleming in 1928.")]
    answers = ResRankReader(top_k=1).run(query="who discovered penicillin?", documents=documents)["answers"]
    print(answers[0].data)  # Alexander Fleming
    ```
    """

    def __init__(
        self,
        *,
        model: str = "resrank-reader-mini",
        device: ComponentDevice | str | None = None,
        dtype: str = "auto",
        top_k: int | None = 3,
        no_answer: bool = True,
        answers_per_document: int = 1,
        score_threshold: float | None = None,
        rank_weight: float = 0.0,
        revision: str | None = None,
        token: Secret | None = Secret.from_env_var(["HF_API_TOKEN", "HF_TOKEN"], strict=False),  # noqa: B008
        local_files_only: bool = False,
    ) -> None:
        """
        Create the reader; nothing loads yet. Readers of one process that name the same model share one loaded copy.

        :param model: `resrank-reader-mini`, a folder that `resrank-train reader` wrote, or a question-answering model
            of transformers (folder or hub id).
        :param device: a `ComponentDevice` or a torch device string; `None` takes the best one when loading.
        :param dtype: `auto`, `float32`, `bfloat16` or `float16`.
        :param top_k: most answers, "no answer" not counted; `None` returns all.
        :param no_answer: put "no answer" (`data` is `None`) among the answers by its score.
        :param answers_per_document: most answers of one document; they do not overlap.
        :param score_threshold: leave out answers, also "no answer", that score lower; `None` leaves out none.
        :param rank_weight: how much the ranker's order counts: this times how far a document's score is below the best
            document's is taken off its answers' log-odds. A document without a score loses nothing.
        :param revision: of a hub id.
        :param token: for private hub repositories; resolved when loading.
        :param local_files_only: never download.
        :raises TypeError: when `model` is not a string.
        :raises ValueError: for a `top_k` or `answers_per_document` that is not positive, or a negative `rank_weight`.
        """
        if not isinstance(model, str):
            msg = f"model must be a name, a folder or a hub id, got {type(model).__name__}"
            raise TypeError(msg)
        check_top_k(top_k)
        whole = isinstance(answers_per_document, int) and not isinstance(answers_per_document, bool)
        if not whole or answers_per_document < 1:
            msg = f"answers_per_document must be a positive integer, got {answers_per_document!r}"
            raise ValueError(msg)
        if not 0.0 <= rank_weight < math.inf:
            msg = f"rank_weight must be 0 or more and finite, got {rank_weight}"
            raise ValueError(msg)
        self.model = model
        self.device = ComponentDevice.from_str(device) if isinstance(device, str) else device
        self.dtype = dtype
        self.top_k = top_k
        self.no_answer = no_answer
        self.answers_per_document = answers_per_document
        self.score_threshold = score_threshold
        self.rank_weight = rank_weight
        self.revision = revision
        self.token = token
        self.local_files_only = local_files_only
        self._reader: SpanReader | None = None

    def warm_up(self) -> None:
        """
        Load the weights, once. `run` does it when nobody did.

        :raises FileNotFoundError: when there is no such model.
        :raises ValueError: when it is damaged, of another kind, or cannot run as asked.
        """
        self._loaded()

    async def warm_up_async(self) -> None:
        """
        Load in a thread, so that a server goes on answering meanwhile.
        """
        await asyncio.to_thread(self.warm_up)

    def share(self, stand_in: Callable[[SpanReader], Any]) -> None:
        """
        Have something stand before the loaded reader, such as what gives many threads turns. `close` ends that.

        :param stand_in: takes the reader, and gives what has its `read` and `config`.
        :raises FileNotFoundError: when there is no such model.
        """
        self._reader = stand_in(self._loaded())

    def close(self) -> None:
        """
        Let the weights go; they are freed when no other reader holds them. A later `run` loads them again.
        """
        reader, self._reader = self._reader, None
        if reader is not None and reader.device.type == "cuda":
            import torch

            del reader
            gc.collect()
            torch.cuda.empty_cache()

    @component.output_types(answers=list[ExtractedAnswer])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, list[ExtractedAnswer]]:
        """
        Answer a question.

        :param query: the question.
        :param documents: where to look; duplicates by id are read once, those without text are passed over with a
            warning.
        :param top_k: most answers; `None` means the value given to the constructor.
        :returns: `answers` by score descending, equal ones by document id: the text in `data`, its place in `document`
            and in `context` (the document's text) as `document_offset` and `context_offset`. "No answer" has none of
            them; it is the only one, of score 1, when there is nothing to read.
        :raises TypeError: for a query or documents of another type.
        :raises ValueError: for a blank query, a bad `top_k`, and text that is no Unicode.
        """
        check_query(query)
        check_top_k(top_k)
        readable = _with_text(unique_documents(check_documents(documents)))
        scored, none = self._scored(query, readable) if readable else ([], 1.0)
        limit = self.top_k if top_k is None else top_k
        answers = [_answer(query, document, span, score) for document, span, score in scored[:limit]]
        if self.no_answer:
            place = sum(1 for answer in answers if answer.score >= none)
            answers.insert(place, ExtractedAnswer(query=query, score=none))
        threshold = -math.inf if self.score_threshold is None else self.score_threshold
        return {"answers": [answer for answer in answers if answer.score >= threshold]}

    def _scored(self, query: str, documents: list[Document]) -> tuple[list[tuple[Document, Span, float]], float]:
        """All answers with their scores, best first, and the score of "no answer"."""
        from resrank import TruncationReport
        from resrank.reader import confidences

        report = TruncationReport()
        reader = self._loaded()
        texts = [document_text(document, [], "") for document in documents]
        spans = reader.read(query, texts, spans_per_passage=self.answers_per_document, report=report)
        if report.cut_tokens:
            logger.warning(
                "the question is longer than the {limit} tokens that the reader takes: the last {cut} are not read",
                limit=reader.config.max_query_length,
                cut=report.cut_tokens,
            )
        lost = self._lost(documents)
        found = [(documents[span.passage], span, span.margin - lost[span.passage]) for span in spans]
        found.sort(key=lambda each: (-each[2], each[0].id, each[1].start))
        best: dict[str, float] = {}
        for document, _, margin in found:
            best.setdefault(document.id, margin)
        shares, none = confidences(list(best.values()))
        share = dict(zip(best, shares, strict=True))
        # A document's further answers are measured against its best one, so that they change no other score.
        return [(d, span, share[d.id] * math.exp(margin - best[d.id])) for d, span, margin in found], none

    def _lost(self, documents: list[Document]) -> list[float]:
        """Log-odds that each document's answers lose for its place in the ranking."""
        scores = [score_or_lowest(document) for document in documents]
        top = max(scores)
        if not self.rank_weight or not math.isfinite(top):
            return [0.0] * len(scores)
        return [self.rank_weight * (top - score) if math.isfinite(score) else 0.0 for score in scores]

    def _loaded(self) -> SpanReader:
        reader = self._reader
        if reader is None:
            reader = self._load()
            self._reader = reader
        return reader

    def _load(self) -> SpanReader:
        from resrank.reader import SpanReader
        from resrank.runtime import Runtime
        from resrank.sources import identity

        device = None if self.device is None else self.device.to_torch_str()
        runtime = Runtime.resolve(device, self.dtype, "sdpa")
        return shared(
            json.dumps(["reader", identity(self.model), self.revision, str(runtime)]),
            lambda: SpanReader.from_pretrained(
                self.model,
                device=device,
                dtype=self.dtype,
                revision=self.revision,
                token=None if self.token is None else self.token.resolve_value(),
                local_files_only=self.local_files_only,
            ),
        )


def _with_text(documents: list[Document]) -> list[Document]:
    kept = [document for document in documents if (document.content or "").strip()]
    if len(kept) < len(documents):
        logger.warning(
            "{missing} of {total} documents have no text and are not read",
            missing=len(documents) - len(kept),
            total=len(documents),
        )
    return kept


def _answer(query: str, document: Document, span: Span, score: float) -> ExtractedAnswer:
    return ExtractedAnswer(
        query=query,
        score=score,
        data=span.text,
        document=document,
        context=document.content,
        document_offset=ExtractedAnswer.Span(span.start, span.end),
        context_offset=ExtractedAnswer.Span(span.start, span.end),
    )
