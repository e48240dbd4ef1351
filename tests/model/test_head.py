# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The head against numpy, its safe start, its prior, and where its gradients go."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch

from resrank.candidates import ListTensors
from resrank.evidence import FEATURES, Evidence, evidence_from_meta, fuse
from resrank.head import PRIOR_SCALE, SCORE_SCALE, Head, complete_features

Vectors = Callable[..., np.ndarray]
NAN = float("nan")


def _features(*rows: list[float]) -> torch.Tensor:
    """Evidence of candidates; what a row does not go on to is unknown."""
    return torch.tensor([row + [NAN] * (len(FEATURES) - len(row)) for row in rows])


def _at(cosines: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A query, and passages that have these cosines with it."""
    return torch.tensor([1.0, 0.0]), torch.stack([cosines, (1 - cosines**2).sqrt()], dim=1)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def _randomised(mode: str, encoder_dim: int, reranker_dim: int, seed: int = 0, **arguments: object) -> Head:
    head = Head(mode, encoder_dim, reranker_dim, **arguments)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in head.parameters():
            if weight.ndim == 2:
                weight.copy_(torch.randn(weight.shape, generator=generator))
    return head.eval()


def _inputs(encoder_dim: int, reranker_dim: int, candidates: int = 5, seed: int = 7) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    query = torch.nn.functional.normalize(draw(1, encoder_dim), dim=-1)
    passages = torch.nn.functional.normalize(draw(1, candidates, encoder_dim), dim=-1)
    return query, passages, draw(1, candidates), 9 * draw(1, reranker_dim), 9 * draw(1, candidates, reranker_dim)


# ------------------------------------------------------------------------------------------------------------ formulas


@pytest.mark.parametrize(("encoder_dim", "reranker_dim"), [(8, 8), (8, 6), (6, 8)])
def test_evidence_scores_by_hand(encoder_dim: int, reranker_dim: int) -> None:
    head = _randomised("evidence", encoder_dim, reranker_dim)
    with torch.no_grad():
        head.score_scale.fill_(3.5)
    query, passages, prior, query_hidden, passage_hidden = _inputs(encoder_dim, reranker_dim)
    found = head.scores(query, passages, prior, query_hidden, passage_hidden)[0].detach().numpy()
    w_q, w_p = head.query_out.weight.detach().numpy(), head.passage_out.weight.detach().numpy()
    u, e, h = query[0].numpy(), passages[0].numpy(), passage_hidden[0].numpy()
    g = u + w_q @ query_hidden[0].numpy()
    for i in range(len(e)):
        z = e[i] + w_p @ h[i]
        expected = prior[0, i].item() + 3.5 * (_cosine(g, z) - _cosine(u, e[i]))
        assert found[i] == pytest.approx(expected, abs=1e-5)


def test_paper_scores_by_hand() -> None:
    head = Head("paper", 8, 8)
    query, passages, prior, query_hidden, passage_hidden = _inputs(8, 8)
    found = head.scores(query, passages, prior, query_hidden, passage_hidden)[0].numpy()
    g = query_hidden[0].numpy()
    for i, (e, h) in enumerate(zip(passages[0].numpy(), passage_hidden[0].numpy(), strict=True)):
        assert found[i] == pytest.approx(_cosine(g, e + h / np.linalg.norm(h)), abs=1e-6)


@pytest.mark.parametrize(("encoder_dim", "reranker_dim"), [(8, 6), (6, 8)])
def test_paper_scores_of_different_sizes_by_hand(encoder_dim: int, reranker_dim: int) -> None:
    head = _randomised("paper", encoder_dim, reranker_dim)
    query, passages, prior, query_hidden, passage_hidden = _inputs(encoder_dim, reranker_dim)
    found = head.scores(query, passages, prior, query_hidden, passage_hidden)[0].detach().numpy()
    out = head.output_projection.weight.detach().numpy()
    g = out @ query_hidden[0].numpy()
    for i, (e, h) in enumerate(zip(passages[0].numpy(), passage_hidden[0].numpy(), strict=True)):
        projected = out @ h
        assert found[i] == pytest.approx(_cosine(g, e + projected / np.linalg.norm(projected)), abs=1e-6)


def test_evidence_slots_by_hand() -> None:
    head = _randomised("evidence", 8, 6)
    passages = torch.randn(1, 2, 8, generator=torch.Generator().manual_seed(1))
    features = _features([0.5, NAN, 1.0, NAN, 0.25, NAN, 0.75, NAN, NAN, 0.0], [])[None]
    found = head.slots(passages, features)[0].detach().numpy()
    p, known, unknown = (
        weight.detach().numpy() for weight in (head.slot_projection.weight, head.evidence_weight, head.evidence_unknown)
    )
    first = p @ passages[0, 0].numpy() + 0.5 * known[0] + unknown[1] + 1.0 * known[2] + unknown[3] + 0.25 * known[4]
    first += unknown[5] + 0.75 * known[6] + unknown[7] + unknown[8] + 0.0 * known[9]
    second = p @ passages[0, 1].numpy() + unknown.sum(axis=0)
    np.testing.assert_allclose(found, [first, second], rtol=1e-4, atol=1e-5)


def test_known_zero_differs_from_unknown() -> None:
    head = _randomised("evidence", 8, 8)
    passages = torch.zeros(1, 2, 8)
    zero, unknown = head.slots(passages, _features([0.0] * 10, [])[None])[0]
    assert torch.equal(zero, torch.zeros(8))
    assert unknown.norm() > 1


def test_paper_slots_are_the_passages_where_sizes_agree() -> None:
    passages = torch.randn(2, 3, 8)
    assert torch.equal(Head("paper", 8, 8).slots(passages, torch.full((2, 3, 10), NAN)), passages)


def test_paper_slots_are_projected_where_sizes_differ() -> None:
    head, passages = _randomised("paper", 8, 6), torch.randn(2, 3, 8)
    expected = passages.numpy() @ head.slot_projection.weight.detach().numpy().T
    np.testing.assert_allclose(head.slots(passages, torch.zeros(2, 3, 10)).detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("encoder_dim", "reranker_dim"), [(8, 8), (8, 6)])
@pytest.mark.parametrize("mode", ["evidence", "paper"])
def test_without_the_residual_by_hand(mode: str, encoder_dim: int, reranker_dim: int) -> None:
    head = _randomised(mode, encoder_dim, reranker_dim, residual=False)
    query, passages, prior, query_hidden, passage_hidden = _inputs(encoder_dim, reranker_dim)
    if mode == "evidence":
        assert head.is_safe_start
        assert torch.equal(head.scores(query, passages, prior, query_hidden, passage_hidden), prior)
        with torch.no_grad():
            head.gate.fill_(2.5)
    assert not head.is_safe_start
    found = head.scores(query, passages, prior, query_hidden, passage_hidden)[0].detach().numpy()
    g, h = query_hidden[0].numpy(), passage_hidden[0].numpy()
    for i in range(len(h)):
        expected = _cosine(g, h[i])
        if mode == "evidence":
            w_q, w_p = head.query_out.weight.detach().numpy(), head.passage_out.weight.detach().numpy()
            expected = prior[0, i].item() + 2.5 * _cosine(w_q @ g, w_p @ h[i])
        assert found[i] == pytest.approx(expected, abs=1e-5)


# ------------------------------------------------------------------------------------------------------ evidence share


def test_the_share_is_of_lists_with_evidence() -> None:
    has_evidence = torch.tensor([True, False])
    share = Head("evidence", 4, 4, evidence_share=0.3).share(has_evidence)
    torch.testing.assert_close(share, torch.tensor([[0.3], [1.0]]))
    assert torch.equal(Head("evidence", 4, 4).share(has_evidence), torch.ones(2, 1))


@pytest.mark.parametrize(("row", "column", "number"), [(0, 0, 0.5), (2, -1, 0.5), (1, 2, 0.0)])
def test_any_number_of_any_candidate_is_evidence_of_the_whole_list(row: int, column: int, number: float) -> None:
    """A zero, too; and the rows of a window know what the list has."""
    features = torch.full((3, len(FEATURES)), NAN)
    features[row, column] = number
    of = ListTensors(torch.ones(4), torch.ones(3, 4), features, torch.zeros(3))
    assert of.has_evidence
    assert of.select([other for other in range(3) if other != row]).has_evidence
    assert not ListTensors(torch.ones(4), torch.ones(3, 4), torch.full_like(features, NAN), torch.zeros(3)).has_evidence


@pytest.mark.parametrize("residual", [True, False])
def test_only_the_share_of_what_is_added_to_the_prior_counts_by_hand(residual: bool) -> None:
    head = _randomised("evidence", 8, 6, residual=residual, evidence_share=0.25)
    with torch.no_grad():
        (head.score_scale if residual else head.gate).fill_(3.5)
    inputs = [torch.cat(pair) for pair in zip(_inputs(8, 6, seed=7), _inputs(8, 6, seed=8), strict=True)]
    found = head.scores(*inputs, share=head.share(torch.tensor([True, False]))).detach().numpy()
    w_q, w_p = head.query_out.weight.detach().numpy(), head.passage_out.weight.detach().numpy()
    query, passages, prior, query_hidden, passage_hidden = (each.numpy() for each in inputs)
    for row, share in enumerate([0.25, 1.0]):
        for i, e in enumerate(passages[row]):
            g, z = w_q @ query_hidden[row], w_p @ passage_hidden[row, i]
            added = _cosine(query[row] + g, e + z) - _cosine(query[row], e) if residual else _cosine(g, z)
            assert found[row, i] == pytest.approx(prior[row, i] + share * 3.5 * added, abs=1e-5)


def test_of_a_share_of_nothing_the_prior_is_left() -> None:
    head, inputs = _randomised("evidence", 8, 8, evidence_share=0.0), _inputs(8, 8)
    assert torch.equal(head.scores(*inputs, share=head.share(torch.tensor([True]))), inputs[2])
    assert not torch.allclose(head.scores(*inputs, share=head.share(torch.tensor([False]))), inputs[2])


def test_the_share_does_not_count_in_paper_mode() -> None:
    head, inputs = _randomised("paper", 8, 8, evidence_share=0.3), _inputs(8, 8)
    assert torch.equal(head.scores(*inputs, share=head.share(torch.tensor([True]))), head.scores(*inputs))


# ---------------------------------------------------------------------------------------------------------- safe start


@pytest.mark.parametrize(("encoder_dim", "reranker_dim"), [(8, 8), (8, 6), (6, 8)])
def test_safe_start_gives_exactly_the_prior(encoder_dim: int, reranker_dim: int) -> None:
    query, passages, prior, query_hidden, passage_hidden = _inputs(encoder_dim, reranker_dim)
    scores = Head("evidence", encoder_dim, reranker_dim).scores(query, passages, prior, query_hidden, passage_hidden)
    assert torch.equal(scores, prior)


def test_evidence_does_not_move_a_slot_at_safe_start() -> None:
    head, passages = Head("evidence", 8, 8), torch.randn(1, 2, 8)
    known, unknown = (head.slots(passages, torch.full((1, 2, 10), value)) for value in (0.7, NAN))
    assert torch.equal(known, unknown)


@pytest.mark.parametrize(("encoder_dim", "reranker_dim"), [(8, 8), (6, 8)])
def test_slots_start_at_the_norm_of_the_token_embeddings(encoder_dim: int, reranker_dim: int, unit_vectors) -> None:
    head = Head("evidence", encoder_dim, reranker_dim, token_norm=2.75)
    passages = torch.from_numpy(unit_vectors(10, encoder_dim))[None]
    norms = head.slots(passages, torch.full((1, 10, 10), NAN)).norm(dim=-1)
    torch.testing.assert_close(norms, torch.full((1, 10), 2.75))


def test_a_smaller_reranker_gets_an_orthogonal_projection() -> None:
    weight = Head("evidence", 8, 6, token_norm=2.0).slot_projection.weight.detach()
    torch.testing.assert_close(weight @ weight.T, 4.0 * torch.eye(6), atol=1e-5, rtol=0)


def test_the_start_is_the_same_every_time() -> None:
    for mode in ("evidence", "paper"):
        first, second = (Head(mode, 8, 6).state_dict() for _ in range(2))
        assert first.keys() == second.keys()
        for name, weight in first.items():
            assert torch.equal(weight, second[name]), name


# --------------------------------------------------------------------------------------------------------------- prior


def test_prior_without_evidence_is_the_scaled_cosine(unit_vectors: Vectors) -> None:
    query, passages = unit_vectors(1, seed=1)[0], unit_vectors(4, seed=2)
    prior = Head("evidence", 32, 32).prior(*map(torch.from_numpy, (query, passages)), torch.full((4, 10), NAN))
    np.testing.assert_allclose(prior.detach().numpy(), SCORE_SCALE * passages @ query, rtol=1e-5)


def test_prior_with_evidence_is_the_scaled_log_rrf(unit_vectors: Vectors) -> None:
    query, passages = unit_vectors(1, seed=1)[0], unit_vectors(3, seed=2)
    features = _features(*[[0.0, 0.0, rrf, 0.0, 0.0] for rrf in (1.0, 0.5, 0.031)])
    prior = Head("evidence", 32, 32).prior(*map(torch.from_numpy, (query, passages)), features)
    np.testing.assert_allclose(prior.detach().numpy(), PRIOR_SCALE * np.log([1.0, 0.5, 0.031]), rtol=1e-5)


def test_prior_with_weights_adds_the_scores_that_are_known() -> None:
    head = Head("evidence", 2, 2)
    with torch.no_grad():
        head.prior_scale.copy_(torch.tensor([2.0]))
        head.prior_weights[:2] = torch.tensor([5.0, 10.0])
    # The last one comes from elsewhere: no lexical score, and the RRF of the third place of the dense list.
    features = _features([1.0, 0.6, 1.0, 1.0, 0.5], [0.25, 0.8, 0.5, 0.5, 1.0], [])
    prior = head.prior(*_at(torch.tensor([0.6, 0.8, 0.0])), features).detach().numpy()
    expected = [
        0.0 + 0.0 + 10 * (0.6 - 1),
        2 * np.log(0.5) + 5 * (0.25 - 1) + 10 * (0.8 - 1),
        2 * np.log(61 / 63 / 2) - 5 - 10,
    ]
    np.testing.assert_allclose(prior, expected, rtol=1e-5)


@pytest.fixture
def matching_head() -> Head:
    """A head whose prior has a weight for everything."""
    head = Head("evidence", 2, 2)
    with torch.no_grad():
        head.score_scale.copy_(torch.tensor([3.0]))
        head.prior_scale.copy_(torch.tensor([2.0]))
        head.prior_weights.copy_(torch.tensor([5.0, 10.0, 1.0, 2.0, 4.0, 0.5, 8.0]))
        head.text_weights.copy_(torch.tensor([6.0, 0.5, 3.0, 1.0, 7.0, 2.0]))
    return head


def test_prior_of_a_first_stage_and_matches_by_hand(matching_head: Head) -> None:
    # The second has no text; the third comes from elsewhere, with one.
    features = _features(
        [1.0, 0.6, 1.0, 1.0, 0.5, 1.0, 0.5, 0.75, 0.0, 0.25],
        [0.25, 0.8, 0.5, 0.5, 1.0],
        [NAN, NAN, NAN, NAN, NAN, 0.0, 0.0, 0.5, 1.0, 1.0],
    )
    prior = matching_head.prior(*_at(torch.tensor([0.6, 0.8, 0.0])), features).detach().numpy()
    expected = [
        10 * (0.6 - 1) + 2 * (0.5 - 1) + 4 * (0.75 - 1) + 0.5 * (0.0 - 1) + 8 * (0.25 - 1),
        2 * np.log(0.5) + 5 * (0.25 - 1) + 10 * (0.8 - 1) - (1 + 2 + 4 + 0.5 + 8),
        2 * np.log(61 / 63 / 2) - 5 - 10 - 1 - 2 + 4 * (0.5 - 1),
    ]
    np.testing.assert_allclose(prior, expected, rtol=1e-5)


def test_prior_of_matches_alone_by_hand(matching_head: Head) -> None:
    """They have weights of their own, and so has the cosine beside them; the second candidate has no text."""
    features = _features([NAN] * 5 + [1.0, 0.5, 0.75, 0.0, 0.25], [], [NAN] * 5 + [1.0] * 5)
    prior = matching_head.prior(*_at(torch.tensor([0.6, 0.8, -0.5])), features).detach().numpy()
    expected = [
        6 * (0.6 - 1) + 3 * (0.5 - 1) + 1 * (0.75 - 1) + 7 * (0.0 - 1) + 2 * (0.25 - 1),
        6 * (0.8 - 1) - (0.5 + 3 + 1 + 7 + 2),
        6 * (-0.5 - 1),
    ]
    np.testing.assert_allclose(prior, expected, rtol=1e-5)


def test_prior_of_matches_alone_in_bfloat16_is_that_of_float32() -> None:
    """DeepSpeed trains the head in bfloat16; what it reads stays float32."""
    weights = torch.tensor([9.0, 0.3, -1.7, 2.2, 0.1, 4.9])
    features = _features([NAN] * 5 + [1.0, 0.5, 0.75, 0.0, 0.25], [], [NAN] * 5 + [0.1] * 5)
    query, passages = torch.eye(4)[0], torch.nn.functional.normalize(torch.arange(12.0).reshape(3, 4) - 4, dim=-1)
    priors = []
    for head in (Head("evidence", 4, 4), Head("evidence", 4, 4).bfloat16()):
        with torch.no_grad():
            head.text_weights.copy_(weights)
        priors.append(head.prior(query, passages, features))
    assert priors[1].dtype is torch.float32
    torch.testing.assert_close(priors[1], priors[0], rtol=0.01, atol=0.01)


def test_prior_without_any_evidence_has_no_weights(matching_head: Head) -> None:
    prior = matching_head.prior(*_at(torch.tensor([0.6, 0.8])), _features([], [])).detach().numpy()
    np.testing.assert_allclose(prior, [3 * 0.6, 3 * 0.8], rtol=1e-6)


def test_matches_do_not_move_the_prior_of_a_first_stage_at_safe_start() -> None:
    known = [[0.5, 0.6, rrf, 0.5, 0.5] for rrf in (1.0, 0.5)]
    without, beside = (
        Head("evidence", 2, 2).prior(*_at(torch.tensor([0.6, 0.8])), _features(*rows))
        for rows in (known, [known[0] + [0.0] * 5, known[1] + [1.0] * 5])
    )
    assert torch.equal(without, beside)


def test_of_texts_alone_the_prior_is_the_cosines_at_safe_start() -> None:
    """It is 0 where the cosine is 1: only differences count."""
    features = _features([NAN] * 5 + [0.0] * 5, [NAN] * 5 + [1.0] * 5, [])
    prior = Head("evidence", 2, 2).prior(*_at(torch.tensor([0.6, 0.8, 1.0])), features).detach().numpy()
    np.testing.assert_allclose(prior, SCORE_SCALE * (np.array([0.6, 0.8, 1.0]) - 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("first_stage", [True, False])
def test_the_weights_of_matches_learn(first_stage: bool) -> None:
    head = Head("evidence", 2, 2)
    known = [0.5, 0.6, 0.5, 0.5, 0.5] if first_stage else [NAN] * 5
    features = _features([*known, 1.0, 0.5, 0.75, 0.0, 0.25], [*known, 0.0, 0.5, 1.0, 0.0, 0.0])
    prior = head.prior(*_at(torch.tensor([0.6, 0.6])), features)
    (prior[0] - prior[1]).backward()
    used, other = (head.prior_weights, head.text_weights) if first_stage else (head.text_weights, head.prior_weights)
    torch.testing.assert_close(used.grad[-5:], torch.tensor([1.0, 0.0, -0.25, 0.0, 0.25]))
    torch.testing.assert_close(used.grad[:-5], torch.zeros(len(used) - 5))  # both have one cosine and BM25 score
    assert other.grad is None


def test_fused_and_of_texts_take_any_number_of_lists(matching_head: Head) -> None:
    generator = torch.Generator().manual_seed(0)
    features, rrf = torch.rand(3, 4, 10, generator=generator), torch.rand(3, 4, generator=generator)
    cosine = torch.rand(3, 4, generator=generator)
    features[1, 2] = NAN
    together = matching_head.fused(rrf, features, cosine)
    assert (together.dtype, together.shape) == (torch.float32, (3, 4))
    texts = matching_head.of_texts(features[..., 5:], cosine)
    assert (texts.dtype, texts.shape) == (torch.float32, (3, 4))
    for row in range(3):
        torch.testing.assert_close(together[row], matching_head.fused(rrf[row], features[row], cosine[row]))
        torch.testing.assert_close(texts[row], matching_head.of_texts(features[row, :, 5:], cosine[row]))


def test_log_rrf_never_counts_against_the_fused_order(unit_vectors: Vectors) -> None:
    head = Head("evidence", 32, 32)
    with torch.no_grad():
        head.prior_scale.fill_(-3.0)
        head.prior_weights[1] = 1.0
    rrf = torch.tensor([1.0, 0.1])
    np.testing.assert_array_equal(head.fused(rrf, torch.zeros(2, 10), torch.ones(2)).detach(), [0.0, 0.0])


def test_prior_orders_as_the_fused_list(unit_vectors: Vectors) -> None:
    bm25 = [(f"p{i:02}", 30.0 - i) for i in range(30)]
    dense = [(f"p{i:02}", 1 - i / 50) for i in range(40, 10, -1)]
    fused = fuse("q", bm25=bm25, dense=dense)
    evidence, _ = evidence_from_meta("q", [c.meta for c in fused])
    query, passages = unit_vectors(1, seed=1)[0], unit_vectors(len(fused), seed=2)
    prior = Head("evidence", 32, 32).prior(*map(torch.from_numpy, (query, passages, evidence.features)))
    differences = np.diff(prior.detach().numpy())
    assert (differences <= 0).all()
    ties = np.array([a.score == b.score for a, b in pairwise(fused)])
    np.testing.assert_array_equal(differences == 0, ties)


def test_prior_in_paper_mode_is_the_cosine(unit_vectors: Vectors) -> None:
    query, passages = unit_vectors(1, seed=1)[0], unit_vectors(3, seed=2)
    features = torch.full((3, 10), 0.5)
    prior = Head("paper", 32, 32).prior(*map(torch.from_numpy, (query, passages)), features)
    np.testing.assert_allclose(prior.numpy(), passages @ query, rtol=1e-5)


@pytest.mark.parametrize(
    ("cosine", "rank"),
    [(0.95, 1), (0.85, 2), (0.45, 4), (0.8, 2)],
    ids=["before all", "between", "after all", "level with one"],
)
def test_a_candidate_from_elsewhere_gets_its_dense_rank(cosine: float, rank: int) -> None:
    """Its RRF is that of the place its cosine takes among the pool's 0.9, 0.8 and 0.5, and of no lexical rank."""
    features = _features(*[[0.0, 0.0, rrf, 0.0, 0.0] for rrf in (0.7, 0.6, NAN, 0.5)])
    of = _at(torch.tensor([0.8, 0.9, cosine, 0.5]))
    prior = Head("evidence", 2, 2, rrf_k=10).prior(*of, features).detach().numpy()
    expected = PRIOR_SCALE * np.log([0.7, 0.6, (1 / (10 + rank)) * 11 / 2, 0.5])
    np.testing.assert_allclose(prior, expected, rtol=1e-5)


def test_an_rrf_of_zero_is_a_finite_prior() -> None:
    features = torch.zeros(1, 10)
    prior = Head("evidence", 2, 2).prior(torch.tensor([1.0, 0.0]), torch.tensor([[1.0, 0.0]]), features)
    assert torch.isfinite(prior).all()


# --------------------------------------------------------------------------------------------------- complete_features


def test_complete_features_fills_only_the_dense_score_of_known_candidates(unit_vectors: Vectors) -> None:
    query, passages = torch.from_numpy(unit_vectors(1, seed=1)[0]), torch.from_numpy(unit_vectors(3, seed=2))
    features = _features([0.5, NAN, 0.4, 1.0, 0.0], [0.1, 0.25, 0.4, 1.0, 0.5, 0.5], [NAN] * 5 + [0.5] * 5)
    filled = complete_features(query, passages, features)
    expected = features.clone()
    expected[0, 1] = passages[0] @ query
    torch.testing.assert_close(filled, expected, equal_nan=True)
    assert torch.isnan(features[0, 1])  # a copy


def test_complete_features_passes_no_gradient() -> None:
    query, passages = torch.ones(2), torch.ones(1, 2, requires_grad=True)
    assert not complete_features(query, passages, _features([0.5, NAN, 0.4, 1.0, 0.0])).requires_grad


# ----------------------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("mode", ["evidence", "paper"])
@pytest.mark.parametrize("path", ["slot", "residual", "both"])
def test_a_ranking_loss_reaches_the_passages(mode: str, path: str, tiny_mini, randomise_head) -> None:
    """RankNet's gradient flows into the encoder's output through the slot input and through the residual."""
    model = randomise_head(tiny_mini(mode=mode))
    leaf = torch.from_numpy(model.encode_passages(["bread", "a date", "Paris"])).requires_grad_()
    query = torch.from_numpy(model.encode_queries(["bread"]))
    through_slot = leaf if path != "residual" else leaf.detach()
    through_residual = leaf if path != "slot" else leaf.detach()
    slots = model.head.slots(through_slot[None], torch.from_numpy(Evidence.unknown(3).features)[None])
    query_hidden, hidden = model.reranker([model.reranker.prompt("bread")], slots, [3])
    scores = model.head.scores(query, through_residual[None], torch.zeros(1, 3), query_hidden, hidden)[0]
    torch.nn.functional.softplus(scores[1] - scores[0]).backward()
    assert torch.isfinite(leaf.grad).all()
    assert (leaf.grad[:2].norm(dim=1) > 1e-6).all()


def test_both_paths_add_up(tiny_mini, randomise_head) -> None:
    model = randomise_head(tiny_mini())
    passages = torch.from_numpy(model.encode_passages(["bread", "a date", "Paris"]))
    query = torch.from_numpy(model.encode_queries(["bread"]))
    gradients = []
    for slot, residual in [(True, False), (False, True), (True, True)]:
        leaf = passages.clone().requires_grad_()
        slots = model.head.slots((leaf if slot else passages)[None], torch.full((1, 3, 10), NAN))
        query_hidden, hidden = model.reranker([model.reranker.prompt("bread")], slots, [3])
        residuals = (leaf if residual else passages)[None]
        scores = model.head.scores(query, residuals, torch.zeros(1, 3), query_hidden, hidden)[0]
        (scores[1] - scores[0]).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[0] + gradients[1], gradients[2], atol=1e-4, rtol=1e-4)


def test_at_safe_start_the_output_projections_learn_first() -> None:
    head = Head("evidence", 8, 8)
    query, passages, prior, query_hidden, passage_hidden = _inputs(8, 8)
    scores = head.scores(query, passages, prior, query_hidden, passage_hidden)[0]
    (scores[0] - scores[1]).backward()
    assert head.query_out.weight.grad.norm() > 0
    assert head.passage_out.weight.grad.norm() > 0


def test_half_precision_hidden_states_give_float32_scores() -> None:
    query, passages, prior, query_hidden, passage_hidden = _inputs(8, 8)
    head = _randomised("evidence", 8, 8)
    scores = head.scores(query, passages, prior, query_hidden.bfloat16(), passage_hidden.bfloat16())
    assert scores.dtype is torch.float32


def test_safe_start_is_told_apart_from_a_trained_head():
    head = Head("evidence", 8, 8)
    assert head.is_safe_start
    with torch.no_grad():
        head.passage_out.weight[0, 0] = 0.1
    assert not head.is_safe_start
    head = Head("evidence", 8, 8)
    with torch.no_grad():
        head.prior_weights[1] = 0.1
    assert not head.is_safe_start
    head = Head("evidence", 8, 8)
    with torch.no_grad():
        head.prior_weights[-1] = 0.1  # of a match
    assert not head.is_safe_start
    head = Head("evidence", 8, 8)
    with torch.no_grad():
        head.text_weights[0] = 9.0  # of the cosine, whose order stays
    assert head.is_safe_start
    with torch.no_grad():
        head.text_weights[1] = 0.1
    assert not head.is_safe_start
    assert not Head("paper", 8, 8).is_safe_start
