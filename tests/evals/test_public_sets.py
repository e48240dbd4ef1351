# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The real readers of ir_datasets on small local files in the formats of the public collections; nothing is fetched."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, NamedTuple

import pytest

from resrank_evals.collection import Passage
from resrank_evals.public_sets import NOT_PUBLIC, PRESETS, from_ir_dataset, load_ir_dataset, name_and_split


class LocalFile:
    """In the place of a download."""

    def __init__(self, path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        self._path = path

    def path(self, force: bool = True) -> Path:
        return self._path

    @contextlib.contextmanager
    def stream(self) -> Iterator[IO[bytes]]:
        with self._path.open("rb") as file:
            yield file


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "irds"))
    if importlib.util.find_spec("ir_datasets") is None:
        if os.environ.get("RESRANK_CI"):
            pytest.fail("ir_datasets must be installed in CI")
        pytest.skip("ir_datasets is not installed")
    import ir_datasets

    return ir_datasets


class Doc(NamedTuple):
    doc_id: str
    text: str | None
    title: str | None = ""


class Query(NamedTuple):
    query_id: str
    text: str


class Qrel(NamedTuple):
    query_id: str
    doc_id: str
    relevance: int


class Abstract(NamedTuple):
    doc_id: str
    title: str
    abstract: str

    def default_text(self) -> str:
        return f"{self.title} {self.abstract}"


class Bare(NamedTuple):
    doc_id: str
    body: str


DOCS = (Doc("d1", "Zinc is a metal.", "Zinc"), Doc("d2", None, None))
QUERIES = (Query("q1", "is zinc a metal"), Query("q2", "not judged"))
QRELS = (Qrel("q1", "d1", 2), Qrel("q1", "d2", -1))


def dataset(docs: Any = DOCS, queries: Any = QUERIES, qrels: Any = QRELS) -> Any:
    return SimpleNamespace(
        docs_iter=lambda: iter(docs), queries_iter=lambda: iter(queries), qrels_iter=lambda: iter(qrels)
    )


def read(source: Any, **more: Any) -> Any:
    return from_ir_dataset(source, name="tiny", split="dev", source="irds:tiny/dev", **more)


def test_reads_any_object_with_the_three_iterators():
    collection = read(dataset())
    assert (collection.name, collection.split, collection.source) == ("tiny", "dev", "irds:tiny/dev")
    assert collection.passages == {"d1": Passage("Zinc is a metal.", "Zinc"), "d2": Passage("")}
    assert collection.queries == {"q1": "is zinc a metal"}
    assert collection.qrels == {"q1": {"d1": 2, "d2": -1}}


def test_a_record_without_text_gives_its_default_text():
    collection = read(dataset([Abstract("d1", "Zinc", "A metal."), Abstract("d2", "Tin", "Too.")]))
    # The title is part of it already.
    assert collection.passages == {"d1": Passage("Zinc A metal."), "d2": Passage("Tin Too.")}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            SimpleNamespace(docs_iter=None, queries_iter=None),
            "expected a dataset with passages, queries and qrels, got one",
        ),
        (
            dataset(docs=[Bare("d1", "x")]),
            "expected records with `text` or `default_text()`, got one with doc_id, body",
        ),
        (dataset(docs=[*DOCS, DOCS[0]]), "expected each passage id 'd1' once, got it again after an earlier one"),
        (dataset(docs=[]), "expected passages, got none; fetch the collection again"),
        (
            dataset(queries=[*QUERIES, QUERIES[1]]),
            "expected each query id 'q2' once, got it again after an earlier one",
        ),
        (dataset(queries=[Query("q1", "")]), "expected the text of query 'q1', got the blank text ''"),
        (dataset(qrels=[]), "expected judgments, got none; choose an id that has qrels"),
        (
            dataset(qrels=[*QRELS, Qrel("q1", "d1", 1)]),
            "expected one grade a query and passage, got 2 and 1 for 'q1' and",
        ),
    ],
)
def test_datasets_that_do_not_fit(source, message):
    with pytest.raises(ValueError, match=re.escape(f"irds:tiny/dev: {message}")):
        read(source)


def test_judgments_of_unknown_queries_and_passages():
    message = "irds:tiny/dev, judgments of query 'q9': expected the id of a query of the collection, got 'q9'; add"
    with pytest.raises(ValueError, match=re.escape(message)):
        read(dataset(qrels=[*QRELS, Qrel("q9", "d1", 1)]))
    lacking = dataset(qrels=[*QRELS, Qrel("q1", "d9", 1)])
    message = "irds:tiny/dev, judgments of query 'q1': expected the id of a passage of the collection, got 'd9'; fetch"
    with pytest.raises(ValueError, match=re.escape(message)):
        read(lacking)
    assert read(lacking, missing_passages="keep").qrels["q1"]["d9"] == 1


@pytest.mark.parametrize(
    ("id_", "name", "split"),
    [
        ("beir/scifact/test", "scifact", "test"),
        ("beir/nfcorpus/dev", "nfcorpus", "dev"),
        ("beir/trec-covid", "trec-covid", "test"),
        ("beir/webis-touche2020/v2", "webis-touche2020-v2", "test"),
        ("msmarco-passage/trec-dl-2019/judged", "dl19", "test"),
        ("msmarco-passage/trec-dl-2020/judged", "dl20", "test"),
        ("msmarco-passage/train", "msmarco-passage", "train"),
        ("vaswani", "vaswani", "test"),
        ("test", "test", "test"),
    ],
)
def test_names(id_, name, split):
    assert name_and_split(id_) == (name, split)


def test_presets_name_each_collection_once():
    ids = [id_ for preset in PRESETS.values() for id_ in preset]
    assert len({name_and_split(id_) for id_ in ids}) == len(ids)
    assert len(PRESETS["beir8"]) + len(NOT_PUBLIC["beir8"]) == 8
    assert set(NOT_PUBLIC) <= set(PRESETS)


def test_says_how_to_install_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    with pytest.raises(ImportError, match=re.escape("install it with `pip install 'resrank[evals]'`")):
        load_ir_dataset("beir/scifact/test")


def test_the_library_knows_every_id_of_the_presets(library):
    for id_ in (id_ for ids in PRESETS.values() for id_ in ids):
        found = library.load(id_)
        assert found.has_docs() and found.has_queries() and found.has_qrels(), id_


def test_an_unknown_id(library):
    message = (
        "irds:beir/nowhere: expected an id of ir_datasets, e.g. beir/scifact/test, got 'beir/nowhere'; its catalogue"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        load_ir_dataset("beir/nowhere")


def test_reads_files_in_the_formats_of_ms_marco(library, tmp_path):
    from ir_datasets.formats import TrecQrels, TsvDocs, TsvQueries

    library.registry.register(
        "resrank-marco/trec-dl-2019",
        library.Dataset(
            TsvDocs(LocalFile(tmp_path / "collection.tsv", "0\tZinc is a metal.\n1\tCafé au lait.\n")),
            TsvQueries(LocalFile(tmp_path / "queries.tsv", "19\tis zinc a metal\n20\tnot judged\n")),
            TrecQrels(LocalFile(tmp_path / "qrels.txt", "19 Q0 0 3\n19 Q0 1 0\n"), {}),
        ),
    )
    collection = load_ir_dataset("resrank-marco/trec-dl-2019")
    assert (collection.name, collection.split) == ("resrank-marco-trec-dl-2019", "test")
    assert collection.source == "irds:resrank-marco/trec-dl-2019"
    assert collection.passages == {"0": Passage("Zinc is a metal."), "1": Passage("Café au lait.")}
    assert collection.queries == {"19": "is zinc a metal"}
    assert collection.qrels == {"19": {"0": 3, "1": 0}}


def test_reads_files_in_the_formats_of_beir(library, tmp_path, monkeypatch):
    from ir_datasets.datasets import beir
    from ir_datasets.formats import GenericQuery

    monkeypatch.setattr(library.util, "home_path", lambda: tmp_path)
    (tmp_path / "beir").mkdir()
    corpus = [{"_id": "d1", "title": "Zinc", "text": "A metal."}, {"_id": "d2", "title": "", "text": "Tin."}]
    queries = [{"_id": "q1", "text": "is zinc a metal", "metadata": {}}]
    library.registry.register(
        "resrank-beir/dev",
        library.Dataset(
            beir.BeirDocs(
                "tiny",
                LocalFile(tmp_path / "corpus.jsonl", "\n".join(map(json.dumps, corpus)) + "\n"),
                beir.BeirTitleDoc,
            ),
            beir.BeirQueries(
                "tiny", LocalFile(tmp_path / "queries.jsonl", "\n".join(map(json.dumps, queries)) + "\n"), GenericQuery
            ),
            beir.BeirQrels(LocalFile(tmp_path / "dev.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t-1\n"), {}),
        ),
    )
    collection = load_ir_dataset("resrank-beir/dev")
    assert (collection.name, collection.split) == ("resrank-beir", "dev")
    assert collection.passages == {"d1": Passage("A metal.", "Zinc"), "d2": Passage("Tin.")}
    assert collection.qrels == {"q1": {"d1": 1, "d2": -1}}


def test_reads_topics_of_trec(library, tmp_path):
    from ir_datasets.formats import TrecQrels, TrecQueries, TsvDocs

    topics = "<top>\n<num> Number: 301\n<title> Organized Crime\n<desc> Description:\nx\n<narr> Narrative:\ny\n</top>\n"
    library.registry.register(
        "resrank-trec",
        library.Dataset(
            TsvDocs(LocalFile(tmp_path / "collection.tsv", "0\tZinc.\n")),
            TrecQueries(LocalFile(tmp_path / "topics.txt", topics)),
            TrecQrels(LocalFile(tmp_path / "qrels.txt", "301 0 0 1\n"), {}),
        ),
    )
    assert load_ir_dataset("resrank-trec").queries == {"301": "Organized Crime"}
