# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Mining on a small collection, through the real store and model, against the retriever and naive computations."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from haystack import Document
from haystack.dataclasses import SparseEmbedding

from haystack_integrations.common.resrank import ResRankModel
from haystack_integrations.common.resrank.documents import entry
from haystack_integrations.components.retrievers.resrank import ResRankRetriever
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
from resrank.evidence import evidence_from_meta, fuse
from resrank_evals.collection import Collection, Passage
from resrank_evals.collection_store import CollectionStore
from resrank_evals.loading import CollectionSource
from resrank_training import list_maker, mining
from resrank_training.list_maker import Counts, MiningSettings
from resrank_training.lists import INFO, LISTS, PASSAGES, ListSet, TrainingList, read_lists
from resrank_training.mining import Mined, check_names, mine
from resrank_training.vectors import passage_vectors

# Every passage has it, so that the lexical list is longer than what is fused.
EVERYWHERE = "knowledge"
COMMON = f"{EVERYWHERE} of bread and yeast"
Mine = Callable[..., Mined]


@pytest.fixture(scope="module")
def words(corpus: tuple[str, ...]) -> list[str]:
    return sorted({word.strip(".,;").lower() for text in corpus for word in text.split()} - {"of"})


@pytest.fixture(scope="module")
def collection(words: list[str], queries: tuple[str, ...]) -> Collection:
    """160 passages of random words, one of them blank; six queries."""
    rng = random.Random(7)
    passages = {f"d{n:03}": Passage(f"{EVERYWHERE} {' '.join(rng.sample(words, 4 + n % 17))}.") for n in range(159)}
    passages["blank"] = Passage(" \n")
    texts = {f"q{n}": text for n, text in enumerate((*queries, COMMON, "what is the"))}
    rng = random.Random(8)
    qrels = {id_: {f"d{n:03}": 1 + n % 2 for n in rng.sample(range(159), 5)} for id_ in texts}
    qrels["q4"] = {f"d{n:03}": 1 for n in range(0, 159, 7)}
    qrels["q0"] |= {"d001": 0, "d002": -1, "blank": 1}
    return Collection("small", "train", passages, texts, qrels, source="made up")


@pytest.fixture(scope="module")
def model(tiny_mini_checkpoint: Path) -> Iterator[ResRankModel]:
    handle = ResRankModel(str(tiny_mini_checkpoint), dtype="float32", device="cpu")
    engine = handle.load("encoder")  # held, so that every test shares it
    yield handle
    del engine


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture
def mined(collection: Collection, model: ResRankModel, stores: Path, tmp_path: Path) -> Mine:
    def run(of: Collection = collection, *, out: str = "out", progress: Any = None, **settings: Any) -> Mined:
        told = progress if progress is not None else lambda *_: None
        return mine(of, model, MiningSettings(**settings), out=tmp_path / out, stores=stores, progress=told)

    return run


@pytest.fixture
def store(collection: Collection, model: ResRankModel, stores: Path) -> Iterator[QdrantEdgeDocumentStore]:
    stored = CollectionStore(collection, model, stores)
    stored.fill(lambda *_: None)
    yield stored.store
    stored.close()


@pytest.fixture
def retrieve(store: QdrantEdgeDocumentStore, model: ResRankModel) -> Iterator[Callable[[str, int], list[Document]]]:
    """The product's own first stage."""
    retriever = ResRankRetriever(document_store=store, model=model, mode="hybrid")
    yield lambda query, top_k: retriever.run(query=query, top_k=top_k)["documents"]
    retriever.close()


def content(made: Mined) -> dict[str, TrainingList]:
    return {each.query_id: each for each in lists(made).lists}


def matches_of(one: TrainingList, model: ResRankModel, of: Collection) -> np.ndarray:
    """How the words of its candidates match its query."""
    return model.load("encoder").matcher.matches(one.query, [of.passages[id_].content for id_ in one.passages])


def lists(made: Mined) -> ListSet:
    return read_lists(made.folder)


def passages_of(store: QdrantEdgeDocumentStore) -> tuple[list[str], np.ndarray]:
    documents = store.filter_documents()
    return [each.id for each in documents], np.array([each.embedding for each in documents], dtype=np.float64)


# ------------------------------------------------------------------------------------------------- against the product


@pytest.mark.parametrize("candidates", [7, 60, 120])
@pytest.mark.parametrize("form", ["as-is", "keywords"])
def test_candidates_are_those_of_the_retriever(mined, retrieve, model, collection, candidates, form):  # noqa: PLR0917
    found = content(mined(candidates=candidates, query_form=form))
    assert len(found) == 6
    for one in found.values():
        text = one.query
        documents = retrieve(text, candidates)
        assert one.passages[: one.first_stage(candidates)] == tuple(document.id for document in documents)
        expected = evidence_from_meta(text, [entry(document) for document in documents])[0].features
        # What the retriever does not know of passages from the lexical list alone, the model computes.
        vector = model.load("encoder").encode_queries([text])[0]
        cosines = np.array([document.embedding for document in documents], dtype=np.float32) @ vector
        expected[:, 1] = np.where(np.isnan(expected[:, 1]), cosines, expected[:, 1])
        expected[:, 5:] = matches_of(one, model, collection)[: len(documents)]
        np.testing.assert_allclose(one.evidence[: len(documents)], expected, atol=2e-6)
        assert not np.isnan(one.evidence).any()


def test_the_lists_differ(retrieve):
    """Or the test above would not see what happens to passages of one list alone."""
    found = [entry(document) for document in retrieve(COMMON, 120)]
    assert any(each["dense_score"] is None for each in found)
    assert any(each["bm25_rank"] == 0 for each in found)


@pytest.mark.parametrize("candidates", [3, 20])
def test_added_positives_have_their_own_evidence(mined, model, store, collection, candidates):
    made = mined(candidates=candidates)
    ids, vectors = passages_of(store)
    engine = model.load("encoder")
    added = deep = 0
    for query_id, one in content(made).items():
        cosines = vectors @ engine.encode_queries([one.query])[0].astype(np.float64)
        dense = sorted(zip(ids, cosines.tolist(), strict=True), key=lambda hit: (-hit[1], hit[0]))
        indices, values = engine.lexical.encode_query(one.query)
        terms = SparseEmbedding(indices=indices, values=values)
        _, bm25 = store.search_ids(query_embedding=None, query_sparse_embedding=terms, top_k=1_000)
        # The fusion of both lists as deep as they go.
        everything = {each.id: each.meta for each in fuse(one.query, bm25=bm25, dense=dense)}
        rest = one.passages[candidates:]
        matches = matches_of(one, model, collection)[candidates:]
        features = evidence_from_meta(one.query, [everything[id_] for id_ in rest], matches)[0].features
        np.testing.assert_allclose(one.evidence[candidates:], features, atol=2e-6)
        relevant = {id_ for id_, grade in collection.qrels[query_id].items() if grade > 0} - {"blank"}
        missed = relevant - set(one.passages[:candidates])
        assert one.pool == (candidates if missed else None)
        # Each comes with the passage next to it in the dense order: deep ranks alone do not tell it apart.
        beside = set(rest) - missed
        assert missed <= set(rest)
        assert len(beside) == len(missed)
        assert not beside & set(collection.qrels[query_id])
        places = {id_: place for place, (id_, _) in enumerate(dense)}
        taken = set(one.passages) | set(collection.qrels[query_id])
        for id_ in missed:
            nearest = min(abs(places[id_] - places[other]) for other in beside)
            free = [abs(places[id_] - place) for other, place in places.items() if other not in taken]
            assert nearest <= min(free, default=len(dense)) + len(missed)
        assert list(rest) == sorted(rest, key=lambda id_: (-everything[id_]["rrf_score"], id_))
        added += len(missed)
        deep += sum(everything[id_]["bm25_rank"] > 100 for id_ in rest)
    assert made.counts.added == added > 0
    assert deep > 0  # the deeper search was needed


def test_a_positive_beyond_the_deeper_search_is_not_in_that_list(mined, monkeypatch):
    whole = content(mined(candidates=3))["q4"]
    monkeypatch.setattr(list_maker, "_DEEP", 100)
    cut = content(mined(candidates=3, out="cut"))["q4"]
    assert set(cut.passages) == set(whole.passages)
    known = dict(zip(whole.passages, whole.evidence, strict=True))
    beyond = 0
    for id_, grade, row in zip(cut.passages[3:], cut.grades[3:], cut.evidence[3:], strict=True):
        if grade is None:
            continue
        np.testing.assert_array_equal(row[[1, 4]], known[id_][[1, 4]])
        if known[id_][3] >= 1 / 100:
            np.testing.assert_array_equal(row, known[id_])
        else:
            assert (row[0], row[3]) == (0, 0)
            assert row[2] == pytest.approx(61 / 2 / (60 + round(1 / row[4])), abs=2e-6)  # one list is left of two
            beyond += 1
    assert beyond > 0


def test_a_query_of_stop_words_has_no_lexical_list(mined):
    one = content(mined(candidates=10))["q5"]
    assert (one.evidence[:, [0, 3]] == 0).all()
    np.testing.assert_allclose(one.evidence[:10, 4], 1 / np.arange(1, 11), atol=1e-6)


def test_matches_are_those_of_all_that_the_list_holds(mined, model, collection):
    """Titles have words too; where nothing was added, they are what the ranker sees of the retriever's candidates."""
    positive = Passage(collection.passages["d100"].text, "Parse a date")
    of = replace(collection, passages={**collection.passages, "d100": positive}, qrels={"q0": {"d100": 1}})
    of = replace(of, queries={"q0": "parse a date"})
    (pool,) = content(mined(of, candidates=200)).values()
    (small,) = content(mined(of, candidates=1, out="small")).values()
    for one in (pool, small):
        np.testing.assert_allclose(one.evidence[:, 5:], matches_of(one, model, of), atol=2e-6)
        row = one.evidence[one.passages.index("d100")]
        assert row[[5, 6, 7, 9]].tolist() == [1, 1, 1, 1]
        assert 0 < row[8] < 1  # `Parse` is not `parse`
    assert pool.pool is None
    assert len(np.unique(pool.evidence[:, 5])) > 2


def test_the_keywords_are_what_is_matched(mined, model, collection):
    for one in content(mined(candidates=20, query_form="keywords")).values():
        assert one.query != collection.queries[one.query_id.removesuffix("#keywords")] or one.query == "what is the"
        np.testing.assert_allclose(one.evidence[:, 5:], matches_of(one, model, collection), atol=2e-6)


# -------------------------------------------------------------------------------------------------------------- grades


def test_known_grades_stay_and_others_are_unknown(mined, collection):
    for query_id, one in content(mined(candidates=120)).items():
        assert one.grades == tuple(collection.qrels[query_id].get(id_) for id_ in one.passages)
    graded = content(mined(candidates=200, out="all"))["q0"]  # the whole collection
    assert {0, -1, None} < set(graded.grades)
    assert {graded.passages[i] for i in graded.positives} == {
        id_ for id_, grade in collection.qrels["q0"].items() if grade > 0 and id_ != "blank"
    }


def test_what_cannot_be_found_is_counted(mined, collection):
    qrels = {
        "q0": {"d000": 1, "gone": 1, "blank": 2},
        "q1": {"gone": 1, "blank": 1},
        "q2": {"d001": 0},
        "q3": {"d003": 1},
    }
    of = replace(collection, qrels=qrels, queries={id_: collection.queries[id_] for id_ in qrels})
    made = mined(of, candidates=10)
    assert list(content(made)) == ["q0", "q3"]
    counts = made.counts
    assert (counts.queries, counts.lists, counts.without_positive, counts.not_found) == (4, 2, 2, 4)


def test_no_list_at_all_is_an_error(mined, collection, tmp_path):
    of = replace(collection, qrels={"q1": {"blank": 1}}, queries={"q1": "x"})
    with pytest.raises(ValueError, match="small: none of 1 queries has a relevant passage with text: no lists"):
        mined(of)
    assert list((tmp_path / "out" / "small").iterdir()) == []


def test_unjudged_twins_of_a_positive_are_left_out(mined, collection):
    qrels = {"q0": {"d000": 1, "d001": 0}}
    twin = collection.passages["d000"].text
    passages = {
        **collection.passages,
        "d001": Passage(twin),  # judged and not relevant: a contradiction
        "d002": Passage(f"  {twin.replace(' ', chr(10), 2)} "),
        "d003": Passage(twin, "another title"),
        "d004": Passage(twin.upper()),
    }
    of = replace(collection, passages=passages, qrels=qrels, queries={"q0": collection.queries["q0"]})
    made = mined(of, candidates=200)
    (one,) = content(made).values()
    assert made.counts.duplicates == 3
    assert not {"d001", "d002", "d003"} & set(one.passages)
    assert {"d000", "d004"} < set(one.passages)


def test_two_positives_with_one_text_both_stay(mined, collection):
    passages = {**collection.passages, "d001": collection.passages["d000"]}
    of = replace(
        collection, passages=passages, qrels={"q0": {"d000": 1, "d001": 2}}, queries={"q0": collection.queries["q0"]}
    )
    made = mined(of, candidates=5)
    assert made.counts.duplicates == 0
    assert {"d000", "d001"} < set(content(made)["q0"].passages)


def test_passages_with_a_title_alone_are_no_twins(mined, collection):
    passages = {**collection.passages, "d000": Passage("", "bread"), "d001": Passage(" ", "yeast")}
    of = replace(collection, passages=passages, qrels={"q0": {"d000": 1}}, queries={"q0": collection.queries["q0"]})
    made = mined(of, candidates=200)
    assert made.counts.duplicates == 0
    assert "d001" in content(made)["q0"].passages


@pytest.mark.parametrize("ratio", [1.0, 0.97, 0.9])
def test_likely_false_negatives_are_left_out(mined, model, collection, ratio):
    everything = content(mined(candidates=150))
    made = mined(candidates=150, max_score_ratio=ratio, out="filtered")
    filtered = 0
    for query_id, one in content(made).items():
        whole = everything[query_id]
        limit = ratio * max(whole.evidence[i, 1] for i in whole.positives)
        pool = whole.first_stage(150)
        kept = [i for i in range(pool) if whole.grades[i] is not None or whole.evidence[i, 1] <= limit]
        assert one.passages[: one.first_stage(150)] == tuple(whole.passages[i] for i in kept)
        np.testing.assert_array_equal(one.evidence[: len(kept), :5], whole.evidence[kept, :5])
        # What is left out weighs nothing.
        np.testing.assert_allclose(one.evidence[:, 5:], matches_of(one, model, collection), atol=2e-6)
        assert all(g is not None or row[1] <= limit for g, row in zip(one.grades, one.evidence, strict=True))
        filtered += pool - len(kept)
    assert made.counts.filtered == filtered > 0


# -------------------------------------------------------------------------------------------------------------- counts


def test_counts_add_up(mined, collection):
    made = mined(candidates=20)
    found = content(made)
    pool = sum(
        any(collection.qrels[id_].get(passage, 0) > 0 for passage in one.passages[:20]) for id_, one in found.items()
    )
    total = sum(len(one.passages) for one in found.values())
    added = sum(i >= one.first_stage(20) for one in found.values() for i in one.positives)
    assert made.counts == Counts(queries=6, in_pool=pool, added=added, candidates=total, not_found=1)
    assert total == 120 + 2 * added  # each with a neighbour
    values = made.to_json()
    assert (values["share_in_pool"], values["mean_candidates"], values["lists"]) == (pool / 6, total / 6, 6)
    assert lists(made).info["counts"]["candidates"] == total


def test_only_named_passages_are_kept(mined, collection):
    made = mined(candidates=4)
    named = {id_ for one in content(made).values() for id_ in one.passages}
    kept = lists(made).passages
    assert set(kept) == named < set(collection.passages)
    assert all(kept[id_] == collection.passages[id_] for id_ in named)


def test_the_vectors_of_named_passages_are_kept(mined, model, store):
    made = mined(candidates=4)
    engine = model.load("encoder")
    kept = np.load(passage_vectors(made.folder, engine.fingerprint))
    stored = dict(zip(*passages_of(store), strict=True))
    np.testing.assert_array_equal(kept, [stored[id_] for id_ in lists(made).passages])
    assert {path.suffix for path in made.folder.iterdir()} == {".json", ".jsonl", ".npy"}


def test_keywords_count_what_stays_whole(mined):
    made = mined(candidates=5, query_form="keywords")
    texts = {one.query_id: one.query for one in lists(made).lists}
    assert texts == {
        "q0#keywords": "parse date",
        "q1#keywords": "error E1234 mean",
        "q2#keywords": "capital France",
        "q3#keywords": "discovered penicillin",
        "q4#keywords": "knowledge bread yeast",
        "q5#keywords": "what is the",
    }
    assert made.counts.unreduced == 1


def test_a_sample_is_the_same_on_every_run(mined, collection):
    one = set(content(mined(queries=3, seed=5)))
    assert one == set(content(mined(queries=3, seed=5, out="again"))) == set(collection.sample(3, 5).queries)
    assert len(one) == 3


# -------------------------------------------------------------------------------------------------------- interruption


def interrupted(after: int) -> Callable[[str, int, int], None]:
    def told(what: str, done: int, total: int) -> None:
        if what.startswith("Mining") and done >= after:
            raise KeyboardInterrupt

    return told


@pytest.mark.parametrize("state", ["kept", "lost", "damaged", "older"])
@pytest.mark.parametrize("rest", ["", '{"query_id": "q9", "pas'])
def test_a_killed_run_goes_on(mined, monkeypatch, tmp_path, state, rest):
    monkeypatch.setattr(mining, "_QUERIES_PER_WRITE", 2)
    whole = mined(candidates=10, out="whole")
    folder = tmp_path / "killed" / "small"
    counted = folder / "progress.json.part"
    with pytest.raises(KeyboardInterrupt):
        mined(candidates=10, out="killed", progress=interrupted(2))
    older = counted.read_text(encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        mined(candidates=10, out="killed", progress=interrupted(4))
    assert len((folder / LISTS).read_bytes().splitlines()) == 4
    if state == "lost":
        counted.unlink()
    elif state != "kept":
        counted.write_text(older if state == "older" else "{", encoding="utf-8")
    with (folder / LISTS).open("a", encoding="utf-8") as file:
        file.write(rest)
    again = mined(candidates=10, out="killed")
    assert again.counts == whole.counts
    assert not again.kept
    for name in (LISTS, PASSAGES, INFO):
        assert (folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert {path.name for path in folder.iterdir()} == {path.name for path in whole.folder.iterdir()}


def test_lists_that_did_not_reach_the_disk_are_made_again(mined, monkeypatch, tmp_path):
    monkeypatch.setattr(mining, "_QUERIES_PER_WRITE", 2)
    whole = mined(candidates=10, out="whole")
    with pytest.raises(KeyboardInterrupt):
        mined(candidates=10, out="killed", progress=interrupted(4))
    path = tmp_path / "killed" / "small" / LISTS
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    again = mined(candidates=10, out="killed")
    assert again.counts == whole.counts
    assert lists(again).digest == lists(whole).digest


def test_a_finished_folder_is_kept(mined):
    first = mined(candidates=10)
    again = mined(candidates=10)
    assert (first.kept, again.kept) == (False, True)
    assert replace(again, kept=False) == first
    with pytest.raises(ValueError, match=r"small holds training lists made with candidates 10, not 11: name another"):
        mined(candidates=11)


def test_other_passages_or_another_model_are_other_lists(mined, collection, tiny_safe_checkpoint, stores, tmp_path):
    mined(candidates=10)
    fewer = replace(collection, passages={id_: p for id_, p in collection.passages.items() if id_ != "d100"})
    with pytest.raises(ValueError, match="made with collection_fingerprint"):
        mined(fewer, candidates=10)
    info = json.loads((tmp_path / "out" / "small" / INFO).read_text(encoding="utf-8"))
    path = tmp_path / "out" / "small" / INFO
    path.write_text(json.dumps({**info, "model_fingerprint": "0" * 16}), encoding="utf-8")
    with pytest.raises(ValueError, match="made with model_fingerprint '0000000000000000', not"):
        mined(candidates=10)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"candidates": 0}, "candidates must be at least 1, got 0"),
        ({"queries": 0}, "queries must be at least 1, got 0"),
        ({"max_score_ratio": 0.0}, "max_score_ratio must be above 0 and at most 1, got 0.0"),
        ({"max_score_ratio": 1.1}, "max_score_ratio must be above 0 and at most 1, got 1.1"),
        ({"max_score_ratio": float("nan")}, "max_score_ratio must be above 0 and at most 1, got nan"),
        ({"query_form": "upper"}, "query_form must be one of as-is, keywords, got 'upper'"),
    ],
)
def test_wrong_settings_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        MiningSettings(**values)


def test_two_collections_of_one_name_are_refused():
    sources = [CollectionSource(name, "train", lambda: None) for name in ("a", "B", "b")]
    with pytest.raises(ValueError, match="collections must have different names, got B, b more than once"):
        check_names(sources)
    check_names(sources[:2])
