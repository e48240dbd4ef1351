# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""`resrank-train mine`: training lists from a collection with judgments."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from haystack_integrations.common.resrank import ResRankModel
from resrank.model import ResRank
from resrank_evals.collection import Collection
from resrank_evals.collection_store import CollectionStore
from resrank_evals.loading import CollectionSource
from resrank_evals.results import check_different, folder_name, write_whole
from resrank_pipelines.indexing import Progress

from .exact_search import ExactSearch
from .list_maker import Counts, ListMaker, MiningSettings
from .lists import LISTS, ListWriter, finished, iterate_lists
from .vectors import passage_vectors, write_vectors

_QUERIES_PER_WRITE = 256  # what a kill costs at most
_STATE = "progress.json.part"


@dataclass(frozen=True)
class Mined:
    """
    The lists of one collection.

    :param collection: its name, with the form of the queries where that is not their own.
    :param folder: with the lists, for `read_lists`.
    :param counts: what happened.
    :param kept: whether they were there already.
    """

    collection: str
    folder: Path
    counts: Counts
    kept: bool

    def to_json(self) -> dict[str, Any]:
        """
        For programs.

        :returns: plain values.
        """
        lists = max(1, self.counts.lists)
        return {
            "collection": self.collection,
            "folder": str(self.folder),
            "kept": self.kept,
            "lists": self.counts.lists,
            **asdict(self.counts),
            "share_in_pool": self.counts.in_pool / lists,
            "mean_candidates": self.counts.candidates / lists,
        }


def check_names(sources: Sequence[CollectionSource]) -> None:
    """
    Refuse collections whose lists would go to one folder.

    :param sources: the collections.
    :raises ValueError: when two have one name.
    """
    check_different("collections", [source.name for source in sources], "mine them separately")


def mine(
    collection: Collection,
    model: ResRankModel,
    settings: MiningSettings,
    *,
    out: Path,
    stores: Path,
    progress: Progress,
) -> Mined:
    """
    Make the lists of one collection. Killed and called again, it goes on where it stopped.

    :param collection: with the judgments of its training split.
    :param model: whose first stage is mined.
    :param settings: what to make.
    :param out: the lists go to a folder in it with the collection's name, and the form of the queries when that is not
        their own. One with the same settings is kept.
    :param stores: where collections are indexed, once a model; what is there is used.
    :param progress: told (what, done, total).
    :returns: what was made.
    :raises ValueError: when the folder holds lists with other settings, or no query has a relevant passage.
    """
    sample = collection.sample(settings.queries, settings.seed)
    name = collection.name if settings.query_form == "as-is" else f"{collection.name}-{settings.query_form}"
    folder = out / folder_name(name)
    engine = model.load("encoder")
    described = _described(sample, engine, settings)
    info = finished(folder, described)
    if info is not None:
        return Mined(name, folder, Counts(**info["counts"]), kept=True)
    with ListWriter(folder, described) as writer:
        stored = CollectionStore(sample, model, stores)
        try:
            stored.fill(progress)
            progress(f"Reading the vectors of {collection.name}", 0, 0)
            texts = [id_ for id_, passage in sample.passages.items() if passage.content.strip()]
            search = ExactSearch(stored.store, engine.lexical, texts)
            maker = ListMaker(sample, search, engine.matcher, settings, rrf_k=engine.config.rrf_k)
            counts = _mine(engine, maker, writer, progress)
        finally:
            stored.close()
        if not counts.lists:
            writer.discard()
            (folder / _STATE).unlink(missing_ok=True)
            msg = f"{collection.name}: none of {counts.queries} queries has a relevant passage with text: no lists"
            raise ValueError(msg)
        progress(f"Writing the passages of {collection.name}", 0, 0)
        named = {id_ for each in iterate_lists(folder / LISTS) for id_ in each.passages}
        passages = {id_: passage for id_, passage in sample.passages.items() if id_ in named}
        write_vectors(passage_vectors(folder, engine.fingerprint), search.vectors(list(passages)))
        writer.finish(passages, {"counts": asdict(counts)})
        (folder / _STATE).unlink(missing_ok=True)
    return Mined(name, folder, counts, kept=False)


def mining_table(mined: Sequence[Mined]) -> Table:
    """
    What was made.

    :param mined: the collections.
    :returns: one row a collection.
    """
    table = Table(title="Training lists", title_justify="left", caption_justify="left")
    table.caption = (
        "in pool: lists with a relevant passage among the candidates; added: relevant passages that the first stage "
        "missed; same text, filtered: candidates left out; length: candidates a list"
    )
    table.add_column("collection", overflow="fold")
    for name in ("queries", "lists", "in pool", "added", "same text", "filtered", "length"):
        table.add_column(name, justify="right")
    for each in mined:
        counts, shares = each.counts, each.to_json()
        table.add_row(
            escape(each.collection) + (" (kept)" if each.kept else ""),
            f"{counts.queries:,}",
            f"{counts.lists:,}",
            f"{shares['share_in_pool']:.1%}",
            f"{counts.added:,}",
            f"{counts.duplicates:,}",
            f"{counts.filtered:,}",
            f"{shares['mean_candidates']:.1f}",
        )
    return table


def _described(collection: Collection, engine: ResRank, settings: MiningSettings) -> dict[str, Any]:
    return {
        "step": "mine",
        "collection": collection.name,
        "split": collection.split,
        "collection_fingerprint": collection.fingerprint,
        "model_fingerprint": engine.fingerprint,
        "dtype": engine.runtime.dtype_name,
        "lexical": asdict(engine.config.lexical),
        "rrf_k": engine.config.rrf_k,
        "list_depth": settings.list_depth,
        **asdict(settings),
    }


def _mine(engine: ResRank, maker: ListMaker, writer: ListWriter, progress: Progress) -> Counts:
    """Write what is not written yet, in parts that do not depend on where an earlier run stopped."""
    name = maker.collection.name
    query_ids = list(maker.queries)
    size = min(_QUERIES_PER_WRITE, maker.search.queries_at_once)
    done, maker.counts = _begun(writer)
    if done < len(query_ids):
        progress(f"Encoding the queries of {name}", 0, 0)
        # All of them, also when some are done: a vector differs in its last digits with its batch.
        vectors = engine.encode_queries(list(maker.queries.values()))
    for start in range(done, len(query_ids), size):
        part = slice(start, start + size)
        cosines = maker.search.cosines(vectors[part])
        lists = [maker.list_of(id_, row) for id_, row in zip(query_ids[part], cosines, strict=True)]
        writer.add(each for each in lists if each is not None and each.query_id not in writer.done)
        done = start + len(lists)
        state = {"queries": done, "lists": len(writer.done), "counts": asdict(maker.counts)}
        write_whole(writer.folder / _STATE, json.dumps(state) + "\n")
        progress(f"Mining {name}", done, len(query_ids))
    return maker.counts


def _begun(writer: ListWriter) -> tuple[int, Counts]:
    """How many queries an interrupted run had finished, and what had happened to them."""
    with suppress(OSError, ValueError, TypeError, KeyError):  # not there, or damaged: counted anew
        state = json.loads((writer.folder / _STATE).read_text(encoding="utf-8"))
        if state["lists"] <= len(writer.done):
            return int(state["queries"]), Counts(**state["counts"])
    return 0, Counts()
