# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Public collections by their ids in ir_datasets, which fetches them and keeps them in its own folder."""

from __future__ import annotations

import importlib
from typing import Any

from resrank_pipelines.lines import fault, shown

from .collection import Collection, Passage
from .lines import MissingPassages, check_missing_passages, check_query, duplicate, make_collection

PRESETS: dict[str, list[str]] = {
    "dl19": ["msmarco-passage/trec-dl-2019/judged"],
    "dl20": ["msmarco-passage/trec-dl-2020/judged"],
    "beir8": [
        "beir/trec-covid",
        "beir/webis-touche2020/v2",
        "beir/dbpedia-entity/test",
        "beir/scifact/test",
        "beir/nfcorpus/test",
    ],
}
"""Names for groups of ids. `beir8` is what papers on listwise reranking report, less `NOT_PUBLIC`."""

_CONVERT = "then convert it to a folder in BEIR layout (docs/data.md) and name that folder"

NOT_PUBLIC: dict[str, dict[str, str]] = {
    "beir8": {
        "signal1m": f"get Signal-1M from its owners (its tweets may not be passed on), {_CONVERT}",
        "trec-news": f"get the Washington Post collection under NIST's agreement, {_CONVERT}",
        "robust04": f"get TREC disks 4 and 5 under NIST's agreement, {_CONVERT}",
    }
}
"""What else belongs to a preset, and what to do for it: the texts of these sets may not be passed on."""

_NAMES = {ids[0]: preset for preset, ids in PRESETS.items() if len(ids) == 1}
_SPLITS = ("train", "dev", "test")


def name_and_split(id_: str) -> tuple[str, str]:
    """
    Read the id of a collection.

    :param id_: in ir_datasets, e.g. `beir/nfcorpus/dev`.
    :returns: short name and split, e.g. `nfcorpus` and `dev`; the split is `test` where the id names none.
    """
    if id_ in _NAMES:
        return _NAMES[id_], "test"
    parts = id_.removeprefix("beir/").split("/")
    split = parts.pop() if len(parts) > 1 and parts[-1] in _SPLITS else "test"
    return "-".join(parts), split


def load_ir_dataset(id_: str, *, missing_passages: MissingPassages = "error") -> Collection:
    """
    Read a collection through ir_datasets, which fetches it the first time.

    All passages are held in memory, as text and title alone: the 8.8 million of MS MARCO take several GB.

    :param id_: in ir_datasets, e.g. `beir/scifact/test`.
    :param missing_passages: what to do with judgments of passages that the collection lacks: `"error"`, or `"keep"`
        them as passages that no system can find, with a warning.
    :returns: all passages, and the queries that have judgments.
    :raises ImportError: when ir_datasets is not installed.
    :raises ValueError: when there is no such id, it lacks passages, queries or qrels, or these do not fit together.
    """
    check_missing_passages(missing_passages)
    try:
        ir_datasets = importlib.import_module("ir_datasets")
    except ImportError as error:
        msg = "public collections need ir_datasets: install it with `pip install 'resrank[evals]'`"
        raise ImportError(msg) from error
    try:
        dataset = ir_datasets.load(id_)
    except KeyError as error:
        msg = f"irds:{id_}: expected an id of ir_datasets, e.g. beir/scifact/test, got {id_!r}; its catalogue lists all"
        raise ValueError(msg) from error
    name, split = name_and_split(id_)
    return from_ir_dataset(dataset, name=name, split=split, source=f"irds:{id_}", missing_passages=missing_passages)


def from_ir_dataset(
    dataset: Any, *, name: str, split: str, source: str, missing_passages: MissingPassages = "error"
) -> Collection:
    """
    Read a dataset object of ir_datasets, or anything else with its three iterators.

    A passage is the field `text` and, where there is one, `title`; without `text` it is what `default_text()` gives. So
    is a query.

    :param dataset: with `docs_iter`, `queries_iter` and `qrels_iter`, as of ir_datasets.
    :param name: of the collection.
    :param split: of the qrels.
    :param source: for messages and as the `source` of the collection.
    :param missing_passages: as for `load_ir_dataset`.
    :returns: all passages, and the queries that have judgments.
    :raises ValueError: when an iterator is missing, or what they give does not fit together.
    """
    for iterator in ("docs_iter", "queries_iter", "qrels_iter"):
        if not hasattr(dataset, iterator):
            kinds = "passages, queries and qrels"
            advice = "choose an id that has all three, such as its test split"
            raise fault(source, expected=f"a dataset with {kinds}", got=f"one without {iterator}", advice=advice)
    # Judgments and queries first: they are small, and a fault in them shows before millions of passages are read.
    qrels = _qrels(dataset, source)
    texts: dict[str, str] = {}
    for query in dataset.queries_iter():
        if query.query_id in texts:
            raise duplicate(source, "an earlier one", f"query id {shown(query.query_id)}")
        texts[query.query_id] = _text(source, query)
        check_query(source, query.query_id, texts[query.query_id])
    passages: dict[str, Passage] = {}
    for document in dataset.docs_iter():
        if document.doc_id in passages:
            raise duplicate(source, "an earlier one", f"passage id {shown(document.doc_id)}")
        title = (getattr(document, "title", "") or "") if hasattr(document, "text") else ""
        passages[document.doc_id] = Passage(text=_text(source, document), title=title)
    if not passages:
        raise fault(source, expected="passages", got="none", advice="fetch the collection again")
    return make_collection(
        name=name,
        split=split,
        source=source,
        passages=passages,
        texts=texts,
        qrels=qrels,
        judged_at=lambda query, _: f"{source}, judgments of query {shown(query)}",
        texts_name="the collection",
        passages_name="the collection",
        missing_passages=missing_passages,
    )


def _qrels(dataset: Any, source: str) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    for each in dataset.qrels_iter():
        grade = int(each.relevance)
        first = qrels.setdefault(each.query_id, {}).setdefault(each.doc_id, grade)
        if first != grade:
            raise fault(
                source,
                expected="one grade a query and passage",
                got=f"{first} and {grade} for {shown(each.query_id)} and {shown(each.doc_id)}",
                advice="choose a collection without subtopics",
            )
    if not qrels:
        raise fault(source, expected="judgments", got="none", advice="choose an id that has qrels")
    return qrels


def _text(source: str, record: Any) -> str:
    if hasattr(record, "text"):
        return record.text or ""
    if hasattr(record, "default_text"):
        return str(record.default_text())
    fields = ", ".join(getattr(record, "_fields", ())) or type(record).__name__
    raise fault(
        source,
        expected="records with `text` or `default_text()`",
        got=f"one with {fields}",
        advice="convert the collection to a folder in BEIR layout (docs/data.md)",
    )
