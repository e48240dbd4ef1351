# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Systems on collections, each measured once and kept.

For every collection the passages are indexed once, each first stage runs once, and every system then ranks the same
candidates. A result that is already there with the same settings is kept, so an interrupted run goes on with the next
system.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haystack_integrations.common.resrank import ResRankModel
from resrank.sources import sha256_of
from resrank_pipelines.indexing import Progress

from . import measures as quality
from .collection import Collection
from .collection_store import CollectionStore, IndexCost
from .environment import describe_environment, describe_model, scoring_versions, weights_hash
from .loading import CollectionSource
from .memory import PeakMemory
from .pools import PoolResult, candidates, retrieve
from .results import (
    COLLECTION,
    RESULT,
    CollectionCard,
    SystemResult,
    check_different,
    folder_name,
    latencies,
    read_collection,
    read_result,
    write_collection,
    write_result,
)
from .runners import (
    Ranking,
    rank_by_cross_encoder,
    rank_by_e2rank,
    rank_by_pe_rank,
    rank_by_pipeline,
    rank_by_resrank,
    read_definition,
    read_ranking,
)
from .systems import (
    CrossEncoderSystem,
    E2RankSystem,
    FirstStageSystem,
    PERankSystem,
    PipelineSystem,
    Pool,
    Reranker,
    ResRankSystem,
    RunSystem,
    System,
    describe,
)
from .trec import write_run

_WEIGHTS: dict[type, str] = {CrossEncoderSystem: "cross_encoder", PERankSystem: "pe_rank", E2RankSystem: "e2rank"}


@dataclass(frozen=True)
class Settings:
    """
    What is the same for all systems.

    :param out: results folder.
    :param stores: where collections are indexed; kept for the next run.
    :param model: of systems that name none.
    :param depth: candidates a query.
    :param queries: evaluated queries a collection; `None` means all.
    :param seed: of their choice and of shuffles.
    :param measures: names of measures.
    """

    out: Path
    stores: Path
    model: ResRankModel = dataclasses.field(default_factory=ResRankModel)
    depth: int = 100
    queries: int | None = None
    seed: int = 0
    measures: tuple[str, ...] = quality.DEFAULT_MEASURES

    def __post_init__(self) -> None:
        for name in ("depth", "queries"):
            value = getattr(self, name)
            if value is not None and value < 1:
                msg = f"{name} must be at least 1, got {value}"
                raise ValueError(msg)
        quality.parse_measures(self.measures)


@dataclass(frozen=True)
class Outcome:
    """
    One system on one collection.

    :param result: what was measured.
    :param kept: whether it was there already.
    """

    result: SystemResult
    kept: bool


def run(
    sources: Sequence[CollectionSource],
    systems: Sequence[System],
    settings: Settings,
    progress: Progress,
    *,
    any_measures: bool = False,
) -> Iterator[Outcome]:
    """
    Measure every system on every collection.

    :param sources: the collections, read one after the other.
    :param systems: the systems.
    :param settings: of the run.
    :param progress: told (what, done, total).
    :param any_measures: also keep results with other measures, for callers that want rankings.
    :returns: results as they come; each is on disk when it is given.
    :raises ValueError: when two systems have one name, or a collection or system cannot be used.
    """
    check_different("systems", [system.name for system in systems], "measure them separately")
    labels = [source.label for source in sources]
    check_different("collections", labels, "measure them separately")
    for system in systems:
        _check(system, labels)
    models = _Models()
    for source, label in zip(sources, labels, strict=True):
        progress(f"Reading {label}", 0, 0)
        whole = dataclasses.replace(source.load(), name=label)
        table = _Table(whole.sample(settings.queries, settings.seed), settings, models, progress)
        _claim(settings.out, table.card(len(whole.queries)))
        del whole
        try:
            for system in systems:
                yield table.outcome(system, any_measures=any_measures)
        finally:
            table.close()
            del table  # before the next collection is read


def _check(system: System, collections: Sequence[str]) -> None:
    """Find out what is wrong with a system's files before anything is measured."""
    if isinstance(system, PipelineSystem):
        read_definition(system.path)
    if isinstance(system, RunSystem):
        for name in collections:
            path = system.file(name)
            if not path.is_file():
                msg = f"system {system.name!r}: there is no file {path} for the collection {name}"
                raise FileNotFoundError(msg)


def _claim(results: Path, card: CollectionCard) -> None:
    """What stands side by side in a results folder must be comparable."""
    path = results / folder_name(card.name) / COLLECTION
    if path.is_file():
        found = read_collection(path)
        same = ("fingerprint", "depth")
        different = [name for name in same if getattr(found, name) != getattr(card, name)]
        if different:
            what = {
                "fingerprint": "other passages, queries or qrels",
                "depth": f"depth {found.depth}, not {card.depth}",
            }
            msg = (
                f"{path.parent} holds results of {' and '.join(what[name] for name in different)}, which cannot stand "
                "beside these: name another folder with --out, or delete that one"
            )
            raise ValueError(msg)
    write_collection(results, card)


class _Models:
    """Loaded models and their descriptions, held for the whole run: handles alone let them go between systems."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Any, dict[str, Any]]] = {}

    def description(self, handle: ResRankModel) -> dict[str, Any]:
        key = json.dumps(handle.to_dict(), sort_keys=True, default=str)
        if key not in self._held:
            self._held[key] = (handle.load("encoder"), describe_model(handle))
        return self._held[key][1]


class _Table:
    """One collection: its stores and first stages, made when a system asks for them."""

    def __init__(self, collection: Collection, settings: Settings, models: _Models, progress: Progress) -> None:
        self._collection = collection
        self._settings = settings
        self._models = models
        self._progress = progress
        self._stores: dict[str, CollectionStore] = {}
        self._costs: dict[str, IndexCost] = {}
        self._pools: dict[tuple[str, Pool], PoolResult] = {}

    def card(self, all_queries: int) -> CollectionCard:
        of = self._collection
        relevant = {id_: sum(1 for grade in grades.values() if grade > 0) for id_, grades in of.qrels.items()}
        return CollectionCard(
            name=of.name,
            split=of.split,
            fingerprint=self._collection.fingerprint,
            passages=len(of.passages),
            queries=dict(of.queries),
            relevant=relevant,
            all_queries=all_queries,
            source=of.source,
            depth=self._settings.depth,
        )

    def outcome(self, system: System, *, any_measures: bool) -> Outcome:
        wanted = self._wanted(system)
        path = self._settings.out / folder_name(self._collection.name) / folder_name(system.name) / RESULT
        if path.is_file():
            with suppress(ValueError):  # damaged or of another version: made anew
                kept = read_result(path)
                accepted = {**wanted, "measures": kept.settings.get("measures")} if any_measures else wanted
                if kept.settings == accepted:
                    return Outcome(kept, kept=True)
        result, ranking = self._measure(system, wanted)
        write_result(self._settings.out, result, write_run(ranking.run, folder_name(system.name)))
        return Outcome(result, kept=False)

    def close(self) -> None:
        for store in self._stores.values():
            store.close()
        self._stores.clear()
        self._pools.clear()

    # ------------------------------------------------------------------------------------------------------ measuring

    def _wanted(self, system: System) -> dict[str, Any]:
        """Everything that decides the result, as it comes back from JSON."""
        settings = self._settings
        wanted: dict[str, Any] = {
            "system": describe(system),
            "collection": self._collection.fingerprint,
            "depth": settings.depth,
            "seed": settings.seed,
            "measures": list(settings.measures),
            "versions": scoring_versions(),
        }
        if isinstance(system, RunSystem):
            wanted["file"] = sha256_of(system.file(self._collection.name))
        if isinstance(system, PipelineSystem):
            wanted["file"] = sha256_of(Path(system.path))
        if not isinstance(system, RunSystem):
            wanted["model"] = self._models.description(self._handle(system))
        if isinstance(system, CrossEncoderSystem | PERankSystem | E2RankSystem):
            wanted[_WEIGHTS[type(system)]] = weights_hash(system.model)
        return wanted

    def _measure(self, system: System, wanted: dict[str, Any]) -> tuple[SystemResult, Ranking]:
        settings, of = self._settings, self._collection
        # Indexing is not charged to the system that happens to come first.
        cost = None if isinstance(system, RunSystem) else self._cost(system)
        started = time.perf_counter()
        with PeakMemory() as peak:
            ranking = self._rank(system)
        per_query = quality.evaluate(ranking.run, of.qrels, settings.measures)
        pool: str | None = None
        ceiling: dict[str, float] = {}
        if isinstance(system, Reranker):
            pool = FirstStageSystem(system.pool, _model_name(system)).name
            ceiling = quality.ceiling(self._pool(system).run, of.qrels, settings.measures)
        count = max(1, len(of.queries))
        reads_texts = isinstance(system, FirstStageSystem | CrossEncoderSystem | E2RankSystem) and system.pool == "bm25"
        result = SystemResult(
            collection=of.name,
            system=system.name,
            settings=wanted,
            means=quality.mean(per_query),
            per_query=per_query,
            latency=latencies(ranking.latency_ms),
            tokens={kind: tokens / count for kind, tokens in ranking.tokens.items()},
            generated_tokens=None if ranking.generated_tokens is None else ranking.generated_tokens / count,
            indexing_tokens=None if cost is None else 0 if reads_texts else cost.tokens,
            truncated_passages=None if cost is None else cost.truncated,
            blank_passages=None if cost is None else cost.blank,
            peak_memory_mb=round(peak.megabytes, 1),
            peak_gpu_memory_mb=None if peak.gpu_megabytes is None else round(peak.gpu_megabytes, 1),
            pool=pool,
            pool_depth=None if pool is None else settings.depth,
            ceiling=ceiling,
            missing_queries=sum(1 for id_ in of.queries if not ranking.run.get(id_)),
            environment={
                **describe_environment(None if isinstance(system, RunSystem) else self._handle(system)),
                **ranking.environment,
            },
            seconds=round(time.perf_counter() - started, 3),
        )
        return result, ranking

    def _rank(self, system: System) -> Ranking:
        def told(done: int, total: int) -> None:
            self._progress(f"{self._collection.name}: {system.name}", done, total)

        queries = dict(self._collection.queries)
        if isinstance(system, RunSystem):
            return read_ranking(system, self._collection)
        if isinstance(system, PipelineSystem):
            return rank_by_pipeline(system, self._collection, self._store(system).store, self._handle(system), told)
        pool = self._pool(system)
        stage = {"first stage": list(pool.latency_ms)}
        if isinstance(system, FirstStageSystem):
            return Ranking(pool.run, stage, {"query": pool.query_tokens}, generated_tokens=0)
        store = self._store(system).store

        def lists() -> Iterator[tuple[str, str, list[Any]]]:
            for query_id, query in queries.items():
                yield query_id, query, candidates(pool, query_id, store)

        if isinstance(system, ResRankSystem):
            handle, seed = self._ranker_handle(system), self._settings.seed
            ranking = rank_by_resrank(system, lists(), len(queries), handle, seed, told)
        elif isinstance(system, PERankSystem):
            ranking = rank_by_pe_rank(system, lists(), len(queries), self._settings.model, told)
        elif isinstance(system, E2RankSystem):
            ranking = rank_by_e2rank(system, lists(), len(queries), self._settings.model, told)
        else:
            ranking = rank_by_cross_encoder(system, lists(), len(queries), self._settings.model, told)
        tokens = dict(ranking.tokens)
        tokens["query"] = tokens.get("query", 0) + pool.query_tokens
        return dataclasses.replace(ranking, latency_ms={**stage, **ranking.latency_ms}, tokens=tokens)

    # -------------------------------------------------------------------------------------------------- what is shared

    def _handle(self, system: System) -> ResRankModel:
        name = _model_name(system)
        return self._settings.model if name is None else self._settings.model.changed(model=name)

    def _ranker_handle(self, system: ResRankSystem) -> ResRankModel:
        handle = self._handle(system)
        return handle if system.attention is None else handle.changed(attention=system.attention)

    def _key(self, system: System) -> str:
        return self._handle(system).model

    def _store(self, system: System) -> CollectionStore:
        key = self._key(system)
        if key not in self._stores:
            self._stores[key] = CollectionStore(self._collection, self._handle(system), self._settings.stores)
            self._costs[key] = self._stores[key].fill(self._progress)
        return self._stores[key]

    def _cost(self, system: System) -> IndexCost:
        self._store(system)
        return self._costs[self._key(system)]

    def _pool(self, system: FirstStageSystem | Reranker) -> PoolResult:
        key = (self._key(system), system.pool)
        if key not in self._pools:
            self._pools[key] = retrieve(
                system.pool,
                dict(self._collection.queries),
                self._store(system).store,
                self._handle(system),
                depth=self._settings.depth,
                progress=lambda done, total: self._progress(f"{self._collection.name}: {system.pool}", done, total),
            )
        return self._pools[key]


def _model_name(system: System) -> str | None:
    """The checkpoint that a system names beside the run's; the peers' models are of other kinds."""
    return system.model if isinstance(system, FirstStageSystem | ResRankSystem) else None
