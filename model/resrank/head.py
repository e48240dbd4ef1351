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
list has no evidence, else b log(RRF) + v_1 (BM25 - 1) + v_2 (cos(u, e_i) - 1) + w (matches_i - 1), BM25 being the score
over the pool's best, 0 where the lexical list did not return the candidate, and matches_i the shares of
`resrank.matching`, 0 for a candidate without text. Where no first stage ran but texts are known, it is x_1 (cos(u, e_i)
- 1) + x (matches_i - 1). v, w and x start at zero: **safe start**, the order of the first stage. Training sets v, w and
x first, by regression on its lists, and b to zero, because a weighted sum of scores ranks better than RRF once the
weights are known (Bruch et al. 2023, arXiv 2210.11934).

Where there is evidence, only `evidence_share` of what the reranker adds to the prior counts: with 1 all of it. Evidence
says most of what can be known, and what the reranker adds to it carries over to other collections least.

Without the residual (an ablation) the score is cos(g_h, h_i) in `paper` mode, and prior_i + a cos(W_q g_h, W_p h_i)
with a = 0 at the start in `evidence` mode.

Source: ResRank, arXiv 2604.22180, Eq. 5 and the residual of its method section; the evidence mode is this project's.
"""

from __future__ import annotations

import torch
from torch import nn

from .config import Mode
from .evidence import FEATURES, MATCH_COLUMNS
from .matching import MATCHES

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
    :param evidence_share: how much of what the reranker adds counts where there is evidence, from 0 to 1.
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
        evidence_share: float = 1.0,
    ) -> None:
        super().__init__()
        self.mode = mode
        self.evidence_share = evidence_share
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
            self.prior_weights = nn.Parameter(torch.zeros(2 + len(MATCHES)))  # v, w
            self.text_weights = nn.Parameter(torch.tensor([SCORE_SCALE, *[0.0] * len(MATCHES)]))  # x_1, x
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
        if self.mode == "paper" or bool(self.prior_weights.any()) or bool(self.text_weights[1:].any()):
            return False
        if not self.residual:
            return not bool(self.gate)
        return not bool(self.query_out.weight.any()) and not bool(self.passage_out.weight.any())

    def slots(self, passages: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """
        Inputs of the passage slots.

        :param passages: (batch, candidates, encoder_dim) float32 unit vectors.
        :param features: (batch, candidates, 10) float32 evidence, NaN where unknown; not used in `paper` mode.
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
        *,
        share: torch.Tensor | float = 1.0,
    ) -> torch.Tensor:
        """
        Score the candidates of each query.

        :param query: (batch, encoder_dim) float32 unit vectors u.
        :param passages: (batch, candidates, encoder_dim) float32 unit vectors e.
        :param prior: (batch, candidates) float32 from `prior`.
        :param query_hidden: (batch, reranker_dim) hidden states at the closing end token.
        :param passage_hidden: (batch, candidates, reranker_dim) hidden states at the slots.
        :param share: (batch, 1) float32 from `share`, in `evidence` mode.
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
                return prior + share * self.gate * _cosine(*changes)
            moved = _cosine(
                query + _linear(self.query_out, query_hidden), passages + _linear(self.passage_out, passage_hidden)
            )
            return prior + share * self.score_scale * (moved - _cosine(query, passages))

    def share(self, has_evidence: torch.Tensor) -> torch.Tensor:
        """
        How much of what the reranker adds counts.

        :param has_evidence: (batch,) bool, whether anything is known of any candidate of a list.
        :returns: (batch, 1) float32: `evidence_share` for lists with any evidence, 1 for the others.
        """
        return torch.where(has_evidence, self.evidence_share, 1.0)[:, None]

    def prior(self, query: torch.Tensor, passages: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """
        The score before reranking.

        A list without evidence is scored by cosine, one of which the texts alone are known by cosine and matches. In a
        list of a first stage, a candidate from elsewhere gets the RRF of the dense rank that its cosine would have had
        in the pool, and of no lexical rank.

        :param query: (candidates of one query) (encoder_dim,) float32 unit vector.
        :param passages: (candidates, encoder_dim) float32 unit vectors.
        :param features: (candidates, 10) float32 evidence, NaN where unknown.
        :returns: (candidates,) float32.
        """
        cosine = passages @ query
        if self.mode == "paper":
            return cosine
        rrf = features[:, _RRF]
        known = ~torch.isnan(rrf)
        if not bool(known.any()):
            matches = features[:, MATCH_COLUMNS]
            if bool(torch.isnan(matches).all()):
                return self.score_scale * cosine
            return self.of_texts(matches, cosine)
        if not bool(known.all()):
            rrf = torch.where(known, rrf, _virtual_rrf(cosine, known, self.rrf_k))
        return self.fused(rrf, features, cosine)

    def fused(self, rrf: torch.Tensor, features: torch.Tensor, cosine: torch.Tensor) -> torch.Tensor:
        """
        The prior of candidates with evidence.

        :param rrf: (...) float32 fusion scores.
        :param features: (..., 10) float32 evidence, of which the BM25 score and the matches count; 0 where unknown.
        :param cosine: (...) float32 of query and passage vectors.
        :returns: (...) float32; 0 for the best of both lists with a cosine of 1 and all that the query has.
        """
        # In float64 where the device has it, so that rounding never swaps two candidates of the first stage.
        exact = torch.float32 if rrf.device.type == "mps" else torch.float64
        known = torch.nan_to_num(features.to(exact))
        scores = (
            torch.cat([known[..., _BM25, None], cosine.to(exact)[..., None], known[..., MATCH_COLUMNS]], dim=-1) - 1
        )
        # Never against the fused order, whatever training finds: in a pool of one list RRF is that list's order.
        scale = self.prior_scale.to(exact).clamp(min=0)
        return (scale * torch.log(rrf.to(exact).clamp(min=1e-9)) + scores @ self.prior_weights.to(exact)).float()

    def of_texts(self, matches: torch.Tensor, cosine: torch.Tensor) -> torch.Tensor:
        """
        The prior of candidates that no first stage brought.

        :param matches: (..., 5) float32 shares of the query that their texts hold; 0 where unknown.
        :param cosine: (...) float32 of query and passage vectors.
        :returns: (...) float32; 0 for a cosine of 1 and all that the query has.
        """
        return (torch.cat([cosine[..., None], torch.nan_to_num(matches)], dim=-1) - 1) @ self.text_weights.float()


def complete_features(query: torch.Tensor, passages: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """
    Fill the dense score of candidates that only the lexical list returned: their vector is at hand.

    :param query: (encoder_dim,) float32 unit vector.
    :param passages: (candidates, encoder_dim) float32 unit vectors.
    :param features: (candidates, 10) float32 evidence, NaN where unknown.
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
