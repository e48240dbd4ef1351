# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What a server does, without HTTP: search, ask and rerank, from many threads at once."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from haystack import Document, Pipeline
from haystack.dataclasses import StreamingChunk
from haystack.errors import FilterError
from haystack.tracing.tracer import Span, tracer

from haystack_integrations.common.resrank import ResRankModel
from haystack_integrations.components.rankers.resrank.ranker import scaled_score
from haystack_integrations.components.readers.resrank import ResRankReader
from resrank_pipelines.display import citation_dict, extracted_dict, result_dict
from resrank_pipelines.loader import MODEL_TYPE, load_pipeline

from .errors import AbandonedError, ServingError
from .metrics import Metrics
from .qdrant import QdrantProbe, unavailable
from .settings import ServeSettings
from .shared_engine import SharedEngine, SharedModel
from .shared_reader import SharedReader
from .work import Work, current

logger = logging.getLogger("resrank.serve")

_LIST_DEPTH = 100  # candidates that the ranker chooses from, as in the definitions


@dataclass(frozen=True)
class Reranked:
    """
    A ranked list.

    :param order: positions in the input, best first.
    :param scores: of these, 0 to 1.
    """

    order: list[int]
    scores: list[float]


class Service:
    """
    Holds the model and the pipelines.

    :param settings: what to serve.
    :param metrics: where to count.
    """

    def __init__(self, settings: ServeSettings, metrics: Metrics) -> None:
        self.settings = settings
        self._metrics = metrics
        self._engine: SharedEngine | None = None
        self._pipelines: dict[str, Pipeline] = {}
        self._probe: QdrantProbe | None = None
        if settings.server and settings.with_store and settings.store.get("url"):
            self._probe = QdrantProbe(settings.store["url"], settings.store.get("index", "resrank"))
        self.ready = False

    def problem(self) -> str | None:
        """
        What keeps a loaded server from answering now: a Qdrant server that does not.

        :returns: for clients; `None`: nothing does.
        """
        return None if self._probe is None else self._probe.problem()

    def start(self) -> None:
        """
        Load the model, open the store, and run each pipeline's warm-up.

        :raises ValueError: when the store holds another model's vectors, or something cannot run as asked.
        :raises OSError: when the model or the store is not there.
        """
        settings = self.settings
        handle = ResRankModel.from_dict({"type": MODEL_TYPE, "init_parameters": dict(settings.model)})
        model = handle.load("encoder", "reranker")
        exact = model.runtime.dtype_name == "float32"
        engine = SharedEngine(
            model,
            share=exact if settings.share_passes is None else settings.share_passes,
            observe_pass=self._metrics.observe_pass,
            count_tokens=self._metrics.count_tokens,
        )
        self._engine = engine
        if settings.with_store:
            for name in ("search", "ask"):
                pipeline = self._load(name, engine.dimension)
                self._pipelines[name] = pipeline
                _share(pipeline, engine)
                pipeline.warm_up()
                _share_reader(pipeline, engine)
        # The first pass is slower than the others: nobody should wait for it.
        engine.rerank("warm up", engine.encode_passages(["A passage.", "Another."]))
        self.ready = True

    def close(self) -> None:
        """
        Finish what runs in the model, and let model and store go.
        """
        self.ready = False
        if self._engine is not None:
            self._engine.close()
        for pipeline in self._pipelines.values():
            pipeline.close()
        self._pipelines.clear()
        if self._probe is not None:
            self._probe.close()
        self._engine = None

    def search(self, query: str, top_k: int, filters: dict[str, Any] | None) -> dict[str, Any]:
        """
        Search the store and rank.

        :param query: not blank.
        :param top_k: how many results.
        :param filters: Haystack filters, or `None`.
        :returns: `results`, each with its rank, score, and rank and score of the first stage.
        :raises ServingError: for filters that the store does not take.
        """
        pipeline = self._pipeline("search")
        with _span("search", top_k=top_k) as span:
            outcome = _run(pipeline, _inputs(query, top_k, filters), filtered=bool(filters))
            documents: list[Document] = outcome["ranker"]["documents"]
            self._count("search", span)
        return {"results": [plain(result_dict(document, rank)) for rank, document in enumerate(documents, 1)]}

    def ask(
        self,
        query: str,
        top_k: int,
        filters: dict[str, Any] | None,
        on_text: Callable[[str], None] | None = None,
    ) -> dict[str, Any]:
        """
        Answer a question from the store.

        :param query: the question; not blank.
        :param top_k: how many passages are read.
        :param filters: Haystack filters, or `None`.
        :param on_text: called with each piece of an LLM's answer as it comes.
        :returns: `answer` (`None`: not found), its `confidence`, its `source`, other `answers`, the LLM's
            `citations`, and the passages read in `results`.
        :raises ServingError: for bad filters, and when the LLM's endpoint fails.
        """
        pipeline = self._pipeline("ask")
        inputs: dict[str, dict[str, Any]] = _inputs(query, top_k, filters)
        answering = "answer_builder" if self.settings.llm else "reader"
        inputs[answering] = {"query": query}
        if self.settings.llm:
            inputs["prompt_builder"] = {"query": query}
            if on_text is not None:
                inputs["generator"] = {"streaming_callback": _streaming(on_text)}
        with _span("ask", top_k=top_k) as span:
            outcome = _run(pipeline, inputs, filtered=bool(filters))
            self._count("ask", span)
        documents = outcome["ranker"]["documents"]
        read = [plain(result_dict(document, rank)) for rank, document in enumerate(documents, 1)]
        answers = outcome[answering]["answers"]
        if self.settings.llm:
            citations = [plain(citation_dict(document)) for document in answers[0].documents]
            source = citations[0] if citations else None
            return {
                "answer": answers[0].data,
                "confidence": None,
                "source": source,
                "answers": [],
                "citations": citations,
                "results": read,
            }
        found = [plain(extracted_dict(answer)) for answer in answers]
        best = found[0]
        source = (
            None if best["answer"] is None else {k: v for k, v in best.items() if k not in ("answer", "confidence")}
        )
        return {
            "answer": best["answer"],
            "confidence": best["confidence"],
            "source": source,
            "answers": found,
            "citations": [],
            "results": read,
        }

    def rerank(self, query: str, documents: Sequence[str], max_tokens: int | None = None) -> Reranked:
        """
        Rank texts against a query, without a store: they are encoded now and ranked in one list, by vectors and words.

        :param query: not blank.
        :param documents: texts; may be empty.
        :param max_tokens: cut them after so many tokens; `None` after as many as the encoder reads.
        :returns: all of them, best first, equal ones in the order that they came in.
        """
        engine = self._engine
        if engine is None:
            raise _not_ready()
        if not documents:
            return Reranked([], [])
        with _span("rerank") as span:
            vectors = engine.encode_passages(list(documents), max_tokens)
            raw = engine.rerank(query, vectors, engine.text_evidence(query, documents)).tolist()
            self._count("rerank", span)
        order = sorted(range(len(raw)), key=lambda i: (-raw[i], i))
        return Reranked(order, [scaled_score(raw[i], engine.config.mode) for i in order])

    def _count(self, kind: str, span: Span) -> None:
        found = work_here()
        span.set_tag("resrank.candidates", found.candidates)
        span.set_tag("resrank.encoded_tokens", found.tokens)
        self._metrics.candidates.labels(kind).inc(found.candidates)

    def _pipeline(self, name: str) -> Pipeline:
        if not self.settings.with_store:
            msg = "this server only reranks: start it with a store (resrank serve --store PATH) to search it"
            raise ServingError(404, msg)
        pipeline = self._pipelines.get(name)
        if pipeline is None:
            raise _not_ready()
        return pipeline

    def _load(self, name: str, dimension: int) -> Pipeline:
        settings = self.settings
        own: dict[str, dict[str, Any]] = {}
        if name == "search":
            definition = "search_dense" if settings.dense else "search"
        elif settings.llm:
            # The request's own limit ends it in time for the client; this one ends the call.
            definition, own = "rag", {"generator": {"timeout": settings.limits.timeout_s}}
        else:
            definition, own = "rag_extractive", {"reader": settings.reader}
        if settings.dense and name == "ask":
            own = {**own, "retriever": {"mode": "dense"}}
        return load_pipeline(
            f"{definition}_server" if settings.server else definition,
            model=settings.model,
            store={"embedding_dim": dimension, **settings.store},
            components=own,
        )


def plain(value: Any) -> Any:
    """
    What JSON can say.

    :param value: a result; meta may hold anything.
    :returns: the same with numbers that JSON has no word for as `None`, and other objects as text.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(each) for each in value]
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def _share(pipeline: Pipeline, engine: SharedEngine) -> None:
    each: Any
    for _, each in pipeline.walk():
        if isinstance(getattr(each, "model", None), ResRankModel):
            each.model = SharedModel(each.model, engine)


def _share_reader(pipeline: Pipeline, engine: SharedEngine) -> None:
    for _, each in pipeline.walk():
        if isinstance(each, ResRankReader):
            each.share(lambda reader: SharedReader(reader, engine))


def _inputs(query: str, top_k: int, filters: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    return {
        "retriever": {"query": query, "top_k": max(_LIST_DEPTH, top_k), "filters": filters or None},
        "ranker": {"query": query, "top_k": top_k},
    }


def _run(pipeline: Pipeline, inputs: dict[str, dict[str, Any]], *, filtered: bool) -> dict[str, Any]:
    try:
        return pipeline.run(inputs, include_outputs_from={"ranker"})
    except Exception as error:
        causes = list(_causes(error))
        refused = next((cause for cause in causes if isinstance(cause, AbandonedError)), None) or _refusal(
            causes, filtered
        )
        if refused is None:
            raise
        raise refused from None


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _refusal(causes: list[BaseException], filtered: bool) -> ServingError | None:
    """What the client can mend, or knows better than we: its filters, and the LLM's endpoint."""
    for cause in causes:
        if isinstance(cause, RuntimeError) and str(cause).startswith("the LLM endpoint"):
            return ServingError(502, str(cause))
        if isinstance(cause, FilterError):
            return ServingError(422, f"filters: {str(cause).encode(errors='replace').decode()}")
        if (told := unavailable(cause)) is not None:
            logger.warning("%s", told.message)
            return told
    odd = next((c for c in causes if isinstance(c, TypeError | ValueError | LookupError | RecursionError)), None)
    if filtered and odd is not None:
        kind = type(odd).__name__
        msg = f"filters: the store cannot read them ({kind}); expected Haystack filters: field, operator, value"
        return ServingError(422, msg)
    return None


def _streaming(on_text: Callable[[str], None]) -> Callable[[StreamingChunk], None]:
    def take(chunk: StreamingChunk) -> None:  # a plain function: Haystack copies its inputs
        if chunk.content:
            on_text(chunk.content)

    return take


def _span(name: str, **counts: int) -> Any:
    return tracer.trace(f"resrank.serve.{name}", tags={f"resrank.{key}": n for key, n in counts.items()})


def _not_ready() -> ServingError:
    return ServingError(503, "the model is still loading: try again when /ready says so", retry_after_s=2)


def work_here() -> Work:
    """
    The work of the request that this thread is on.

    :returns: its counters; those of nobody outside of requests.
    """
    return current.get() or Work()
