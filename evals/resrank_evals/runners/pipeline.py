# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import logging
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from haystack import Document, Pipeline

from haystack_integrations.common.resrank import ResRankModel
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
from resrank_evals.collection import Collection
from resrank_evals.systems import PipelineSystem
from resrank_evals.trec import Run
from resrank_pipelines.loader import point_at

from .ranking import Ranking, Told, check_ids

logger = logging.getLogger(__name__)

_WARM_UP = 2  # queries before the clock counts


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
    pipeline = Pipeline.from_dict(point_at(read_definition(system.path), store=place))
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
    check_ids(run, collection, system.path)
    if twice:
        logger.warning("%s gave passages more than once for %d queries: the first counts", system.path, twice)
    return Ranking(run, {"pipeline": times})


def read_definition(path: str) -> dict[str, Any]:
    """
    Read a pipeline.

    :param path: its YAML.
    :returns: as `Pipeline.from_dict` takes it.
    :raises ValueError: when it is none.
    """
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


def _scored(documents: list[Document]) -> list[tuple[str, float]]:
    """By the pipeline's order: what comes first is best, whatever the scores say, or if there are none."""
    scores = [document.score for document in documents if document.score is not None]
    if len(scores) < len(documents) or any(before < after for before, after in pairwise(scores)):
        scores = [1.0 / rank for rank in range(1, len(documents) + 1)]
    best: dict[str, float] = {}
    for document, score in zip(documents, scores, strict=True):
        best.setdefault(document.id, float(score))
    return list(best.items())
