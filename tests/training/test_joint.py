# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
The joint model: it scores as the served model does, its ranking loss reaches the encoder through slot and residual, and
encoding in chunks changes neither losses nor gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from resrank import ResRank
from resrank.evidence import FEATURES, Evidence, query_hash
from resrank_evals.collection import Passage
from resrank_training.collating import Collator, Vectors
from resrank_training.drawing import Schedule
from resrank_training.joint import JointModel, Objective
from resrank_training.lists import ListSet, TrainingList
from resrank_training.settings import EvidenceDropout, ListSource, Stage

BOTH = {"info_nce": 1.0, "rank_net": 2.0}
NO_DROPOUT = EvidenceDropout(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def _stage(**changes: Any) -> Stage:
    defaults: dict[str, Any] = {
        "name": "s",
        "lists": [ListSource("x")],
        "passes": 1.0,
        "list_length": 6,
        "evidence_dropout": NO_DROPOUT,
    }
    return Stage(**{**defaults, **changes})


@pytest.fixture
def list_set(make_lists: Callable[..., list[TrainingList]], passages: dict[str, Passage]) -> ListSet:
    return ListSet("made", tuple(make_lists(12, matches=True)), passages, {}, "digest")


def _batch(model: ResRank, of: ListSet, stage: Stage, lists: int = 4, **options: Any) -> dict[str, Any]:
    schedule = Schedule([of], stage, lists, seed=0)
    collator = Collator([of], model.encoder, model.reranker.prompt, options.pop("tokens_per_chunk", 64), **options)
    return collator([schedule[i] for i in range(lists)])


def _joint(model: ResRank, weights: dict[str, float] = BOTH, **options: Any) -> JointModel:
    return JointModel(model.encoder, model.reranker, model.head, Objective(weights, {}), **options)


def test_scores_are_those_of_the_served_model(
    tiny_model: Callable[..., ResRank], randomise_head: Callable[..., ResRank], list_set: ListSet
) -> None:
    model = randomise_head(tiny_model())
    stage = _stage()
    schedule = Schedule([list_set], stage, 3, seed=0)
    drawn = [schedule[i] for i in range(3)]
    batch = Collator([list_set], model.encoder, model.reranker.prompt, 64)(drawn)
    joint = _joint(model)
    with torch.no_grad():
        queries, passages = joint.encode(batch)
        scores = joint.score(batch["prompts"], queries, passages, batch)
    for row, each in enumerate(drawn):
        texts = [list_set.passages[each.of.passages[i]].content for i in each.rows]
        vectors, query = model.encode_passages(texts), model.encode_queries([each.of.query])[0]
        features = each.features.copy()
        features[:, 1] = np.where(np.isnan(features[:, 1]), np.nan, vectors @ query)
        served = model.rerank(each.of.query, vectors, Evidence(query_hash(each.of.query), features))
        np.testing.assert_allclose(scores[row].numpy(), served, atol=2e-4)


@pytest.mark.parametrize("mode", ["evidence", "paper"])
def test_the_ranking_loss_reaches_the_encoder_through_slot_and_residual(
    tiny_qwen: Callable[..., ResRank], randomise_head: Callable[..., ResRank], list_set: ListSet, mode: str
) -> None:
    model = tiny_qwen(mode=mode)
    if mode == "evidence":
        randomise_head(model)
    batch = _batch(model, list_set, _stage())
    joint = _joint(model, {"rank_net": 1.0})

    def gradient(cut: str | None) -> torch.Tensor:
        model.encoder.zero_grad()
        slots, scores = model.head.slots, model.head.scores

        def cut_slots(passages: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
            return slots(passages.detach(), features)

        def cut_scores(
            query: torch.Tensor, passages: torch.Tensor, prior: torch.Tensor, *hidden: torch.Tensor, share: torch.Tensor
        ) -> torch.Tensor:
            return scores(query.detach(), passages.detach(), prior.detach(), *hidden, share=share)

        if cut in ("slot", "both"):
            model.head.slots = cut_slots  # type: ignore[method-assign]
        if cut in ("residual", "both"):
            model.head.scores = cut_scores  # type: ignore[method-assign]
        try:
            joint(**batch)["loss"].backward()
        finally:
            model.head.__dict__.pop("slots", None)
            model.head.__dict__.pop("scores", None)
        parameters = [p for p in model.encoder.parameters() if p.grad is not None]
        return torch.cat([p.grad.flatten() for p in parameters]) if parameters else torch.zeros(1)

    model.encoder.requires_grad_(True)
    whole, through_residual, through_slot = gradient(None), gradient("slot"), gradient("residual")
    assert float(through_residual.norm()) > 1e-6
    assert float(through_slot.norm()) > 1e-6
    torch.testing.assert_close(through_residual + through_slot, whole, atol=1e-5, rtol=1e-3)
    assert not bool(gradient("both").any())


@pytest.mark.parametrize("weights", [BOTH, {"info_nce": 1.0}, {"list_mle": 1.0}], ids="+".join)
def test_chunks_change_neither_losses_nor_gradients(
    tiny_model: Callable[..., ResRank],
    randomise_head: Callable[..., ResRank],
    list_set: ListSet,
    weights: dict[str, float],
) -> None:
    model = randomise_head(tiny_model())
    model.encoder.requires_grad_(True)
    found = []
    for recompute, tokens in ((False, 100_000), (False, 16), (True, 16)):
        joint = _joint(model, weights, recompute=recompute)
        joint.zero_grad()
        batch = _batch(model, list_set, _stage(), tokens_per_chunk=tokens)
        loss = joint(**batch)["loss"]
        loss.backward()
        found.append((loss.detach(), {n: p.grad.clone() for n, p in joint.named_parameters() if p.grad is not None}))
    assert len(_batch(model, list_set, _stage(), tokens_per_chunk=16)["chunks"]) > 3
    one_pass, chunked, recomputed = found
    torch.testing.assert_close(recomputed, chunked, atol=1e-7, rtol=1e-5)  # the same arithmetic
    torch.testing.assert_close(chunked[0], one_pass[0], atol=1e-5, rtol=1e-4)
    assert chunked[1].keys() == one_pass[1].keys()
    assert any(bool(gradient.any()) for name, gradient in one_pass[1].items() if name.startswith("encoder."))
    for name, gradient in one_pass[1].items():  # other padding, so other rounding
        assert float((chunked[1][name] - gradient).norm()) <= 2e-3 * float(gradient.norm()) + 1e-6, name


def test_dropout_is_the_same_when_chunks_are_encoded_again(
    tiny_mini: Callable[..., ResRank], list_set: ListSet
) -> None:
    model = tiny_mini()
    model.encoder.requires_grad_(True)
    for module in model.encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
    joint = _joint(model, {"info_nce": 1.0}).train()
    batch = _batch(model, list_set, _stage(), tokens_per_chunk=16)
    found = []
    for recompute in (False, True):
        joint.recompute = recompute
        joint.zero_grad()
        torch.manual_seed(7)
        joint(**batch)["loss"].backward()
        found.append(torch.cat([p.grad.flatten() for p in model.encoder.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-3)
    torch.manual_seed(8)
    joint.zero_grad()
    joint(**batch)["loss"].backward()
    other = torch.cat([p.grad.flatten() for p in model.encoder.parameters() if p.grad is not None])
    assert not torch.allclose(other, found[0], atol=1e-4)  # dropout was on


@pytest.mark.parametrize("recompute", [False, True])
def test_activation_checkpointing_changes_nothing(
    tiny_model: Callable[..., ResRank], randomise_head: Callable[..., ResRank], list_set: ListSet, recompute: bool
) -> None:
    model = randomise_head(tiny_model())
    for part in (model.encoder, model.reranker):
        part.requires_grad_(True)
        for module in part.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    joint = _joint(model, recompute=recompute).train()
    batch = _batch(model, list_set, _stage())
    found = []
    for enabled in (False, True):
        if enabled:
            joint.activation_checkpointing_enable()
            assert model.encoder.backbone.is_activation_checkpointing is not recompute
            assert model.reranker.backbone.is_activation_checkpointing
        joint.zero_grad()
        joint(**batch)["loss"].backward()
        found.append({n: p.grad.clone() for n, p in joint.named_parameters() if p.grad is not None})
    torch.testing.assert_close(found[1], found[0], atol=1e-6, rtol=1e-4)


def test_stored_vectors_give_the_same_ranking_loss(
    tiny_mini: Callable[..., ResRank], randomise_head: Callable[..., ResRank], list_set: ListSet
) -> None:
    model = randomise_head(tiny_mini())
    vectors = Vectors(
        [model.encode_passages([p.content for p in list_set.passages.values()])],
        [{id_: row for row, id_ in enumerate(list_set.passages)}],
        [model.encode_queries([each.query for each in list_set.lists])],
        [{each.query_id: row for row, each in enumerate(list_set.lists)}],
    )
    joint = _joint(model, {"rank_net": 1.0})
    fresh = joint(**_batch(model, list_set, _stage()))["loss"]
    stored = joint(**_batch(model, list_set, _stage(), vectors=vectors))["loss"]
    torch.testing.assert_close(stored, fresh, atol=1e-5, rtol=1e-4)


def test_a_passage_of_two_lists_is_encoded_once_and_is_no_negative_of_its_query(
    tiny_mini: Callable[..., ResRank], passages: dict[str, Passage]
) -> None:
    model = tiny_mini()
    twin = TrainingList("a", "dates", ("dates-0", "bread-0", "cats-0"), (1, None, None))
    other = TrainingList("b", "old dates", ("cats-0", "dates-0", "paris-0"), (None, 1, None))
    of = ListSet("made", (twin, other), passages, {}, "digest")
    batch = _batch(model, of, _stage(list_length=3, positives=1), lists=2)
    assert len(batch["keys"]) == 4
    queries, vectors = _joint(model).encode(batch)
    similarities = queries @ vectors.T / 0.03
    expected = []
    for row in (0, 1):
        right = int((batch["keys"] == batch["positive_keys"][row, 0]).nonzero())
        expected.append(torch.logsumexp(similarities[row], 0) - similarities[row, right])
    found = _joint(model, {"info_nce": 1.0})(**batch)["loss"]
    torch.testing.assert_close(found, torch.stack(expected).mean(), atol=1e-5, rtol=1e-4)


def test_losses_are_float32_under_autocast(tiny_qwen: Callable[..., ResRank], list_set: ListSet) -> None:
    model = tiny_qwen()
    joint = _joint(model, {"info_nce": 1.0, "rank_net": 2.0, "list_softmax": 1.0})
    batch = _batch(model, list_set, _stage())
    exact = joint(**batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = joint(**batch)
    for name, value in found.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact[name].item(), rel=0.1), name


def test_evidence_is_exact_under_autocast(tiny_model: Callable[..., ResRank], list_set: ListSet) -> None:
    model = tiny_model()  # safe start: scores are the evidence's alone
    joint = _joint(model)
    batch = _batch(model, list_set, _stage())
    batch["features"][:, 0, FEATURES.index("dense_score")] = torch.nan  # found by the lexical list alone
    queries, vectors = joint.encode(batch)
    exact = joint.score(batch["prompts"], queries, vectors, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = joint.score(batch["prompts"], queries, vectors, batch)
    mask = batch["mask"]
    assert mask[:, 0].all()
    torch.testing.assert_close(found[mask], exact[mask], rtol=0, atol=1e-6)
