# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""How each kind of system ranks the queries of a collection: through Haystack components, timed a query at a time."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from haystack import Document, Pipeline

from haystack_integrations.common.resrank import ResRankModel
from haystack_integrations.components.rankers.resrank import ResRankRanker
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
from resrank_pipelines.loader import point_at

from .collection import Collection
from .pools import query_tokens
from .systems import CrossEncoderSystem, PipelineSystem, ResRankSystem, RunSystem, System
from .trec import Run, read_run

if TYPE_CHECKING:
    from haystack_integrations.components.rankers.sentence_transformers import SentenceTransformersSimilarityRanker

logger = logging.getLogger(__name__)

Told = Callable[[int, int], None]
Lists = Iterator[tuple[str, str, list[Document]]]

_WARM_UP = 2  # lists before the clock counts
_CROSS_ENCODER_BATCH = 32


@dataclass(frozen=True)
class Ranking:
    """
    What a system gave, and what it cost.

    :param run: (passage id, score) by query id.
    :param latency_ms: stage name to the time of each query.
    :param tokens: kind to tokens processed, all queries together.
    :param generated_tokens: all queries together; `None` when not known.
    :param environment: what differs from the run's, e.g. the dtype of another model.
    """

    run: Run
    latency_ms: dict[str, list[float]] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    generated_tokens: int | None = None
    environment: dict[str, Any] = field(default_factory=dict)


def rank_by_resrank(  # noqa: PLR0917
    system: ResRankSystem, lists: Lists, total: int, model: ResRankModel, seed: int, told: Told
) -> Ranking:
    """
    Rank with `ResRankRanker`.

    The query's vector is known to the model when the first stage has just encoded it, as in a pipeline; after BM25 it
    is encoded, and counted, here.

    :param system: its options.
    :param lists: (query id, query, candidates as the first stage gave them).
    :param total: how many lists.
    :param model: of the ranker.
    :param seed: of the shuffle.
    :param told: progress.
    :returns: the ranking.
    """
    ranker = ResRankRanker(model=model, top_k=None, use_evidence=system.evidence, on_missing_embedding="raise")
    encodes = system.pool == "bm25"
    run: Run = {}
    times: list[float] = []
    tokens = {"query": 0, "prompt": 0, "slots": 0}
    warm = False
    try:
        ranker.warm_up()
        engine = model.load("encoder", "reranker")
        for query_id, query, documents in lists:
            given = list(documents)
            if system.order == "shuffled":
                random.Random(f"{seed} {query_id}").shuffle(given)  # noqa: S311
            for _ in range(_WARM_UP if given and not warm else 0):
                ranker.run(query=query, documents=given)
                warm = True
            engine.forget_queries()
            if encodes:
                tokens["query"] += query_tokens(engine, query)
            else:
                engine.encode_queries([query])
            started = time.perf_counter()
            ranked = ranker.run(query=query, documents=given)["documents"]
            times.append((time.perf_counter() - started) * 1_000)
            run[query_id] = [(document.id, float(document.score or 0.0)) for document in ranked]
            prompt, slots = engine.rerank_tokens(query, len(given))
            tokens["prompt"] += prompt
            tokens["slots"] += slots
            told(len(times), total)
    finally:
        ranker.close()
    return Ranking(run, {"rerank": times}, tokens, generated_tokens=0)


def rank_by_cross_encoder(
    system: CrossEncoderSystem, lists: Lists, total: int, model: ResRankModel, told: Told
) -> Ranking:
    """
    Rank with Haystack's `SentenceTransformersSimilarityRanker`.

    :param system: its options.
    :param lists: (query id, query, candidates as the first stage gave them).
    :param total: how many lists.
    :param model: whose device it runs on.
    :param told: progress.
    :returns: the ranking.
    :raises ImportError: when the extra `evals` is not installed.
    """
    ranker = _cross_encoder(system.model, model)
    ranker.warm_up()
    encoder: Any = ranker._cross_encoder
    run: Run = {}
    times: list[float] = []
    pairs = 0
    warm = False
    for query_id, query, documents in lists:
        plain = [Document(id=d.id, content=d.content, score=d.score) for d in documents]
        if plain and not warm:
            ranker.run(query=query, documents=plain[:_CROSS_ENCODER_BATCH])
            warm = True
        started = time.perf_counter()
        ranked = ranker.run(query=query, documents=plain, top_k=max(1, len(plain)))["documents"]
        times.append((time.perf_counter() - started) * 1_000)
        run[query_id] = [(document.id, float(document.score or 0.0)) for document in ranked]
        if plain:
            texts = [document.content or "" for document in plain]
            read = encoder.tokenizer([query] * len(texts), texts, truncation=True, max_length=encoder.max_seq_length)
            pairs += sum(map(len, read["input_ids"]))
        told(len(times), total)
    weights = next(encoder.parameters())
    runs_as = {"dtype": str(weights.dtype).removeprefix("torch."), "attn_implementation": None}
    return Ranking(run, {"rerank": times}, {"pairs": pairs}, generated_tokens=0, environment=runs_as)


def rank_by_pipeline(
    system: PipelineSystem,
    collection: Collection,
    store: QdrantEdgeDocumentStore,
    model: ResRankModel,
    told: Told,
) -> Ranking:
    """
    Run a Haystack pipeline for every query.

    Every `QdrantEdgeDocumentStore` in it is pointed at the collection's store, which the run's model has indexed; a
    pipeline with another model's vectors in mind says so itself. Another store must hold the passages under their ids.

    :param system: the pipeline.
    :param collection: the queries.
    :param store: the collection's store.
    :param model: of the run.
    :param told: progress.
    :returns: the ranking. Tokens are not known.
    :raises ValueError: when it takes no query, does not return documents, or returns unknown ones.
    """
    place = {"path": store.path, "embedding_dim": store.embedding_dim}
    pipeline = Pipeline.from_dict(point_at(_definition(system.path), store=place))
    engine = model.load("encoder")
    inputs = [name for name in ("query", "text") if any(name in taken for taken in pipeline.inputs().values())]
    if not inputs:
        msg = f"{system.path}: expected a component with an open input `query` or `text`, got {pipeline.inputs()}"
        raise ValueError(msg)
    outputs = [name for name, given in pipeline.outputs().items() if "documents" in given]
    if len(outputs) != 1:
        msg = f"{system.path}: expected one component that returns documents at the end, got {outputs or 'none'}"
        raise ValueError(msg)
    run: Run = {}
    times: list[float] = []
    twice = 0
    pipeline.warm_up()
    try:
        for query_id, query in collection.queries.items():
            for _ in range(0 if times else _WARM_UP):
                pipeline.run(dict.fromkeys(inputs, query))
            engine.forget_queries()
            started = time.perf_counter()
            documents = pipeline.run(dict.fromkeys(inputs, query))[outputs[0]]["documents"]
            times.append((time.perf_counter() - started) * 1_000)
            run[query_id] = _scored(documents)
            twice += len(run[query_id]) < len(documents)
            told(len(times), len(collection.queries))
    finally:
        pipeline.close()
    _check_ids(run, collection, system.path)
    if twice:
        logger.warning("%s gave passages more than once for %d queries: the first counts", system.path, twice)
    return Ranking(run, {"pipeline": times})


def read_ranking(system: RunSystem, collection: Collection) -> Ranking:
    """
    Read results that were made elsewhere.

    :param system: names the file.
    :param collection: they must belong to.
    :returns: the ranking, of the evaluated queries only.
    :raises FileNotFoundError: when there is no such file.
    :raises ValueError: for a damaged line, passages that the collection does not have, or no query in common.
    """
    path = system.file(collection.name)
    run = read_run(path)
    evaluated = {query_id: hits for query_id, hits in run.items() if query_id in collection.queries}
    if not evaluated:
        msg = f"{path} has no query of {collection.name}: expected ids like {next(iter(collection.queries))!r}, " + (
            f"got {next(iter(run))!r}" if run else "got none"
        )
        raise ValueError(msg)
    _check_ids(evaluated, collection, str(path))
    return Ranking(evaluated)


def check_system(system: System, collections: Sequence[str]) -> None:
    """
    Find out what is wrong with a system's files before anything is measured.

    :param system: the system.
    :param collections: names of all collections.
    :raises FileNotFoundError: when a run is missing.
    :raises ValueError: for a file that is no pipeline.
    """
    if isinstance(system, PipelineSystem):
        _definition(system.path)
    if isinstance(system, RunSystem):
        for name in collections:
            path = system.file(name)
            if not path.is_file():
                msg = f"system {system.name!r}: there is no file {path} for the collection {name}"
                raise FileNotFoundError(msg)


def _definition(path: str) -> dict[str, Any]:
    try:
        definition = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        msg = f"{path} is not YAML: {error}"
        raise ValueError(msg) from error
    if not isinstance(definition, dict) or not isinstance(definition.get("components"), dict):
        msg = f"{path}: expected a Haystack pipeline with components, as `Pipeline.dump` writes it"
        raise ValueError(msg)
    for name, component in definition["components"].items():
        if not isinstance(component, dict) or not isinstance(component.setdefault("init_parameters", {}), dict):
            msg = f"{path}: component {name!r} needs a type and init_parameters, got {component!r:.80}"
            raise ValueError(msg)
    return definition


def _cross_encoder(name: str, model: ResRankModel) -> SentenceTransformersSimilarityRanker:
    try:
        from haystack_integrations.components.rankers.sentence_transformers import SentenceTransformersSimilarityRanker
    except ImportError as error:
        msg = "cross-encoder systems need sentence-transformers-haystack: pip install 'resrank[evals]'"
        raise ImportError(msg) from error
    return SentenceTransformersSimilarityRanker(
        model=name, device=model.device, scale_score=False, batch_size=_CROSS_ENCODER_BATCH
    )


def _scored(documents: list[Document]) -> list[tuple[str, float]]:
    """By the pipeline's order: what comes first is best, whatever the scores say, or if there are none."""
    scores = [document.score for document in documents if document.score is not None]
    if len(scores) < len(documents) or any(before < after for before, after in pairwise(scores)):
        scores = [1.0 / rank for rank in range(1, len(documents) + 1)]
    best: dict[str, float] = {}
    for document, score in zip(documents, scores, strict=True):
        best.setdefault(document.id, float(score))
    return list(best.items())


def _check_ids(run: Run, collection: Collection, where: str) -> None:
    if not collection.passages:
        return
    unknown = [(query, id_) for query, hits in run.items() for id_, _ in hits if id_ not in collection.passages]
    if unknown:
        query, id_ = unknown[0]
        msg = (
            f"{where}: {len(unknown)} results are no passages of {collection.name} (query {query!r}, passage {id_!r}): "
            f"expected ids like {next(iter(collection.passages))!r}"
        )
        raise ValueError(msg)
