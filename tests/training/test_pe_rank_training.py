# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
PE-Rank's two stages: each loss against a naive loop, gradients where they must be and nowhere else, and runs that learn.

Pinned too: teacher forcing says what step-by-step decoding says, and batch mates and padding change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from resrank_evals.peers.pe_rank_model import PERank, PERankConfig
from resrank_training.lists import read_lists
from resrank_training.losses import list_mle
from resrank_training.peers.pe_rank import Loop, align, ranking_examples, train_ranking
from resrank_training.peers.pe_rank_losses import (
    RankingExample,
    alignment_loss,
    decoding_scores,
    decoding_targets,
    order_loss,
    ranking_losses,
    step_divergence,
)
from resrank_training.settings import Lora
from resrank_training.vectors import encode_sets

DIMENSION = 24


@pytest.fixture
def make_model(qwen_language_model_folder: Path) -> Callable[..., PERank]:
    """Slots are as long as token embeddings; gradients are on."""

    def make(dtype: str = "float32") -> PERank:
        torch.manual_seed(0)
        config = PERankConfig(DIMENSION, "a" * 16)
        model = PERank.from_language_model(qwen_language_model_folder, config, device="cpu", dtype=dtype)
        with torch.no_grad():
            model.projector[0].weight.mul_(20)
            model.projector[2].weight.mul_(0.4)
        return model

    return make


@pytest.fixture
def model(make_model: Callable[..., PERank]) -> PERank:
    return make_model()


@pytest.fixture
def examples(unit_vectors, corpus, queries) -> list[RankingExample]:
    """A full order, a partial one, a list of two, and one of which only the best is known."""
    orders = [(2, 0, 4, 1, 3), (3, 1), (1, 0), (0,)]
    counts = [5, 4, 2, 3]
    return [
        RankingExample(queries[i], unit_vectors(n, DIMENSION, seed=i), corpus[i : i + n], order)
        for i, (order, n) in enumerate(zip(orders, counts, strict=True))
    ]


def softmax(values: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in values)
    return [math.exp(value) / total for value in values]


# -------------------------------------------------------------------------------------------------------- naive loops
def naive_steps(model: PERank, example: RankingExample, *, content: bool) -> list[tuple[list[int], list[float]]]:
    """(allowed, their logits) of each step; every step reads the whole prompt and what was decoded before."""
    slots = model.project(example.vectors)
    texts = example.texts if content else None
    prompt = model.inputs(model.prompt(example.query, len(slots), texts), slots)
    steps = []
    for done in range(len(example.order)):
        rows = torch.cat([prompt, *(slots[i][None] for i in example.order[:done])])
        last = model.language_model(inputs_embeds=rows[None], output_hidden_states=True).hidden_states[-1][0, -1]
        allowed = [i for i in range(len(slots)) if i not in example.order[:done]]
        steps.append((allowed, [float(last @ slots[i]) for i in allowed]))
    return steps


def naive_order_loss(steps: list[tuple[list[int], list[float]]], order: tuple[int, ...]) -> float:
    terms = [
        -math.log(softmax(logits)[allowed.index(best)])
        for (allowed, logits), best in zip(steps, order, strict=True)
        if len(allowed) > 1
    ]
    return sum(terms) / len(terms)


def naive_divergence(
    plain: list[tuple[list[int], list[float]]], informed: list[tuple[list[int], list[float]]]
) -> float:
    terms = []
    for (allowed, q), (_, p) in zip(plain, informed, strict=True):
        if len(allowed) > 1:
            terms.append(sum(a * math.log(a / b) for a, b in zip(softmax(p), softmax(q), strict=True)))
    return sum(terms) / len(terms)


# ------------------------------------------------------------------------------------------------------ ranking losses
def test_ranking_losses_are_those_of_a_naive_loop(model, examples):
    with torch.no_grad():
        found = ranking_losses(model, examples)
        plain = [naive_steps(model, example, content=False) for example in examples]
        informed = [naive_steps(model, example, content=True) for example in examples]
    orders = [example.order for example in examples]
    expected = {
        "rank": np.mean([naive_order_loss(s, o) for s, o in zip(plain, orders, strict=True)]),
        "content": np.mean([naive_order_loss(s, o) for s, o in zip(informed, orders, strict=True)]),
        "kl": np.mean([naive_divergence(p, i) for p, i in zip(plain, informed, strict=True)]),
    }
    assert {name: loss.item() for name, loss in found.items()} == pytest.approx(expected, rel=1e-3)
    assert expected["kl"] > 1e-3
    assert abs(expected["rank"] - expected["content"]) > 1e-3


def test_losses_by_hand():
    # Two steps of one list: chosen 1 of {0, 1, 2}, then 0 of {0, 2}.
    scores = torch.tensor([[[0.0, math.log(2), 0.0], [math.log(3), 9.0, 0.0]]])
    allowed = torch.tensor([[[True, True, True], [True, False, True]]])
    chosen = torch.tensor([[[False, True, False], [True, False, False]]])
    assert order_loss(scores, allowed, chosen).item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    informed = torch.tensor([[[0.0, 0.0, 0.0], [0.0, -5.0, 0.0]]])
    first = sum(1 / 3 * math.log((1 / 3) / q) for q in (0.25, 0.5, 0.25))
    second = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert step_divergence(scores, informed, allowed, chosen).item() == pytest.approx((first + second) / 2)
    assert step_divergence(scores, scores, allowed, chosen).item() == 0.0


@pytest.mark.parametrize("order", [(2, 0, 3, 1), (3, 1), (0,)])
def test_with_the_same_scores_in_each_step_it_is_list_mle(order):
    scores = torch.randn(1, 4)
    ranks = torch.full((1, 4), len(order))
    for rank, i in enumerate(order):
        ranks[0, i] = rank
    example = RankingExample("q", np.zeros((4, 2), np.float32), ("", "", "", ""), order)
    allowed, chosen = decoding_targets([example])
    found = order_loss(scores.expand(1, len(order), 4), allowed, chosen)
    torch.testing.assert_close(found, list_mle(scores, ranks, torch.ones(1, 4, dtype=torch.bool)))


def test_targets():
    example = RankingExample("q", np.zeros((3, 2), np.float32), ("", "", ""), (1, 2, 0))
    short = replace(example, vectors=example.vectors[:2], texts=("", ""), order=(0,))
    allowed, chosen = decoding_targets([example, short])
    assert allowed.int().tolist() == [[[1, 1, 1], [1, 0, 1], [1, 0, 0]], [[1, 1, 0], [0, 0, 0], [0, 0, 0]]]
    assert chosen.int().tolist() == [[[0, 1, 0], [0, 0, 1], [0, 0, 0]], [[1, 0, 0], [0, 0, 0], [0, 0, 0]]]


def test_logits_of_forbidden_passages_and_of_padding_change_nothing(examples):
    allowed, chosen = decoding_targets(examples)
    scores, informed = torch.randn(2, *allowed.shape)
    losses = [order_loss(scores, allowed, chosen), step_divergence(scores, informed, allowed, chosen)]
    noise = torch.where(allowed, 0.0, 50 * torch.randn(allowed.shape))
    again = [
        order_loss(scores + noise, allowed, chosen),
        step_divergence(scores + noise, informed - noise, allowed, chosen),
    ]
    torch.testing.assert_close(again, losses)


def test_a_batch_is_the_mean_of_its_lists(model, examples):
    with torch.no_grad():
        together = ranking_losses(model, examples)
        alone = [ranking_losses(model, [example]) for example in examples]
    for name, loss in together.items():
        assert loss.item() == pytest.approx(np.mean([each[name].item() for each in alone]), rel=1e-3)


def test_teacher_forcing_says_what_decoding_says(model, examples):
    slots = model.project(examples[0].vectors).detach()
    order, _ = model.decode(examples[0].query, slots)
    decoded = replace(examples[0], order=tuple(order))
    with torch.no_grad():
        scores = decoding_scores(model, [decoded], [slots])[0]
    allowed, _ = decoding_targets([decoded])
    assert scores.masked_fill(~allowed[0], -math.inf).argmax(dim=-1).tolist() == order


def test_the_content_loss_reads_the_texts_and_the_rank_loss_does_not(model, examples):
    other = [replace(examples[0], texts=tuple(reversed(examples[0].texts)))]
    with torch.no_grad():
        before, after = ranking_losses(model, examples[:1]), ranking_losses(model, other)
        shorter = ranking_losses(model, examples[:1], 2)
    assert after["rank"] == before["rank"] == shorter["rank"]
    assert abs(after["content"] - before["content"]) > 1e-3
    assert abs(shorter["content"] - before["content"]) > 1e-3


@pytest.mark.parametrize("name", ["rank", "content", "kl"])
def test_each_ranking_loss_reaches_projector_and_language_model(model, examples, name):
    ranking_losses(model, examples)[name].backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_the_divergence_pulls_on_both_sides(examples):
    allowed, chosen = decoding_targets(examples)
    scores, informed = torch.randn(2, *allowed.shape).unbind()
    scores, informed = scores.requires_grad_(), informed.requires_grad_()
    step_divergence(scores, informed, allowed, chosen).backward()
    counted = allowed & chosen.any(dim=-1, keepdim=True)
    for gradient in (scores.grad, informed.grad):
        assert gradient.isfinite().all()
        assert (gradient[counted] != 0).all()
        assert (gradient[~counted] == 0).all()


# ----------------------------------------------------------------------------------------------------------- alignment
def test_alignment_is_the_next_token_loss_of_the_text(model, unit_vectors, corpus):
    texts, vectors, limit = [corpus[2], "Cats."], unit_vectors(2, DIMENSION), 6
    opening, closing = model.tokenizer(["A passage as one embedding: [", "]\nThe same passage as text: "])["input_ids"]
    terms = []
    embed = model.language_model.get_input_embeddings()
    with torch.no_grad():
        found = alignment_loss(model, vectors, texts, limit)
        for text, slot in zip(texts, model.project(vectors), strict=True):
            ids = model.tokenizer(text)["input_ids"]
            target = ids[:limit] if len(ids) > limit else [*ids, model.tokenizer.eos_token_id]
            for i, token in enumerate(target):
                read = torch.tensor([*closing, *target[:i]])
                rows = torch.cat([embed(torch.tensor(opening)), slot[None], embed(read)])
                logits = model.language_model(inputs_embeds=rows[None]).logits[0, -1]
                terms.append(-logits.log_softmax(-1)[token].item())
    assert len(model.tokenizer(texts[0])["input_ids"]) > limit >= len(model.tokenizer(texts[1])["input_ids"]) + 1
    assert found.item() == pytest.approx(np.mean(terms), rel=1e-4)
    assert found.dtype == torch.float32


def test_alignment_reaches_the_projector_alone(model, unit_vectors, corpus):
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    gradients: dict[str, bool] = {}

    def look(step: int, losses: dict[str, float]) -> None:
        gradients.update({name: weight.grad is not None for name, weight in model.named_parameters()})

    align(model, unit_vectors(4, DIMENSION), corpus[:4], Loop(1e-2, batch_size=4), look)
    for name, weight in model.named_parameters():
        assert gradients[name] == name.startswith("projector")
        assert torch.equal(weight, before[name]) != name.startswith("projector")
        assert not weight.requires_grad


def test_alignment_learns_to_tell_passages_apart(model, unit_vectors, corpus):
    texts, vectors = ["yes", "no no"], unit_vectors(2, DIMENSION)
    seen: list[tuple[int, dict[str, float]]] = []
    losses = align(model, vectors, texts, Loop(3e-2, batch_size=2, steps=60), lambda s, found: seen.append((s, found)))
    assert [step for step, _ in seen] == list(range(1, 61))
    assert [found["alignment"] for _, found in seen] == pytest.approx(losses)
    assert losses[-1] < losses[0] - 1
    with torch.no_grad():
        assert alignment_loss(model, vectors, texts) < alignment_loss(model, vectors[::-1].copy(), texts) - 0.5
    assert not model.training


def test_alignment_refuses_what_it_cannot_learn_from(model, unit_vectors):
    vectors = unit_vectors(2, DIMENSION)
    for texts, message in (
        ([], "2 vectors and 0 texts"),
        (["a"], "2 vectors and 1 texts"),
        (["a", " "], r"blank: \[1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            align(model, vectors, texts)


# ------------------------------------------------------------------------------------------------------- ranking stage
def orders_of(model: PERank, examples: list[RankingExample]) -> list[list[int]]:
    return [model.decode(example.query, model.project(example.vectors))[0] for example in examples]


def test_ranking_learns_the_teachers_order(model, examples):
    taught = [examples[0], examples[2]]
    assert orders_of(model, taught) != [list(example.order) for example in taught]
    losses = train_ranking(model, taught, Loop(1e-2, batch_size=2, steps=16))
    assert losses[-1] < 0.3 * losses[0]
    assert orders_of(model, taught) == [list(example.order) for example in taught]
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())


def test_lora_adapts_and_is_merged(model, examples, tmp_path):
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    trained: set[str] = set()

    def look(step: int, losses: dict[str, float]) -> None:
        trained.update(name for name, weight in model.named_parameters() if weight.grad is not None)

    lora = Lora(rank=2, target_modules=["q_proj", "v_proj"])
    losses = train_ranking(model, examples[:1], Loop(1e-2, batch_size=1, steps=15), lora=lora, report=look)
    assert losses[-1] < losses[0]
    assert all("lora_" in name or name.startswith("projector") for name in trained)
    assert any("lora_B" in name for name in trained)
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    for name, weight in after.items():
        assert not weight.requires_grad
        moved = name.startswith("projector") or "q_proj" in name or "v_proj" in name
        assert torch.equal(weight, before[name]) != moved, name
    model.save_pretrained(tmp_path)
    loaded = PERank.from_pretrained(tmp_path, device="cpu", dtype="float32")
    assert orders_of(loaded, examples) == orders_of(model, examples)


def test_alpha_weighs_the_divergence(make_model, examples):
    parts: list[dict[str, float]] = []
    for alpha in (0.2, 0.0):
        (total,) = train_ranking(
            make_model(), examples, Loop(1e-4, steps=1), alpha=alpha, report=lambda _, found: parts.append(dict(found))
        )
        assert total == pytest.approx(parts[-1]["rank"] + parts[-1]["content"] + alpha * parts[-1]["kl"])
    assert parts[0] == parts[1]
    assert parts[0]["kl"] > 0


def test_half_weights(make_model, examples):
    half = make_model("bfloat16")
    with pytest.raises(ValueError, match=r"needs float32 ones, got torch.bfloat16: load with dtype='float32'"):
        train_ranking(half, examples)
    losses = train_ranking(half, examples[:2], Loop(1e-3, steps=2), lora=Lora(rank=2))
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[0] == pytest.approx(train_ranking(make_model(), examples[:2], Loop(1e-3, steps=1))[0], rel=0.1)


def test_autocast_computes_in_bfloat16_on_float32_weights(make_model, examples):
    plain, cast = make_model(), make_model()
    expected = train_ranking(plain, examples, Loop(1e-3, steps=1))
    found = train_ranking(cast, examples, Loop(1e-3, steps=1, bfloat16=True))
    assert found != expected
    assert found == pytest.approx(expected, rel=0.1)
    assert {weight.dtype for weight in cast.parameters()} == {torch.float32}


def test_a_run_is_that_of_its_seed(make_model, examples):
    def run(seed: int) -> list[float]:
        return train_ranking(make_model(), examples, Loop(1e-3, batch_size=1, seed=seed))

    first = run(0)
    assert len(first) == 4  # one epoch
    assert run(0) == pytest.approx(first)
    assert run(3) != pytest.approx(first)


def test_the_rate_warms_up_and_falls(model, unit_vectors, corpus, monkeypatch):
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def spy(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    align(model, unit_vectors(2, DIMENSION), corpus[:2], Loop(1.0, batch_size=1, steps=6, warmup=0.3))
    assert rates == pytest.approx([0.5, 1.0, *((1 + math.cos(math.pi * i / 4)) / 2 for i in range(4))])


def test_nothing_to_learn_from_and_bad_loops_are_refused(model):
    with pytest.raises(ValueError, match="no list to learn from"):
        train_ranking(model, [])
    for bad in ({"batch_size": 0}, {"steps": 0}):
        with pytest.raises(ValueError, match="batch_size and steps must be at least 1"):
            Loop(1e-3, **bad)


# ---------------------------------------------------------------------------------------------------------------- data
@pytest.fixture
def sets_and_vectors(list_folder, tiny_mini, tmp_path):
    sets = [read_lists(list_folder("a", count=6)), read_lists(list_folder("b", count=4, candidates=5, seed=2))]
    return sets, encode_sets(tiny_mini(), sets, tmp_path / "vectors", progress_bar=False)


def test_examples_of_training_lists(sets_and_vectors):
    sets, vectors = sets_and_vectors
    found = ranking_examples(sets, vectors)
    assert [len(example.texts) for example in found] == [8] * 6 + [5] * 4
    lists = [(source, each) for source, of in enumerate(sets) for each in of.lists]
    for example, (source, each) in zip(found, lists, strict=True):
        passages = sets[source].passages
        assert example.query == each.query
        ranked = [passages[each.passages[i]].content for i in each.ranking]
        assert [example.texts[i] for i in example.order] == ranked  # the teacher's order, whatever the shuffle
        rows = {passages[id_].content: vectors.passages[source][row] for id_, row in vectors.rows[source].items()}
        np.testing.assert_array_equal(example.vectors, [rows[text] for text in example.texts])
    given = [passages_of(sets[source], each) for source, each in lists]
    assert any(list(example.texts) != texts for example, texts in zip(found, given, strict=True))
    again = ranking_examples(sets, vectors, seed=1)
    assert [example.texts for example in again] != [example.texts for example in found]
    assert [sorted(example.texts) for example in again] == [sorted(example.texts) for example in found]


def passages_of(of, each) -> list[str]:
    return [of.passages[id_].content for id_ in each.passages]


def test_long_lists_keep_the_best_one_and_the_positives(sets_and_vectors):
    sets, vectors = sets_and_vectors
    each = replace(sets[0].lists[0], ranking=(6, 5, 0), grades=(None,) * 7 + (1,))
    (found,) = ranking_examples([replace(sets[0], lists=(each,))], vectors, candidates=4)
    texts = passages_of(sets[0], each)
    assert sorted(found.texts) == sorted(texts[i] for i in (6, 7, 0, 1))
    assert [found.texts[i] for i in found.order] == [texts[6], texts[0]]


def test_without_a_teacher_positives_come_by_their_grades(sets_and_vectors):
    sets, vectors = sets_and_vectors
    graded = replace(sets[0].lists[0], ranking=None, grades=(0, 1, None, 3, 1, None, None, None))
    unjudged = replace(graded, query_id="u", grades=(None,) * 8)
    alone = replace(graded, query_id="s", passages=graded.passages[:1], grades=(1,))
    (found,) = ranking_examples([replace(sets[0], lists=(unjudged, graded, alone))], vectors)
    texts = passages_of(sets[0], graded)
    assert [found.texts[i] for i in found.order] == [texts[3], texts[1], texts[4]]
    assert len(found.texts) == 8
