# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
The losses of PE-Rank's two training stages (Liu et al., arXiv 2406.14848; the authors' repository, liuqi6777/pe_rank).

Alignment: the language model writes out a passage, given its slot. Ranking, in three parts:

| loss | reads | each list counts |
|---|---|---|
| `rank` | the likelihood of a teacher's order: each step a softmax over the passages that are not ranked yet | once |
| `content` | the same when each passage's text follows its slot in the prompt | once |
| `kl` | how far the first distribution is from the second, in each step | once |

Known of the authors' code: the three parts, the direction of the divergence and its gradient into both sides. Inferred:
the wording of the prompts; the softmax of `kl` over the remaining passages only; means over steps instead of sums, in
all three parts; no weights by position, and hidden states of the length they have (versions of their code differ in
both).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from resrank.encoder import tokenize_counting
from resrank.evidence import Float32Array
from resrank_evals.peers.pe_rank_model import PERank
from resrank_training.losses import list_softmax

_IGNORED = -100
_WRITE_OUT = ("A passage as one embedding: [", "]\nThe same passage as text: ")


@dataclass(frozen=True)
class RankingExample:
    """
    A list to learn from.

    :param query: its text.
    :param vectors: (n, d) float32 unit vectors of its passages.
    :param texts: of its passages.
    :param order: indices of passages, best first; those that it leaves out rank below, in no order.
    """

    query: str
    vectors: Float32Array
    texts: tuple[str, ...]
    order: tuple[int, ...]


def alignment_loss(model: PERank, vectors: Any, texts: Sequence[str], max_passage_length: int = 128) -> torch.Tensor:
    """
    Next-token loss of passages' texts, each after its slot (stage 1).

    :param model: its projector gets a gradient, and its language model where that is not frozen.
    :param vectors: (n, d) array-like.
    :param texts: n texts.
    :param max_passage_length: tokens of each; the end token follows only those that are not cut.
    :returns: float32 scalar: the mean over all tokens, as language models are trained.
    """
    opening, closing = model.tokenizer(list(_WRITE_OUT), add_special_tokens=False)["input_ids"]
    contents, cut = tokenize_counting(model.tokenizer, texts, max_passage_length, add_special_tokens=False)
    targets = [ids if lost else [*ids, model.tokenizer.eos_token_id] for ids, lost in zip(contents, cut, strict=True)]
    slots = model.project(vectors).split(1)
    rows = model.inputs_of_several([[opening, [*closing, *ids[:-1]]] for ids in targets], slots)
    # The last token of the prompt predicts the first one of the text.
    hidden = model.hidden(rows)[:, len(opening) + len(closing) :]
    labels = torch.nn.utils.rnn.pad_sequence(list(map(torch.tensor, targets)), batch_first=True, padding_value=_IGNORED)
    labels = labels.to(model.device)
    real = labels != _IGNORED
    logits = model.token_logits(hidden[real])
    return torch.nn.functional.cross_entropy(logits.float(), labels[real])


def ranking_losses(
    model: PERank, examples: Sequence[RankingExample], max_passage_length: int = 128
) -> dict[str, torch.Tensor]:
    """
    The losses of stage 2.

    :param model: gets gradients where it is not frozen.
    :param examples: lists, of any lengths.
    :param max_passage_length: tokens of each text in the content prompt.
    :returns: `rank`, `content` and `kl`, float32 scalars; each list counts once.
    """
    slots = [model.project(example.vectors) for example in examples]
    scores = decoding_scores(model, examples, slots)
    informed = decoding_scores(model, examples, slots, max_passage_length)
    allowed, chosen = decoding_targets(examples, model.device)
    return {
        "rank": order_loss(scores, allowed, chosen),
        "content": order_loss(informed, allowed, chosen),
        "kl": step_divergence(scores, informed, allowed, chosen),
    }


def decoding_scores(
    model: PERank,
    examples: Sequence[RankingExample],
    slots: Sequence[torch.Tensor],
    content_length: int | None = None,
) -> torch.Tensor:
    """
    Logits of each decoding step when the target order is decoded (teacher forcing), in one pass.

    :param model: of the logits.
    :param examples: lists.
    :param slots: (n, hidden) float32 of each list.
    :param content_length: most tokens of a passage's text behind its slot; `None` puts no texts.
    :returns: (lists, steps, candidates) float32; 0 beyond a list's steps and candidates.
    """
    prompts = [
        model.prompt(
            example.query,
            len(example.texts),
            None if content_length is None else example.texts,
            content_length or 0,
        )
        for example in examples
    ]
    read = model.inputs_of_several(prompts, slots)
    firsts = [len(row) - 1 for row in read]
    hidden = model.hidden(
        [
            torch.cat([row, own[list(example.order[:-1])].to(row.dtype)])
            for row, own, example in zip(read, slots, examples, strict=True)
        ]
    )
    steps, candidates = max(len(e.order) for e in examples), max(map(len, slots))
    scores = []
    for example, own, states, first in zip(examples, slots, hidden, firsts, strict=True):
        found = model.scores(states[first : first + len(example.order)], own)
        padding = (0, candidates - found.shape[1], 0, steps - found.shape[0])
        scores.append(torch.nn.functional.pad(found, padding))
    return torch.stack(scores)


def decoding_targets(examples: Sequence[RankingExample], device: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
    """
    What each decoding step may choose, and what it should.

    :param examples: lists.
    :param device: of the result.
    :returns: two (lists, steps, candidates) bool tensors: the passages that are not ranked yet, and the next one. Steps
        with a single passage left, and padding, have no next one: nothing can be learnt there.
    """
    steps, candidates = max(len(e.order) for e in examples), max(len(e.texts) for e in examples)
    allowed = torch.zeros(len(examples), steps, candidates, dtype=torch.bool)
    chosen = torch.zeros_like(allowed)
    for row, example in enumerate(examples):
        for step, best in enumerate(example.order):
            allowed[row, step, : len(example.texts)] = True
            allowed[row, step, list(example.order[:step])] = False
            chosen[row, step, best] = allowed[row, step].sum() > 1
    return allowed.to(device), chosen.to(device)


def order_loss(scores: torch.Tensor, allowed: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """
    ListMLE over the decoded order: as `list_mle`, but with new scores in each step.

    :param scores: (lists, steps, candidates).
    :param allowed: likewise, bool.
    :param chosen: likewise, bool; at most one a step.
    :returns: float32 scalar: the mean over lists of the mean over steps.
    """
    per_list = [list_softmax(s, c.float(), a) for s, c, a in zip(scores, chosen, allowed, strict=True)]
    return torch.stack(per_list).mean()


def step_divergence(
    scores: torch.Tensor, informed: torch.Tensor, allowed: torch.Tensor, chosen: torch.Tensor
) -> torch.Tensor:
    """
    KL(informed || scores) of the constrained softmax in each step; both sides get a gradient.

    :param scores: (lists, steps, candidates), of prompts without texts.
    :param informed: likewise, of prompts with texts.
    :param allowed: likewise, bool.
    :param chosen: likewise, bool; steps without a choice are left out.
    :returns: float32 scalar: the mean over lists of the mean over steps.
    """
    floor = torch.finfo(torch.float32).min
    log_p, log_q = (each.float().masked_fill(~allowed, floor).log_softmax(dim=-1) for each in (informed, scores))
    # where, not a product: what is not allowed has the logarithm of nothing.
    terms = torch.where(allowed, log_p.exp() * (log_p - log_q), 0.0)
    counted = chosen.any(dim=-1)
    per_list = torch.where(counted, terms.sum(dim=-1), 0.0).sum(dim=-1) / counted.sum(dim=-1).clamp(min=1)
    return per_list.mean()
