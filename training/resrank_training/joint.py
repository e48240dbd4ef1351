# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Encoder, reranker and head as one module whose forward pass gives the losses of a step.

Gradients of the ranking loss flow through the reranker and the residual into the encoder (ResRank, arXiv 2604.22180),
and through the cosine in the prior where that has weight.
That needs the activations of every passage of every list. As in GradCache (arXiv 2101.06983) passages are encoded in
chunks without keeping activations, and each chunk is encoded again when its vectors' gradients are known. Here the
second pass is run by activation checkpointing inside one backward call: the same gradients, memory and work, and DDP
and DeepSpeed need to know nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from resrank.candidates import ListTensors
from resrank.encoder import Encoder
from resrank.evidence import FEATURES
from resrank.head import Head, complete_features
from resrank.reranker import Prompt, Reranker
from resrank.scoring import score_lists

from .gather import gather_rows, most_of_all
from .losses import PairWeights, info_nce, list_mle, list_softmax, multi_task, rank_net

_DENSE = FEATURES.index("dense_score")
_TEMPERATURES = {"evidence": 1.0, "paper": 0.1}  # of logits and of cosines
_INFO_NCE_TEMPERATURE = 0.03
_SCALES = frozenset({"score_scale", "prior_scale", "prior_weights", "text_weights", "gate"})  # of the head


@dataclass(frozen=True)
class Objective:
    """
    What is minimised.

    :param weights: of the losses, by name.
    :param temperatures: by name; what is missing takes its default.
    :param pair_weights: of rank_net.
    """

    weights: Mapping[str, float]
    temperatures: Mapping[str, float]
    pair_weights: PairWeights = "equal"


class JointModel(nn.Module):
    """
    What the trainer trains.

    :param encoder: the Encoder-LLM.
    :param reranker: the Reranker-LLM.
    :param head: slot inputs and scores.
    :param objective: the losses.
    :param recompute: whether chunks of passages are encoded again in the backward pass.
    """

    def __init__(
        self, encoder: Encoder, reranker: Reranker, head: Head, objective: Objective, *, recompute: bool = True
    ) -> None:
        super().__init__()
        self.encoder, self.reranker, self.head = encoder, reranker, head
        self.objective = objective
        self.recompute = recompute

    def forward(self, **batch: Any) -> dict[str, torch.Tensor]:
        """
        The losses of a step.

        :param batch: as `Collator` makes it.
        :returns: `loss` (the weighted sum) and each loss by its name; float32 scalars.
        """
        queries, passages = self.encode(batch)
        weights = self.objective.weights
        losses: dict[str, torch.Tensor] = {}
        # Float32 from here on, also under autocast.
        with torch.autocast(queries.device.type, enabled=False):
            if "info_nce" in weights:
                losses["info_nce"] = self._contrast(queries, passages, batch["keys"], batch["positive_keys"])
        if set(weights) - {"info_nce"}:
            scores = self.score(batch["prompts"], queries, passages, batch)
            losses |= self._ranking(scores, batch)
        loss = multi_task(losses, weights)
        # The head's scales are in the graph whatever evidence the lists had: DDP waits for each. They are taken by
        # attribute: only so does ZeRO-3 gather one that no list has used.
        held = [getattr(self.head, name) for name, _ in self.head.named_parameters() if name in _SCALES]
        scales = [parameter for parameter in held if parameter.requires_grad]
        loss = loss + 0.0 * sum(p.float().sum() for p in scales)
        return {"loss": loss, **{name: value.detach() for name, value in losses.items()}}

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """
        Let the activations of layers be computed again in the backward pass; the trainer asks for it.

        This is for the reranker, and for the encoder when its chunks are not computed again as a whole already: one
        inside the other breaks ZeRO-3.

        :param activation_checkpointing_kwargs: of `torch.utils.checkpoint.checkpoint`; it is never reentrant here.
        :param options: of the backbones' own method.
        """
        how = {**(activation_checkpointing_kwargs or {}), "use_reentrant": False}
        for backbone in (self.reranker.backbone, *(() if self.recompute else (self.encoder.backbone,))):
            if hasattr(backbone, "activation_checkpointing_enable"):
                backbone.activation_checkpointing_enable(activation_checkpointing_kwargs=how, **options)
            else:  # older releases
                backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs=how)

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict[str, Any] | None = None) -> None:
        """
        The name that older trainers call.

        :param gradient_checkpointing_kwargs: as `activation_checkpointing_enable`.
        """
        self.activation_checkpointing_enable(gradient_checkpointing_kwargs)

    def encode(self, batch: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Vectors of a step.

        :param batch: as `Collator` makes it.
        :returns: (lists, d) query vectors and (passages, d) passage vectors, float32, unit length.
        """
        if "passage_vectors" in batch:
            return batch["query_vectors"], batch["passage_vectors"]
        # With ZeRO-3 all processes fetch the weights of each pass together: all make as many passes.
        ids, mask = batch["chunks"][0]
        missing = most_of_all(len(batch["chunks"]), ids.device) - len(batch["chunks"])
        queries = self.encoder(batch["query_ids"], batch["query_mask"])
        passages = torch.cat([self._encode_chunk(*chunk) for chunk in batch["chunks"]])[batch["order"]]
        for _ in range(missing):
            passages = passages + 0.0 * self._encode_chunk(ids[:1], mask[:1]).sum()
        return queries, passages

    def score(
        self, prompts: Sequence[Prompt], queries: torch.Tensor, passages: torch.Tensor, batch: Mapping[str, Any]
    ) -> torch.Tensor:
        """
        Rerank each list.

        :param prompts: one a list.
        :param queries: (lists, d) query vectors.
        :param passages: (passages, d) passage vectors of the step.
        :param batch: with `index`, `mask`, `features` and `shown`.
        :returns: (lists, candidates) float32 scores; undefined where the mask is false.
        """
        lists = []
        for row, query in enumerate(queries):
            mask = batch["mask"][row]
            own = passages[batch["index"][row][mask]]
            mined = batch["features"][row][mask]
            # Autocast would give cosines of three digits, which tie candidates.
            with torch.autocast(query.device.type, enabled=False):
                known = _current(query, own, mined)
                prior = self.head.prior(query, own, known)
            hidden = torch.isnan(batch["shown"][row][mask]) & ~torch.isnan(mined)
            told = torch.where(hidden, torch.nan, known)
            lists.append(ListTensors(query, own, told, prior, (~torch.isnan(known)).any()))
        return score_lists(self.reranker, self.head, prompts, lists)

    def _encode_chunk(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.recompute and torch.is_grad_enabled():
            found: torch.Tensor = checkpoint(self.encoder, ids, mask, use_reentrant=False)
            return found
        return self.encoder(ids, mask)

    def _contrast(
        self, queries: torch.Tensor, passages: torch.Tensor, keys: torch.Tensor, positive_keys: torch.Tensor
    ) -> torch.Tensor:
        every, all_keys = gather_rows(passages.float()), gather_rows(keys)
        positives = (all_keys[None, :, None] == positive_keys[:, None, :]).any(dim=-1)
        # A passage that several processes have counts once: where it comes first.
        again = torch.tril(all_keys[:, None] == all_keys[None, :], diagonal=-1).any(dim=-1)
        return info_nce(
            queries.float() @ every.T,
            positives & ~again,
            again.expand_as(positives),
            temperature=self.objective.temperatures.get("info_nce", _INFO_NCE_TEMPERATURE),
        )

    def _ranking(self, scores: torch.Tensor, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        mask, ranks = batch["mask"], batch["ranks"]
        losses = {}
        for name in self.objective.weights:
            temperature = self.objective.temperatures.get(name, _TEMPERATURES[self.head.mode])
            if name == "rank_net":
                weights = self.objective.pair_weights
                losses[name] = rank_net(scores, ranks, mask, temperature=temperature, weights=weights)
            elif name == "list_mle":
                losses[name] = list_mle(scores, ranks, mask, temperature=temperature)
            elif name == "list_softmax":
                losses[name] = list_softmax(scores, batch["grades"], mask, temperature=temperature)
        return losses


def _current(query: torch.Tensor, passages: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Evidence with the cosines that the encoder gives now, detached; ranks stay those of the encoder that mined."""
    cosine = (passages @ query).detach()
    now = features.clone()
    now[:, _DENSE] = torch.where(torch.isnan(features[:, _DENSE]), torch.nan, cosine)
    return complete_features(query, passages, now)
