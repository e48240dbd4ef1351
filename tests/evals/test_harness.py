# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Systems on a small collection, through the real components, against independent computations."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from haystack import Document
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from haystack_integrations.common.resrank import ResRankModel
from resrank import RerankerConfig, ResRank, ResRankConfig
from resrank_evals.beir import load_beir
from resrank_evals.collection import Collection
from resrank_evals.harness import Outcome, Settings, run
from resrank_evals.haystack_native import evaluate_with_haystack
from resrank_evals.loading import CollectionSource
from resrank_evals.measures import evaluate, mean
from resrank_evals.peers.e2rank import E2RankRanker
from resrank_evals.peers.pe_rank import PERankRanker
from resrank_evals.peers.pe_rank_model import PERank, PERankConfig
from resrank_evals.results import RESULT, RUN, folder_name, read_results
from resrank_evals.runners.cross_encoder import rank_by_cross_encoder
from resrank_evals.systems import CrossEncoderSystem, parse_system
from resrank_evals.trec import Run, read_run
from resrank_pipelines import read_definition

Measure = Callable[..., dict[str, Outcome]]


@pytest.fixture
def small(write_beir: Callable[..., Path], tmp_path: Path, corpus: tuple[str, ...], queries: tuple[str, ...]) -> Path:
    """48 passages, of which one is blank; 4 queries, each with two relevant ones."""
    # Of different lengths, so that BM25 scores are not equal.
    passages = {f"d{n:02}": corpus[n % 12] + " It says more." * (n // 12) for n in range(47)}
    passages["blank"] = " "
    texts = {f"q{n}": text for n, text in enumerate(queries)}
    qrels = {f"q{n}": {f"d{n:02}": 2, f"d{n + 12:02}": 1, f"d{n + 1:02}": 0} for n in range(len(texts))}
    return write_beir(tmp_path / "small", passages, texts, qrels)


@pytest.fixture
def collection(small: Path) -> Collection:
    return load_beir(small)


@pytest.fixture
def measure(small: Path, tmp_path: Path, tiny_mini_checkpoint: Path) -> Measure:
    """Measures systems on the small collection; gives outcomes by system name."""

    def measured(*names: str, **changes: Any) -> dict[str, Outcome]:
        model = ResRankModel(str(changes.pop("model", tiny_mini_checkpoint)), dtype="float32", device="cpu")
        folder = changes.pop("folder", small)
        settings = Settings(
            **{"out": tmp_path / "out", "stores": tmp_path / "stores", "model": model, "depth": 20, **changes}
        )
        source = CollectionSource("small", "test", lambda: load_beir(folder))
        found = run([source], [parse_system(name) for name in names], settings, lambda *_: None)
        return {outcome.result.system: outcome for outcome in found}

    return measured


def stored(out: Path, system: str) -> Run:
    return read_run(out / "small" / folder_name(system) / RUN)


def vectors(checkpoint: Path, collection: Collection) -> tuple[ResRank, list[str], np.ndarray]:
    model = ResRank.from_pretrained(checkpoint, dtype="float32", device="cpu")
    texts = {id_: passage.content for id_, passage in collection.passages.items() if passage.content.strip()}
    return model, list(texts), model.encode_passages(list(texts.values()))


def test_dense_and_fusion_agree_with_numpy(measure, collection, tiny_mini_checkpoint, tmp_path):
    outcomes = measure("bm25", "dense", "rrf")
    model, ids, passages = vectors(tiny_mini_checkpoint, collection)
    dense: Run = {}
    for query_id, query in collection.queries.items():
        scores = passages.astype(np.float64) @ model.encode_queries([query])[0].astype(np.float64)
        dense[query_id] = sorted(zip(ids, scores.tolist(), strict=True), key=lambda hit: (-hit[1], hit[0]))[:20]
    found = stored(tmp_path / "out", "dense")
    for query_id, hits in dense.items():
        assert [score for _, score in found[query_id]] == pytest.approx([score for _, score in hits], abs=1e-5)
    assert outcomes["dense"].result.means == pytest.approx(mean(evaluate(dense, collection.qrels)), abs=1e-4)
    # The fusion takes 100 of each list, here all.
    everything = measure("bm25", "dense", depth=100, out=tmp_path / "deep")
    assert set(everything) == {"bm25", "dense"}
    lists = [stored(tmp_path / "deep", name) for name in ("bm25", "dense")]
    for query_id, hits in stored(tmp_path / "out", "rrf").items():
        fused: dict[str, float] = {}
        for ranking in lists:
            for rank, (id_, _) in enumerate(ranking.get(query_id, []), 1):
                fused[id_] = fused.get(id_, 0.0) + 1 / (60 + rank)
        expected = sorted(fused.items(), key=lambda hit: (-hit[1], hit[0]))[:20]
        assert hits == [(id_, pytest.approx(score)) for id_, score in expected]


def test_at_safe_start_resrank_is_its_first_stage(measure, tiny_safe_checkpoint):
    names = ["bm25", "dense", "rrf", *(f"resrank:pool={pool}" for pool in ("bm25", "dense")), "resrank"]
    found = measure(*names, model=tiny_safe_checkpoint)
    for system, stage in [("resrank:pool=bm25", "bm25"), ("resrank:pool=dense", "dense"), ("resrank", "rrf")]:
        assert found[system].result.per_query == found[stage].result.per_query
        assert found[system].result.pool == stage


def test_options_of_resrank(measure, tmp_path):
    names = ("resrank", "resrank:order=shuffled", "resrank:attention=causal", "resrank:evidence=off")
    measure(*names, "resrank:attention=causal,order=shuffled")
    given, shuffled, causal, pure = (stored(tmp_path / "out", name) for name in names)
    differ = {"causal": False, "pure": False}
    for query_id, hits in given.items():
        assert dict(shuffled[query_id]) == pytest.approx(dict(hits), abs=1e-5), "order-free scores"
        assert {id_ for id_, _ in causal[query_id]} == {id_ for id_, _ in hits}
        differ["causal"] |= dict(causal[query_id]) != pytest.approx(dict(hits), abs=1e-5)
        differ["pure"] |= dict(pure[query_id]) != pytest.approx(dict(hits), abs=1e-5)
    assert differ == {"causal": True, "pure": True}
    moved = stored(tmp_path / "out", "resrank:attention=causal,order=shuffled")
    assert any(dict(moved[query_id]) != pytest.approx(dict(hits), abs=1e-5) for query_id, hits in causal.items())


def test_what_it_costs_is_counted(measure, collection, tiny_mini_checkpoint):
    found = {name: outcome.result for name, outcome in measure("bm25", "dense", "resrank", "resrank:pool=bm25").items()}
    model = ResRank.from_pretrained(tiny_mini_checkpoint, dtype="float32", device="cpu")
    read = [len(ids) for ids in model.encoder.tokenize(list(collection.queries.values()), is_query=True)[0]]
    prompts = [model.reranker.prompt(query).tokens for query in collection.queries.values()]
    assert found["bm25"].tokens == {"query": 0}
    assert found["dense"].tokens == {"query": np.mean(read)}
    # One encoding of the query, whoever does it.
    assert found["resrank"].tokens == {"query": np.mean(read), "prompt": np.mean(prompts), "slots": 20}
    assert found["resrank:pool=bm25"].tokens["query"] == np.mean(read)
    texts = [passage.content for passage in collection.passages.values() if passage.content.strip()]
    passages = sum(len(ids) for ids in model.encoder.tokenize(texts, is_query=False)[0])
    for name, result in found.items():
        assert result.generated_tokens == 0
        assert result.indexing_tokens == (0 if name == "bm25" else passages)
        assert result.peak_memory_mb > 50
        assert result.latency["total"].p50_ms > 0
        assert result.latency["total"].p95_ms >= result.latency["total"].p50_ms
    assert list(found["resrank"].latency) == ["first stage", "rerank", "total"]
    total = found["resrank"].latency
    assert total["total"].mean_ms == pytest.approx(total["first stage"].mean_ms + total["rerank"].mean_ms)


def test_more_candidates_than_fit_are_counted_in_all_passes(tiny_mini):
    model = tiny_mini(config=ResRankConfig(reranker=RerankerConfig(max_query_length=40, max_candidates=8)))
    prompt = model.reranker.prompt("query").tokens
    anchors = min(model.reranker.config.window_anchors, 4)
    step = 8 - anchors
    passes = 1 + -(-(20 - 8) // step)
    assert model.rerank_tokens("query", 20) == (passes * prompt, 20 + (passes - 1) * anchors)
    assert model.rerank_tokens("query", 8) == (prompt, 8)
    assert model.rerank_tokens("query", 0) == (0, 0)


def test_the_ceiling_of_a_pool(measure):
    result = measure("resrank:pool=bm25", "bm25")["resrank:pool=bm25"].result
    assert result.pool_depth == 20
    assert result.ceiling["R@100"] == pytest.approx(result.means["R@100"])
    assert all(value <= result.ceiling[name] + 1e-12 for name, value in result.means.items())


def test_a_second_run_keeps_what_is_there(measure, tmp_path, monkeypatch):
    first = measure("bm25", "resrank")
    assert not any(outcome.kept for outcome in first.values())
    with monkeypatch.context() as patched:
        patched.setattr(ResRank, "encode_passages", lambda *_, **__: pytest.fail("encoded again"))
        again = measure("bm25", "resrank", "dense")
    assert {name: outcome.kept for name, outcome in again.items()} == {"bm25": True, "resrank": True, "dense": False}
    assert again["resrank"].result == first["resrank"].result
    (tmp_path / "out" / "small" / "bm25" / RESULT).write_text("{ half")
    assert {name: outcome.kept for name, outcome in measure("bm25", "resrank").items()} == {
        "bm25": False,
        "resrank": True,
    }
    assert not measure("bm25", measures=("AP",))["bm25"].kept


@pytest.mark.parametrize(
    ("change", "message"),
    [({"depth": 10}, "results of depth 20, not 10"), ({"queries": 3}, "results of other passages, queries or qrels")],
)
def test_a_results_folder_holds_one_protocol(measure, change, message):
    measure("bm25")
    with pytest.raises(ValueError, match=f"{message}, which cannot stand beside these: name another folder with --out"):
        measure("dense", **change)
    assert measure("bm25")["bm25"].kept


def test_an_emptied_store_is_filled_again(measure, tmp_path):
    first = measure("dense")["dense"].result.means
    for store in (tmp_path / "stores").glob("*/store"):
        shutil.rmtree(store)
    assert measure("dense", out=tmp_path / "again")["dense"].result.means == first


def test_indexing_is_nobodys_cost(measure, tmp_path):
    fresh = {name: o.result for name, o in measure("bm25", "dense").items()}
    assert (fresh["bm25"].indexing_tokens, fresh["dense"].blank_passages) == (0, 1)
    (tmp_path / "x.trec").write_text("q0 Q0 d00 1 2.5 x\n")
    name = f"run:{tmp_path}/x.trec"
    assert measure("bm25", name)[name].result.indexing_tokens is None


@pytest.mark.parametrize("text", ["{ half", "{}", '{"format": 1}', '{"format": 1, "latency": 3}', "[]"])
def test_a_damaged_result_is_named_and_made_anew(measure, tmp_path, text):
    measure("bm25")
    path = tmp_path / "out" / "small" / "bm25" / RESULT
    path.write_text(text)
    with pytest.raises(ValueError, match=r"bm25/result\.json"):
        read_results(tmp_path / "out")
    assert not measure("bm25")["bm25"].kept


def test_names_become_folders_of_their_own():
    names = ["bm25", "a b", "a_b", "..", ".", "CON", "con.txt", "x" * 300, "x" * 301, "org/name", "org_name", "ü", ""]
    folders = [folder_name(name) for name in names]
    assert len(set(folders)) == len(names)
    assert folder_name("resrank") == "resrank"
    for folder in folders:
        assert len(folder) < 100
        assert folder.strip(".") == folder
        assert "/" not in folder
        assert folder.upper() not in ("CON", "CON.TXT")


def test_another_reranker_is_another_result(measure, tiny_safe_checkpoint):
    measure("resrank", "dense")
    changed = measure("resrank", "dense", model=tiny_safe_checkpoint)
    assert not changed["resrank"].kept


def test_a_run_that_stops_half_way_loses_one_system(measure, tmp_path, monkeypatch):
    from resrank_evals import harness

    ranked = harness.rank_by_resrank
    monkeypatch.setattr(harness, "rank_by_resrank", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        measure("bm25", "resrank", "dense")
    assert [result.system for result in read_results(tmp_path / "out")[1]] == ["bm25"]
    monkeypatch.setattr(harness, "rank_by_resrank", ranked)
    assert {name: o.kept for name, o in measure("bm25", "resrank", "dense").items()} == {
        "bm25": True,
        "resrank": False,
        "dense": False,
    }


def test_blank_passages_are_counted_and_left_out(measure, tmp_path):
    measure("dense")
    (indexed,) = (tmp_path / "stores").glob("*/indexed.json")
    cost = json.loads(indexed.read_text())
    assert (cost["passages"], cost["blank"]) == (47, 1)


def test_sampled_queries_are_the_same_for_all_and_differ_by_seed(collection):
    few = collection.sample(2, seed=1)
    assert few.queries == collection.sample(2, seed=1).queries
    assert set(few.queries) == set(few.qrels)
    assert len({tuple(collection.sample(2, seed=seed).queries) for seed in range(20)}) > 1
    assert collection.sample(99).queries == collection.sample(None).queries == dict(sorted(collection.queries.items()))
    assert few.fingerprint != collection.fingerprint
    assert few.passages_fingerprint == collection.passages_fingerprint


def test_someone_elses_run(measure, tmp_path):
    path = tmp_path / "theirs.small"
    path.write_text("q0 Q0 d00 1 2.5 x\nq0 Q0 d05 2 1.5 x\nother Q0 d00 1 1.0 x\n")
    result = measure(f"run:{tmp_path}/theirs.{{collection}}")[f"run:{tmp_path}/theirs.{{collection}}"].result
    assert result.per_query["q0"]["P@1"] == 1.0
    assert result.means["P@1"] == 0.25
    assert result.missing_queries == 3
    assert (result.latency, result.tokens, result.generated_tokens) == ({}, {}, None)
    path.write_text("q0 Q0 nowhere 1 2.5 x\n")
    with pytest.raises(ValueError, match=r"1 results are no passages of small \(query 'q0', passage 'nowhere'\)"):
        measure(f"run:{path}")
    path.write_text("q99 Q0 d00 1 2.5 x\n")
    with pytest.raises(ValueError, match=r"has no query of small: expected ids like 'q0', got 'q99'"):
        measure(f"run:{path}")


def test_a_pipeline_from_yaml(measure, tmp_path, tiny_mini_checkpoint):
    path = tmp_path / "search.yaml"
    definition = read_definition("search", model={"model": str(tiny_mini_checkpoint), "dtype": "float32"})
    path.write_text(yaml.safe_dump(definition), encoding="utf-8")
    found = measure("resrank", str(path), depth=100)
    theirs, ours = stored(tmp_path / "out", str(path)), stored(tmp_path / "out", "resrank")
    for query_id, hits in theirs.items():
        assert len(hits) == 10
        assert dict(hits) == pytest.approx(dict(ours[query_id][:10]), abs=1e-5)
    assert list(found[str(path)].result.latency) == ["pipeline", "total"]
    assert found[str(path)].result.tokens == {}


def test_a_pipeline_of_another_model_is_refused(measure, tmp_path, tiny_qwen_checkpoint):
    path = tmp_path / "search.yaml"
    path.write_text(yaml.safe_dump(read_definition("search", model={"model": str(tiny_qwen_checkpoint)})))
    with pytest.raises(Exception, match="another model"):
        measure(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("just text", "expected a Haystack pipeline with components"),
        ("a: [b", "bad.yaml is not YAML"),
        ("components: {a: 3}", "component 'a' needs a type and init_parameters, got 3"),
        ("components: {}\nconnections: []\n", "expected a component with an open input `query` or `text`"),
    ],
)
def test_a_pipeline_that_cannot_be_measured(measure, tmp_path, text, message):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        measure(f"{tmp_path}/bad.yaml")


@pytest.fixture
def cross_encoder_folder(mini_encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "cross-encoder"
    tokenizer = AutoTokenizer.from_pretrained(mini_encoder_folder)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=1,
        initializer_range=0.5,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_cross_encoder(measure, collection, cross_encoder_folder, tmp_path):
    from sentence_transformers import CrossEncoder
    from torch.nn import Identity

    name = f"cross-encoder:{cross_encoder_folder},pool=bm25"
    result = measure(name, "bm25")[name].result
    folder = tmp_path / "out" / "small" / folder_name(name)
    plain = CrossEncoder(str(cross_encoder_folder), device="cpu")
    pairs_read = []
    for query_id, hits in read_run(folder / RUN).items():
        query = collection.queries[query_id]
        texts = [collection.passages[id_].content for id_, _ in hits]
        expected = plain.predict([(query, text) for text in texts], activation_fn=Identity())
        assert [score for _, score in hits] == pytest.approx(expected.tolist(), abs=1e-4)
        pairs_read.append(
            sum(len(ids) for ids in plain.tokenizer([query] * len(texts), texts, truncation=True)["input_ids"])
        )
    assert result.tokens["pairs"] == np.mean(pairs_read)
    assert result.tokens["query"] == 0
    assert result.environment["dtype"] == "float32"
    assert measure(name)[name].kept
    BertForSequenceClassification.from_pretrained(cross_encoder_folder).half().save_pretrained(cross_encoder_folder)
    assert not measure(name)[name].kept, "trained anew in the same folder"


def test_a_cross_encoder_that_reads_the_first_candidates(measure, collection, cross_encoder_folder, tmp_path):
    name = f"cross-encoder:{cross_encoder_folder},pool=bm25"
    every, first = (measure(each, "bm25")[each].result for each in (name, f"{name},depth=3"))
    assert 0 < first.tokens["pairs"] < every.tokens["pairs"]
    pool = stored(tmp_path / "out", "bm25")
    scored = stored(tmp_path / "out", name)
    found = stored(tmp_path / "out", f"{name},depth=3")
    assert found.keys() == pool.keys()
    for query_id, hits in found.items():
        given = [id_ for id_, _ in pool[query_id]]
        scores = dict(scored[query_id])
        assert [id_ for id_, _ in hits] == [*sorted(given[:3], key=lambda id_: -scores[id_]), *given[3:]]
        assert dict(hits[:3]) == pytest.approx({id_: scores[id_] for id_ in given[:3]}, abs=1e-4)


def test_a_cross_encoder_runs_in_the_dtype_of_the_run(cross_encoder_folder, collection):
    document = Document(id="a", content="Bread needs yeast.")
    model = ResRankModel("resrank-mini", dtype="bfloat16", device="cpu")
    ranking = rank_by_cross_encoder(
        CrossEncoderSystem(str(cross_encoder_folder)), [("q", "bread?", [document])], 1, model, lambda *_: None
    )
    assert ranking.environment["dtype"] == "bfloat16"
    assert [id_ for id_, _ in ranking.run["q"]] == ["a"]


def candidates_of(collection: Collection, run: Run, query_id: str, passages: dict[str, list[float]]) -> list[Document]:
    """Rebuilt from the first stage's run alone."""
    return [
        Document(id=id_, content=collection.passages[id_].content, score=score, embedding=passages[id_])
        for id_, score in run[query_id]
    ]


@pytest.fixture
def pe_rank(
    tiny_mini_checkpoint: Path, collection: Collection, qwen_language_model_folder: Path, tmp_path: Path
) -> tuple[PERank, dict[str, list[float]]]:
    """A model, written to `pe-rank`, and the vectors that it ranks by passage id."""
    engine, ids, rows = vectors(tiny_mini_checkpoint, collection)
    torch.manual_seed(0)
    config = PERankConfig(engine.dimension, engine.fingerprint)
    model = PERank.from_language_model(qwen_language_model_folder, config, device="cpu", dtype="float32")
    model.save_pretrained(tmp_path / "pe-rank")
    return model, dict(zip(ids, rows.tolist(), strict=True))


@pytest.mark.parametrize("option", [("", [20]), (",window=8", [8, 8, 8, 8]), (",window=none", [20]), (",depth=7", [7])])
def test_pe_rank(measure, collection, pe_rank, option, tmp_path):
    option, prompts = option
    model, passages = pe_rank
    name = f"pe-rank:{tmp_path}/pe-rank,pool=dense{option}"
    found = {each: outcome.result for each, outcome in measure("dense", name).items()}
    system = parse_system(name)
    plain = PERankRanker(model, top_k=None, window_size=system.window, step=4 if prompts[0] == 8 else 10)
    pool = stored(tmp_path / "out", "dense")
    lengths = []
    for query_id, hits in stored(tmp_path / "out", name).items():
        query = collection.queries[query_id]
        candidates = candidates_of(collection, pool, query_id, passages)
        expected = plain.run(query=query, documents=candidates[: system.depth])["documents"]
        assert hits[: len(expected)] == [(d.id, pytest.approx(d.score)) for d in expected]
        assert [id_ for id_, _ in hits[len(expected) :]] == [d.id for d in candidates[len(expected) :]]
        lengths.append(sum(len(ids) for size in prompts for ids in model.prompt(query, size)))
    result = found[name]
    slots = sum(prompts)
    assert result.tokens == {"prompt": np.mean(lengths), "slots": slots, "query": found["dense"].tokens["query"]}
    assert result.generated_tokens == slots
    assert list(result.latency) == ["first stage", "rerank", "total"]
    assert (result.pool, result.environment["dtype"]) == ("dense", "float32")
    assert result.indexing_tokens == found["dense"].indexing_tokens
    assert measure(name)[name].kept


def test_pe_rank_of_another_encoder_is_refused(measure, qwen_language_model_folder, tmp_path):
    model = PERank.from_language_model(qwen_language_model_folder, PERankConfig(32, "a" * 16), device="cpu")
    model.save_pretrained(tmp_path / "pe-rank")
    with pytest.raises(ValueError, match="carry vectors of another model"):
        measure(f"pe-rank:{tmp_path}/pe-rank")


@pytest.fixture
def e2rank_folder(qwen_encoder_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "e2rank"
    shutil.copytree(qwen_encoder_folder, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}\nassistant:"
    tokenizer.save_pretrained(folder)
    return folder


def test_e2rank(measure, collection, e2rank_folder, tmp_path):
    name = f"e2rank:{e2rank_folder},pool=bm25,k=3"
    found = {each: outcome.result for each, outcome in measure("bm25", name).items()}
    plain = E2RankRanker(model=str(e2rank_folder), listwise_k=3, top_k=None, device="cpu", dtype="float32")
    pool = stored(tmp_path / "out", "bm25")
    for query_id, hits in stored(tmp_path / "out", name).items():
        documents = candidates_of(collection, pool, query_id, dict.fromkeys(collection.passages))
        expected = plain.run(query=collection.queries[query_id], documents=documents)["documents"]
        assert hits == [(d.id, pytest.approx(d.score, abs=1e-5)) for d in expected]
    result = found[name]
    count = len(collection.queries)
    assert result.tokens == {
        "prompt": plain.usage.prompt_tokens / count,
        "passages": plain.usage.passage_tokens / count,
        "query": 0,
    }
    assert (result.generated_tokens, result.indexing_tokens, result.pool) == (0, 0, "bm25")
    assert list(result.latency) == ["first stage", "passages", "rerank", "total"]
    assert result.environment["dtype"] == "float32"
    assert measure(name)[name].kept


def test_e2rank_of_the_first_candidates(measure, collection, e2rank_folder, tmp_path):
    name = f"e2rank:{e2rank_folder},pool=bm25,depth=4,k=3,length=9,prompt=5"
    measure("bm25", name)
    options = {"listwise_k": 3, "max_length": 9, "max_prompt_length": 5, "top_k": None}
    plain = E2RankRanker(model=str(e2rank_folder), **options, device="cpu", dtype="float32")
    pool = stored(tmp_path / "out", "bm25")
    for query_id, hits in stored(tmp_path / "out", name).items():
        documents = candidates_of(collection, pool, query_id, dict.fromkeys(collection.passages))
        expected = plain.run(query=collection.queries[query_id], documents=documents[:4])["documents"]
        assert [id_ for id_, _ in hits] == [d.id for d in (*expected, *documents[4:])]
        assert [score for _, score in hits[:4]] == pytest.approx([d.score for d in expected], abs=1e-5)
        assert all(above[1] > below[1] for above, below in pairwise(hits[3:]))


def test_haystacks_own_evaluators(measure, collection, tmp_path):
    """With cosines, which do not tie: trec_eval orders equal scores by id, Haystack as they come."""
    outcome = measure("dense", measures=("nDCG", "RR", "R@100"))["dense"].result
    found = evaluate_with_haystack("dense", collection, stored(tmp_path / "out", "dense"))
    report = found.aggregated_report(output_format="json")
    scores = dict(zip(report["metrics"], report["score"], strict=True))
    assert scores["ndcg"] == pytest.approx(outcome.means["nDCG"], abs=1e-4)
    assert scores["mrr"] == pytest.approx(outcome.means["RR"], abs=1e-4)
    assert scores["recall"] == pytest.approx(outcome.means["R@100"], abs=1e-4)


def test_splits_have_results_of_their_own(measure, small, tmp_path):
    shutil.copy(small / "qrels" / "test.tsv", small / "qrels" / "dev.tsv")
    settings = Settings(out=tmp_path / "out", stores=tmp_path / "stores", queries=2)
    (tmp_path / "x.trec").write_text("".join(f"q{n} Q0 d00 1 2.5 x\n" for n in range(4)))
    sources = [CollectionSource("small", split, partial(load_beir, small, split)) for split in ("test", "dev")]
    system = parse_system(f"run:{tmp_path}/x.trec")
    names = [outcome.result.collection for outcome in run(sources, [system], settings, lambda *_: None)]
    assert names == ["small", "small-dev"]
    with pytest.raises(ValueError, match="collections must have different names, got small more than once"):
        list(run(sources[:1] * 2, [system], settings, lambda *_: None))


def test_names_must_differ_and_numbers_be_positive(measure, tmp_path):
    with pytest.raises(ValueError, match="systems must have different names, got bm25 more than once"):
        measure("bm25", "bm25")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*/small\.x for the collection small"):
        measure("bm25", f"run:{tmp_path}/{{collection}}.x")
    assert not (tmp_path / "out").exists(), "found before anything was measured"
    for name in ("depth", "queries"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            Settings(out=tmp_path, stores=tmp_path, **{name: 0})
    with pytest.raises(ValueError, match="unknown measure 'nope'"):
        Settings(out=tmp_path, stores=tmp_path, measures=("nope",))


def test_a_collection_without_passages_takes_runs_only(measure, tmp_path):
    from dataclasses import replace

    from resrank_evals import harness

    whole = load_beir(tmp_path / "small")
    settings = Settings(out=tmp_path / "o", stores=tmp_path / "s", model=ResRankModel("resrank-mini"))
    (tmp_path / "x.trec").write_text("q0 Q0 d00 1 2.5 x\n")
    bare = CollectionSource("small", "test", lambda: replace(whole, passages={}))
    (found,) = harness.run([bare], [parse_system(f"run:{tmp_path}/x.trec")], settings, lambda *_: None)
    assert found.result.per_query["q0"]["P@1"] == 1.0
