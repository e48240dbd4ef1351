# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The reranker against a naive reference, its two kinds of attention, and its limits."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers.modeling_outputs import BaseModelOutput

from resrank import RerankerConfig, ResRank, ResRankConfig, TruncationReport
from resrank.evidence import FEATURES, Evidence
from resrank.reranker import Prompt, Reranker

Factory = Callable[..., ResRank]
ATTENTIONS = ("causal", "order_free")


@pytest.fixture(scope="module", params=ATTENTIONS)
def attention(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(tiny_model: Factory, randomise_head: Factory, attention: str) -> ResRank:
    """Each family with each attention, away from safe start. Tests leave it as it is."""
    return randomise_head(tiny_model(attention=attention))


@pytest.fixture
def count_passes() -> Iterator[Callable[[ResRank], list[tuple[int, int]]]]:
    """A function that returns a list which gets the (batch, length) of each forward pass of a model's reranker."""
    handles = []

    def count(model: ResRank) -> list[tuple[int, int]]:
        passes: list[tuple[int, int]] = []

        def note(module: Any, args: Any, kwargs: dict) -> None:
            passes.append(tuple(kwargs["inputs_embeds"].shape[:2]))

        handles.append(model.reranker.backbone.register_forward_pre_hook(note, with_kwargs=True))
        return passes

    yield count
    for handle in handles:
        handle.remove()


def _slots(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _naive(reranker: Reranker, prompt: Prompt, slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One list at a time, no padding, everything spelled out: inputs, positions, and who may look at whom."""
    backbone = copy.deepcopy(reranker.backbone)
    backbone.set_attn_implementation("eager")
    table = backbone.get_input_embeddings().weight
    order_free = reranker.config.attention == "order_free"
    bidirectional = backbone.config.model_type == "bert"

    inputs, positions, is_slot = [], [], []
    for i, token in enumerate(prompt.before):
        inputs.append(table[token])
        positions.append(i)
        is_slot.append(False)
    for i, slot in enumerate(slots):
        inputs.append(slot)
        positions.append(len(prompt.before) + (0 if order_free else i))
        is_slot.append(True)
    for i, token in enumerate(prompt.after):
        inputs.append(table[token])
        positions.append(len(prompt.before) + (1 if order_free else len(slots)) + i)
        is_slot.append(False)

    length = len(inputs)
    mask = torch.full((1, 1, length, length), float("-inf"))
    for i in range(length):
        for j in range(length):
            if j <= i or (order_free and (bidirectional or (is_slot[i] and is_slot[j]))):
                mask[0, 0, i, j] = 0.0
    with torch.no_grad():
        hidden = backbone(
            inputs_embeds=torch.stack(inputs)[None], attention_mask=mask, position_ids=torch.tensor([positions])
        ).last_hidden_state[0]
    first = len(prompt.before)
    return hidden[-1], hidden[first : first + len(slots)]


# -------------------------------------------------------------------------------------------------- naive reference


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("counts", [[4], [3, 1, 7], [0, 5]], ids=str)
def test_equals_the_naive_reference(
    tiny_model: Factory, attention: str, implementation: str, counts: list[int], queries
) -> None:
    reranker = tiny_model(attention=attention, attn_implementation=implementation).reranker
    prompts = [reranker.prompt(query) for query in queries[: len(counts)]]
    slots = _slots(len(counts), max(counts), 32)
    with torch.no_grad():
        query_hidden, hidden = reranker(prompts, slots, counts)
    for row, (prompt, count) in enumerate(zip(prompts, counts, strict=True)):
        expected_query, expected = _naive(reranker, prompt, slots[row, :count])
        torch.testing.assert_close(query_hidden[row], expected_query, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(hidden[row, :count], expected, atol=1e-5, rtol=1e-5)


def test_hidden_states_come_from_the_right_places(model: ResRank, queries) -> None:
    """A backbone that gives back its inputs must give back the slots, and the end token's embedding."""
    reranker, counts = model.reranker, [2, 5, 0]

    def identity(module: Any, args: Any, kwargs: dict, output: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=kwargs["inputs_embeds"])

    handle = reranker.backbone.register_forward_hook(identity, with_kwargs=True)
    slots = _slots(3, 5, 32)
    with torch.no_grad():
        query_hidden, hidden = reranker([reranker.prompt(query) for query in queries[:3]], slots, counts)
    handle.remove()
    for row, count in enumerate(counts):
        torch.testing.assert_close(hidden[row, :count], slots[row, :count])
        end = reranker.prompt(queries[row]).after[-1]
        torch.testing.assert_close(query_hidden[row], reranker.backbone.get_input_embeddings().weight[end])


# ------------------------------------------------------------------------------------------------------------- order


@pytest.mark.parametrize("with_evidence", [False, True])
def test_order_free_scores_do_not_depend_on_the_order(
    tiny_model: Factory, randomise_head: Factory, unit_vectors, with_evidence: bool
) -> None:
    model = randomise_head(tiny_model(attention="order_free"))
    passages = unit_vectors(20)
    features = np.random.default_rng(1).uniform(0.05, 1, (20, len(FEATURES))).astype(np.float32)
    features[3:6] = np.nan
    features[8, 1] = np.nan

    def scores(order: np.ndarray) -> np.ndarray:
        return model.rerank("bread", passages[order], Evidence("", features[order]) if with_evidence else None)

    straight = scores(np.arange(20))
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(20)
        np.testing.assert_allclose(scores(order), straight[order], atol=1e-5, rtol=1e-5)


def test_causal_scores_depend_on_the_order(tiny_model: Factory, randomise_head: Factory, unit_vectors) -> None:
    model = randomise_head(tiny_model(attention="causal"))
    passages = unit_vectors(20)
    assert np.abs(model.rerank("bread", passages[::-1])[::-1] - model.rerank("bread", passages)).max() > 0.01


def test_scores_are_listwise(model: ResRank, unit_vectors) -> None:
    """A candidate's score depends on its company: otherwise slots do not see each other."""
    passages = unit_vectors(6)
    company = np.concatenate([unit_vectors(5, seed=9), passages[-1:]])
    assert abs(model.rerank("bread", passages)[-1] - model.rerank("bread", company)[-1]) > 1e-3


def test_scores_depend_on_the_query_text(model: ResRank, unit_vectors) -> None:
    """With the same query vector: the reranker reads the text."""
    passages, vector = unit_vectors(6), unit_vectors(1, seed=5)[0]
    first, second = (model.rerank(query, passages, query_embedding=vector) for query in ("bread", "a date"))
    assert np.abs(first - second).max() > 1e-3


# ------------------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("sizes", [[5, 0, 1, 12], [0], [1, 1, 1], [30, 2]], ids=str)
def test_a_batch_equals_single_lists(model: ResRank, unit_vectors, queries, sizes: list[int]) -> None:
    lists = [unit_vectors(size, seed=i) if size else np.empty((0, 32)) for i, size in enumerate(sizes)]
    names = list(queries[: len(sizes)])
    batch = model.rerank_batch(names, lists)
    assert [len(scores) for scores in batch] == sizes
    for query, passages, scores in zip(names, lists, batch, strict=True):
        np.testing.assert_allclose(scores, model.rerank(query, passages), atol=1e-5, rtol=1e-5)


def test_no_queries_give_no_lists(model: ResRank) -> None:
    assert model.rerank_batch([], []) == []


def test_lists_never_see_each_other(model: ResRank) -> None:
    reranker = model.reranker
    prompts = [reranker.prompt(query) for query in ("bread", "what does error E1234 mean")]
    slots = _slots(2, 6, 32)
    changed = slots.clone()
    changed[1] *= 100
    with torch.no_grad():
        before = reranker(prompts, slots, [3, 6])
        after = reranker([prompts[0], reranker.prompt("who discovered penicillin")], changed, [3, 6])
    torch.testing.assert_close(before[0][0], after[0][0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(before[1][0, :3], after[1][0, :3], atol=1e-5, rtol=1e-5)
    assert (before[0][1] - after[0][1]).abs().max() > 0.01


def test_a_list_never_sees_its_padding(model: ResRank) -> None:
    reranker = model.reranker
    prompts = [reranker.prompt("bread")] * 2
    slots = _slots(2, 6, 32)
    changed = slots.clone()
    changed[0, 2:] = 1_000.0
    with torch.no_grad():
        before, after = (reranker(prompts, values, [2, 6]) for values in (slots, changed))
    torch.testing.assert_close(before[0], after[0])
    torch.testing.assert_close(before[1][0, :2], after[1][0, :2])


def test_many_lists_share_passes_within_the_token_budget(model: ResRank, unit_vectors, count_passes) -> None:
    passes = count_passes(model)
    scores = model.rerank_batch(["bread"] * 120, [unit_vectors(30)] * 120)
    assert len(scores) == 120
    assert sum(batch for batch, _ in passes) == 120
    assert all(batch * length <= 256 for batch, length in passes)
    assert sum((batch + 1) * length <= 256 for batch, length in passes) <= 1, "all but the rest are full"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_lists_in_passes_of_their_own_are_scored_as_alone(
    tiny_mini_checkpoint, unit_vectors, count_passes, dtype: str
) -> None:
    model = ResRank.from_pretrained(tiny_mini_checkpoint, device="cpu", dtype=dtype)
    names = [f"bread {'and water ' * (n % 5)}{n}" for n in range(9)]
    lists, vectors = [unit_vectors(1 + 7 * n, seed=n) for n in range(9)], list(model.encode_queries(names))
    passes = count_passes(model)
    batch = model.rerank_batch(names, lists, query_embeddings=vectors, tokens_per_batch=1)
    assert [rows for rows, _ in passes] == [1] * 9
    for query, passages, vector, scores in zip(names, lists, vectors, batch, strict=True):
        alone = model.rerank(query, passages, query_embedding=vector)
        np.testing.assert_allclose(scores, alone, atol=1e-5, rtol=1e-5)


# -------------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("family", "attention"), [("tiny_mini", "order_free"), ("tiny_qwen", "causal"), ("tiny_qwen", "order_free")]
)
def test_a_thousand_candidates_are_one_pass(
    family: str, attention: str, unit_vectors, count_passes, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue("randomise_head")(request.getfixturevalue(family)(attention=attention))
    passes = count_passes(model)
    scores = model.rerank("bread", unit_vectors(1_000))
    tokens = model.reranker.prompt("bread").tokens
    assert passes == [(1, tokens + 1_000)]
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 900


def test_causal_attention_is_limited_by_positions(tiny_mini: Factory) -> None:
    reranker = tiny_mini(attention="causal").reranker
    prompt = reranker.prompt("bread")
    assert reranker.capacity(prompt) == 128 - prompt.tokens


def test_order_free_attention_is_limited_by_max_candidates_only(tiny_mini: Factory) -> None:
    reranker = tiny_mini().reranker
    assert reranker.capacity(reranker.prompt("bread")) == 4_096


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_max_candidates_limits_both(tiny_mini: Factory, attention: str) -> None:
    config = ResRankConfig(reranker=RerankerConfig(max_candidates=5))
    reranker = tiny_mini(attention=attention, config=config).reranker
    assert reranker.capacity(reranker.prompt("bread")) == 5


def test_a_backbone_without_a_position_limit_is_limited_by_max_candidates(tiny_mini: Factory) -> None:
    reranker = tiny_mini(attention="causal").reranker
    reranker.backbone.config.max_position_embeddings = -1  # as some configs say it
    assert reranker.capacity(reranker.prompt("bread")) == 4_096


def test_more_candidates_than_positions_are_ranked_in_windows(
    tiny_mini: Factory, randomise_head: Factory, unit_vectors, count_passes
) -> None:
    model = randomise_head(tiny_mini(attention="causal"))
    passes = count_passes(model)
    scores = model.rerank("bread", unit_vectors(300))
    assert sum(windows for windows, _ in passes) == 3  # 300 candidates, windows of about 110
    assert all(length <= 128 for _, length in passes)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 290


@pytest.mark.parametrize("with_evidence", [False, True])
def test_windows_at_safe_start_equal_one_pass(
    tiny_model: Factory, unit_vectors, count_passes, with_evidence: bool
) -> None:
    passages = unit_vectors(50)
    features = np.random.default_rng(3).uniform(0.01, 1, (50, len(FEATURES))).astype(np.float32)
    evidence = Evidence("", features) if with_evidence else None
    model = tiny_model()
    expected = model.rerank("bread", passages, evidence)
    small = replace(model.reranker.config, max_candidates=8, window_anchors=3)
    model.reranker.config = small
    passes = count_passes(model)
    np.testing.assert_allclose(model.rerank("bread", passages, evidence), expected, atol=1e-5)
    assert sum(windows for windows, _ in passes) == 10  # 8 first, then 5 new ones a window
    assert len(passes) < 10


def test_windowed_and_whole_lists_mix_in_a_batch(model: ResRank, unit_vectors, monkeypatch) -> None:
    monkeypatch.setattr(model.reranker, "config", replace(model.reranker.config, max_candidates=8, window_anchors=3))
    lists = [unit_vectors(20), unit_vectors(3, seed=1), unit_vectors(9, seed=2)]
    batch = model.rerank_batch(["bread", "a date", "Paris"], lists)
    for query, passages, scores in zip(["bread", "a date", "Paris"], lists, batch, strict=True):
        np.testing.assert_allclose(scores, model.rerank(query, passages), atol=1e-5)


def test_a_query_that_fills_the_positions_is_refused(tiny_mini: Factory, unit_vectors) -> None:
    model = tiny_mini(config=ResRankConfig())  # 128 query tokens in each template, 128 positions
    message = r"the query takes \d+ of the reranker's 128 positions: lower reranker\.max_query_length"
    with pytest.raises(ValueError, match=message):
        model.rerank("date " * 100, unit_vectors(3))


# ------------------------------------------------------------------------------------------------------------- prompts


def test_bert_prompt(tiny_mini: Factory) -> None:
    reranker = tiny_mini().reranker
    tokenizer = reranker.tokenizer
    query = tokenizer("parse a date", add_special_tokens=False)["input_ids"]
    prompt = reranker.prompt("parse a date")
    assert prompt.before == [tokenizer.cls_token_id, *query, tokenizer.sep_token_id]
    assert prompt.after == [*query, tokenizer.sep_token_id]
    assert prompt.tokens == 2 * len(query) + 3
    assert prompt.cut_tokens == 0


def test_qwen_prompt(tiny_qwen: Factory) -> None:
    reranker = tiny_qwen().reranker
    prompt = reranker.prompt("parse a date")
    assert reranker.tokenizer.decode(prompt.before) == "Rank by relevance.\nQuery: parse a date\nPassages:\n"
    assert reranker.tokenizer.decode(prompt.after) == "\nQuery: parse a date\nRanking:<|im_end|>"


def test_the_query_is_cut_in_both_templates_and_counted_once(tiny_model: Factory) -> None:
    config = ResRankConfig(reranker=RerankerConfig(max_query_length=4))
    reranker = tiny_model(config=config).reranker
    full = reranker.tokenizer("bread " * 10, add_special_tokens=False)["input_ids"]
    prompt = reranker.prompt("bread " * 10)
    assert prompt.cut_tokens == len(full) - 4
    assert prompt.after[:-1] == full[:4]
    assert full[:4] == [token for token in prompt.before if token in full]


def test_cut_queries_are_reported(tiny_mini: Factory, unit_vectors, caplog: pytest.LogCaptureFixture) -> None:
    model, report = tiny_mini(), TruncationReport()
    long = "bread " * 60
    words = model.reranker.prompt(long).cut_tokens
    assert words > 0
    model.rerank(long, unit_vectors(2), report=report)
    assert (report.texts, report.truncated, report.cut_tokens) == (1, 1, words)
    assert caplog.text == ""
    model.rerank_batch([long, "bread"], [unit_vectors(2)] * 2)
    expected = f"1 queries were longer than 40 tokens and were cut for the reranker ({words} tokens in all)"
    assert expected in caplog.text


def test_a_template_that_would_be_cut_is_refused(tiny_qwen: Factory) -> None:
    reranker = tiny_qwen().reranker
    config = RerankerConfig(query_template="rank " * 600 + "{query}")
    with pytest.raises(ValueError, match="closing_template take at most 512 tokens a piece"):
        Reranker(reranker.backbone, reranker.tokenizer, config)


def test_a_tokenizer_without_an_end_token_is_refused(tiny_mini: Factory) -> None:
    reranker = tiny_mini().reranker
    tokenizer = copy.deepcopy(reranker.tokenizer)
    tokenizer.sep_token = None
    with pytest.raises(ValueError, match=r"the reranker's tokenizer \(.*\) has neither an eos_token nor a sep_token"):
        Reranker(reranker.backbone, tokenizer, reranker.config)


def test_hostile_queries_are_ranked(model: ResRank, unit_vectors, hostile_text: str) -> None:
    scores = model.rerank(hostile_text, unit_vectors(7))
    assert scores.shape == (7,)
    assert np.isfinite(scores).all()


# ------------------------------------------------------------------------------------------------------------- backbone


def test_token_norm_is_the_mean_norm_of_the_embeddings(model: ResRank) -> None:
    weight = model.reranker.backbone.get_input_embeddings().weight.detach().numpy()
    assert model.reranker.token_norm == pytest.approx(np.linalg.norm(weight, axis=1).mean(), rel=1e-5)


def test_families_are_told_apart(tiny_mini: Factory, tiny_qwen: Factory) -> None:
    assert tiny_mini().reranker.bidirectional
    assert not tiny_qwen().reranker.bidirectional


@pytest.mark.parametrize(
    ("family", "attention"), [("tiny_mini", "order_free"), ("tiny_mini", "causal"), ("tiny_qwen", "order_free")]
)
def test_flash_attention_with_a_custom_mask_is_refused(
    family: str, attention: str, request: pytest.FixtureRequest
) -> None:
    reranker = request.getfixturevalue(family)(attention=attention).reranker
    reranker.backbone.config._attn_implementation = "flash_attention_2"
    message = (
        f"FlashAttention 2 drops custom masks, which attention '{attention}' of this reranker needs: "
        "load it with attn_implementation='sdpa'"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        Reranker(reranker.backbone, reranker.tokenizer, reranker.config)


def test_flash_attention_is_fine_where_no_custom_mask_is_needed(tiny_qwen: Factory) -> None:
    reranker = tiny_qwen(attention="causal").reranker
    reranker.backbone.config._attn_implementation = "flash_attention_2"
    again = Reranker(reranker.backbone, reranker.tokenizer, reranker.config)
    prompts, slots = [again.prompt("bread"), again.prompt("a much longer query")], _slots(2, 3, 32)
    seen: list[Any] = []

    def note(module: Any, args: Any, kwargs: dict) -> None:
        seen.append(kwargs["attention_mask"])

    reranker.backbone.config._attn_implementation = "sdpa"
    again.backbone.register_forward_pre_hook(note, with_kwargs=True)
    with torch.no_grad():
        again(prompts, slots, [3, 2])
        again(prompts[:1], slots[:1], [3])
    assert seen[0].ndim == 2  # padding only, which FlashAttention 2 understands
    assert seen[1] is None


@pytest.mark.parametrize("mode", ["evidence", "paper"])
def test_a_reranker_of_another_size(
    tiny_qwen: Factory, qwen_other_size_folder, randomise_head: Factory, unit_vectors, mode: str
) -> None:
    model = randomise_head(tiny_qwen(reranker=qwen_other_size_folder, mode=mode))
    assert (model.dimension, model.reranker.hidden_size) == (32, 24)
    scores = model.rerank("bread", unit_vectors(9))
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) == 9
