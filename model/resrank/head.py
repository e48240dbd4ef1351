# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
The head: what goes into a passage slot, and how hidden states become scores. All in float32.

With u the query vector, e_i the passage vectors (all unit length), h_i the reranker's hidden state at slot i and g_h
the one at the closing end token:

=============== ============================== ==================================================
                `paper`                        `evidence`
=============== ============================== ==================================================
slot input      e_i (projected if sizes        P e_i + W_f evidence_i; P starts at the norm of the
                differ)                        token embeddings
query side g    g_h                            u + W_q g_h
passage side z  e_i + h_i / |h_i|              e_i + W_p h_i
score           cos(g, z_i) (Eq. 5)            prior_i + t (cos(g, z_i) - cos(u, e_i))
=============== ============================== ==================================================

In `paper` mode h_i is normalised before the residual sum: it is many times longer than the unit e_i, which would drown.
In `evidence` mode W_q and W_p start at zero, so the score is exactly the prior. The prior is t cos(u, e_i) when the
list has no evidence, else b log(RRF) + v_1 (BM25 - 1) + v_2 (cos(u, e_i) - 1), BM25 being the score over the pool's
best, 0 where the lexical list did not return the candidate. v starts at zero: **safe start**, the order of the first
stage. Training sets b and v first, by regression on its lists, because a weighted sum of scores ranks better than RRF
once the weights are known (Bruch et al. 2023, arXiv 2210.11934).

Without the residual (an ablation) the score is cos(g_h, h_i) in `paper` mode, and prior_i + a cos(W_q g_h, W_p h_i)
with a = 0 at the start in `evidence` mode.

Source: ResRank, arXiv 2604.22180, Eq. 5 and the residual of its method section; the evidence mode is this project's.
"""

from __future__ import annotations

import torch
from torch import nn

from .config import Mode
from .evidence import FEATURES

# Both start values only scale the safe-start scores (their order is the first stage's); training moves them.
SCORE_SCALE = 20.0
PRIOR_SCALE = 10.0

_BM25 = FEATURES.index("bm25_score")
_DENSE = FEATURES.index("dense_score")
_RRF = FEATURES.index("rrf_score")


class Head(nn.Module):
    """
    Slot inputs and scores.

    :param mode: `evidence` or `paper`.
    :param encoder_dim: size of the passage vectors.
    :param reranker_dim: hidden size of the reranker.
    :param token_norm: mean norm of the reranker's token embeddings, the scale of P at the start.
    :param rrf_k: the constant of the fusion that made the evidence.
    :param residual: whether scores see u and e_i themselves.
    """

    def __init__(
        self,
        mode: Mode,
        encoder_dim: int,
        reranker_dim: int,
        token_norm: float = 1.0,
        rrf_k: int = 60,
        *,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.mode = mode
        self.residual = residual
        self.rrf_k = rrf_k
        same_size = encoder_dim == reranker_dim
        self.slot_projection: nn.Linear | None = None
        if mode == "evidence" or not same_size:
            self.slot_projection = nn.Linear(encoder_dim, reranker_dim, bias=False)
            nn.init.eye_(self.slot_projection.weight)  # P e keeps the norm of e where sizes allow
            if encoder_dim > reranker_dim:
                _orthogonal(self.slot_projection)
            with torch.no_grad():
                self.slot_projection.weight.mul_(token_norm)
        if mode == "evidence":
            self.evidence_weight = nn.Parameter(torch.zeros(len(FEATURES), reranker_dim))
            self.evidence_unknown = nn.Parameter(torch.zeros(len(FEATURES), reranker_dim))
            self.query_out = _zero_linear(reranker_dim, encoder_dim)
            self.passage_out = _zero_linear(reranker_dim, encoder_dim)
            self.score_scale = nn.Parameter(torch.tensor([SCORE_SCALE]))
            self.prior_scale = nn.Parameter(torch.tensor([PRIOR_SCALE]))
            self.prior_weights = nn.Parameter(torch.zeros(2))
            if not residual:
                _orthogonal(self.query_out)
                _orthogonal(self.passage_out)
                self.gate = nn.Parameter(torch.tensor([0.0]))
        elif residual and not same_size:
            self.output_projection = nn.Linear(reranker_dim, encoder_dim, bias=False)
            _orthogonal(self.output_projection)

    @property
    def is_safe_start(self) -> bool:
        """
        Whether the order is the first stage's: the reranker's output has no weight, nor has the prior's sum of scores.

        :returns: always false in `paper` mode.
        """
        if self.mode == "paper" or bool(self.prior_weights.any()):
            return False
        if not self.residual:
            return not bool(self.gate)
        return not bool(self.query_out.weight.any()) and not bool(self.passage_out.weight.any())

    def slots(self, passages: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """
        Inputs of the passage slots.

        :param passages: (batch, candidates, encoder_dim) float32 unit vectors.
        :param features: (batch, candidates, 5) float32 evidence, NaN where unknown; not used in `paper` mode.
        :returns: (batch, candidates, reranker_dim) float32.
        """
        slots = passages if self.slot_projection is None else _linear(self.slot_projection, passages)
        if self.mode == "paper":
            return slots
        unknown = torch.isnan(features)
        known = torch.where(unknown, 0.0, features)
        return slots + known @ self.evidence_weight.float() + unknown.float() @ self.evidence_unknown.float()

    def scores(
        self,
        query: torch.Tensor,
        passages: torch.Tensor,
        prior: torch.Tensor,
        query_hidden: torch.Tensor,
        passage_hidden: torch.Tensor,
    ) -> torch.Tensor:
        """
        Score the candidates of each query.

        :param query: (batch, encoder_dim) float32 unit vectors u.
        :param passages: (batch, candidates, encoder_dim) float32 unit vectors e.
        :param prior: (batch, candidates) float32 from `prior`.
        :param query_hidden: (batch, reranker_dim) hidden states at the closing end token.
        :param passage_hidden: (batch, candidates, reranker_dim) hidden states at the slots.
        :returns: (batch, candidates) float32; a cosine in `paper` mode, an unbounded logit in `evidence` mode.
        """
        query_hidden, passage_hidden = query_hidden.float(), passage_hidden.float()
        with torch.autocast(query.device.type, enabled=False):  # training may run under it
            if self.mode == "paper":
                if hasattr(self, "output_projection"):
                    query_hidden = _linear(self.output_projection, query_hidden)
                    passage_hidden = _linear(self.output_projection, passage_hidden)
                residual = passages if self.residual else 0.0
                return _cosine(query_hidden, residual + nn.functional.normalize(passage_hidden, dim=-1))
            if not self.residual:
                changes = _linear(self.query_out, query_hidden), _linear(self.passage_out, passage_hidden)
                return prior + self.gate * _cosine(*changes)
            moved = _cosine(
                query + _linear(self.query_out, query_hidden), passages + _linear(self.passage_out, passage_hidden)
            )
            return prior + self.score_scale * (moved - _cosine(query, passages))

    def prior(self, query: torch.Tensor, passages: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """
        The score before reranking.

        A list without evidence is scored by cosine. In a list with evidence, a candidate from elsewhere gets the RRF of
        the dense rank that its cosine would have had in the pool, and of no lexical rank.

        :param query: (candidates of one query) (encoder_dim,) float32 unit vector.
        :param passages: (candidates, encoder_dim) float32 unit vectors.
        :param features: (candidates, 5) float32 evidence, NaN where unknown.
        :returns: (candidates,) float32.
        """
        cosine = passages @ query
        if self.mode == "paper":
            return cosine
        rrf = features[:, _RRF]
        known = ~torch.isnan(rrf)
        if not bool(known.any()):
            return self.score_scale * cosine
        if not bool(known.all()):
            rrf = torch.where(known, rrf, _virtual_rrf(cosine, known, self.rrf_k))
        return self.fused(rrf, torch.nan_to_num(features[:, _BM25]), cosine)

    def fused(self, rrf: torch.Tensor, bm25: torch.Tensor, cosine: torch.Tensor) -> torch.Tensor:
        """
        The prior of candidates with evidence.

        :param rrf: (...) float32 fusion scores.
        :param bm25: (...) float32 BM25 scores over the pool's best.
        :param cosine: (...) float32 of query and passage vectors.
        :returns: (...) float32; 0 for the best of both lists with a cosine of 1.
        """
        # In float64 where the device has it, so that rounding never swaps two candidates of the first stage.
        exact = torch.float32 if rrf.device.type == "mps" else torch.float64
        lexical, dense = self.prior_weights.to(exact)
        scores = lexical * (bm25.to(exact) - 1) + dense * (cosine.to(exact) - 1)
        # Never against the fused order, whatever training finds: in a pool of one list RRF is that list's order.
        scale = self.prior_scale.to(exact).clamp(min=0)
        return (scale * torch.log(rrf.to(exact).clamp(min=1e-9)) + scores).float()


def complete_features(query: torch.Tensor, passages: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """
    Fill the dense score of candidates that only the lexical list returned: their vector is at hand.

    :param query: (encoder_dim,) float32 unit vector.
    :param passages: (candidates, encoder_dim) float32 unit vectors.
    :param features: (candidates, 5) float32 evidence, NaN where unknown.
    :returns: a copy; candidates without any evidence stay unknown.
    """
    filled = features.clone()
    missing = torch.isnan(filled[:, _DENSE]) & ~torch.isnan(filled[:, _RRF])
    filled[missing, _DENSE] = (passages[missing] @ query).detach()
    return filled


def _virtual_rrf(cosine: torch.Tensor, known: torch.Tensor, rrf_k: int) -> torch.Tensor:
    # Normalised like Evidence.rrf: one list of two, so at most 1/2.
    pool = torch.sort(cosine[known]).values
    rank = pool.numel() - torch.searchsorted(pool, cosine.contiguous(), right=True) + 1
    return (rrf_k + 1) / 2 / (rrf_k + rank)


def _cosine(query: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
    return (nn.functional.normalize(passages, dim=-1) @ nn.functional.normalize(query, dim=-1).unsqueeze(-1)).squeeze(
        -1
    )


def _linear(layer: nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
    # The weights are float32, unless DeepSpeed trains them in bfloat16.
    return layer(inputs.to(layer.weight.dtype)).float()


def _orthogonal(linear: nn.Linear) -> None:
    # Seeded: an untrained model is the same one each time it is put together.
    nn.init.orthogonal_(linear.weight, generator=torch.Generator().manual_seed(0))


def _zero_linear(inputs: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, outputs, bias=False)
    nn.init.zeros_(linear.weight)
    return linear
