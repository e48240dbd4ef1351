# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
The training of E2Rank (arXiv 2510.22733): one model that embeds texts, and reranks by an enriched query.

| stage | losses |
|---|---|
| 1 | InfoNCE of plain queries |
| 2 | InfoNCE of plain queries + 2 * RankNet of the enriched query's cosines, in one step |

Published: the two stages and their losses, tau = 0.03 of InfoNCE with in-batch and list negatives, tau = 0.1 and the
weight of RankNet, on full orders by a teacher. Inferred: that a plain query ends with the end token as a passage does,
that all pairs of RankNet weigh the same, and that candidates are shuffled in the prompt, so that a relevant one that
was added at the end of a list does not stand out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from resrank.batching import token_budget_batches
from resrank.encoder import Encoder, pad
from resrank_evals.peers.e2rank import cut_texts, ended_ids, prompt_ids
from resrank_training.lists import ListSet
from resrank_training.losses import info_nce, rank_net

from .orders import Unjudged, kept_candidates, target_order, target_ranks

INFO_NCE_TEMPERATURE, RANK_NET_TEMPERATURE = 0.03, 0.1
RANK_NET_WEIGHT = 2.0


@dataclass(frozen=True)
class ListwiseExample:
    """
    A list to learn from.

    :param query: its text.
    :param texts: of its candidates, in the order of the prompt.
    :param ranks: a rank a candidate; smaller is better.
    :param positives: all texts that are relevant, candidates or not: never a negative.
    """

    query: str
    texts: tuple[str, ...]
    ranks: tuple[int, ...]
    positives: frozenset[str]


@dataclass(frozen=True)
class Lengths:
    """
    How much is read.

    :param passage: tokens of a text, in the prompt and embedded.
    :param query: tokens of a query, likewise.
    :param chunk: padded tokens in one forward pass.
    :param recompute: compute each chunk again in the backward pass instead of keeping its activations.
    """

    passage: int
    query: int
    chunk: int = 2_048
    recompute: bool = False


def listwise_examples(
    sets: Sequence[ListSet], *, candidates: int = 20, seed: int = 0, unjudged: Unjudged = "tied"
) -> list[ListwiseExample]:
    """
    Make examples of training lists; those without a positive or a teacher's order, or with one text, are left out.

    :param sets: of training lists.
    :param candidates: most passages of an example: the best one, the positives, then the pool's first ones.
    :param seed: of the shuffle.
    :param unjudged: what comes after the positives where there is no teacher.
    :returns: examples, in the order of the sets; a text once.
    """
    rng = np.random.default_rng(seed)
    examples = []
    for of in sets:
        for each in of.lists:
            relevant = each.positives if each.positives else target_order(each)[:1]
            texts = [of.passages[id_].content for id_ in each.passages]
            ranks = target_ranks(each, unjudged)
            best: dict[str, int] = {}  # of equal texts the better one
            for i in kept_candidates(each, candidates):
                best[texts[i]] = min(ranks[i], best.get(texts[i], ranks[i]))
            if not relevant or len(best) < 2:
                continue
            shown = list(best)
            order = [shown[i] for i in rng.permutation(len(shown))]
            positives = frozenset(texts[i] for i in relevant)
            examples.append(ListwiseExample(each.query, tuple(order), tuple(best[text] for text in order), positives))
    return examples


def embedding_losses(
    encoder: Encoder, examples: Sequence[ListwiseExample], lengths: Lengths
) -> dict[str, torch.Tensor]:
    """
    The loss of stage 1.

    :param encoder: gets gradients where it is not frozen.
    :param examples: of a step.
    :param lengths: how much is read.
    :returns: `info_nce`, a float32 scalar.
    """
    texts = _texts(examples)
    queries, passages = _encode(
        encoder, [_queries(encoder, examples, lengths), _passages(encoder, texts, lengths)], lengths
    )
    return {"info_nce": contrast(queries, passages, examples, texts)}


def multi_task_losses(
    encoder: Encoder, examples: Sequence[ListwiseExample], lengths: Lengths
) -> dict[str, torch.Tensor]:
    """
    The losses of stage 2, on the same passage vectors.

    :param encoder: gets gradients where it is not frozen.
    :param examples: of a step, of any lengths.
    :param lengths: how much is read.
    :returns: `info_nce` and `rank_net`, float32 scalars.
    """
    texts, tokenizer = _texts(examples), encoder.tokenizer
    prompts = []
    for example in examples:
        (query,), _ = cut_texts(tokenizer, [example.query], lengths.query)
        prompts.append(prompt_ids(tokenizer, query, cut_texts(tokenizer, example.texts, lengths.passage)[0]))
    ids = [_queries(encoder, examples, lengths), _passages(encoder, texts, lengths), prompts]
    queries, passages, enriched = _encode(encoder, ids, lengths)
    return {
        "info_nce": contrast(queries, passages, examples, texts),
        "rank_net": ranking(enriched, passages, examples, texts),
    }


def contrast(
    queries: torch.Tensor, passages: torch.Tensor, examples: Sequence[ListwiseExample], texts: Sequence[str]
) -> torch.Tensor:
    """
    InfoNCE of plain queries with all passages of the step.

    :param queries: (lists, d) float32 unit vectors.
    :param passages: (texts, d), likewise.
    :param examples: of the step.
    :param texts: of the passages, each once.
    :returns: float32 scalar.
    """
    positives = torch.tensor([[text in example.positives for text in texts] for example in examples])
    with torch.autocast(queries.device.type, enabled=False):
        similarities = queries @ passages.T
    return info_nce(similarities, positives.to(queries.device), temperature=INFO_NCE_TEMPERATURE)


def ranking(
    enriched: torch.Tensor, passages: torch.Tensor, examples: Sequence[ListwiseExample], texts: Sequence[str]
) -> torch.Tensor:
    """
    RankNet of the enriched queries' cosines with their own candidates.

    :param enriched: (lists, d) float32 unit vectors.
    :param passages: (texts, d), likewise.
    :param examples: of the step.
    :param texts: of the passages, each once.
    :returns: float32 scalar.
    """
    rows = {text: row for row, text in enumerate(texts)}
    longest = max(len(example.texts) for example in examples)
    index = torch.zeros(len(examples), longest, dtype=torch.int64)
    ranks, mask = torch.zeros_like(index), torch.zeros_like(index, dtype=torch.bool)
    for i, example in enumerate(examples):
        count = len(example.texts)
        index[i, :count] = torch.tensor([rows[text] for text in example.texts])
        ranks[i, :count] = torch.tensor(example.ranks)
        mask[i, :count] = True
    device = passages.device
    scores = (enriched.unsqueeze(1) * passages[index.to(device)]).sum(dim=-1)  # (lists, candidates)
    return rank_net(scores, ranks.to(device), mask.to(device), temperature=RANK_NET_TEMPERATURE)


def _texts(examples: Sequence[ListwiseExample]) -> list[str]:
    return list(dict.fromkeys(text for example in examples for text in example.texts))


def _queries(encoder: Encoder, examples: Sequence[ListwiseExample], lengths: Lengths) -> list[list[int]]:
    cut, _ = cut_texts(encoder.tokenizer, [example.query for example in examples], lengths.query)
    return ended_ids(encoder.tokenizer, [encoder.query_prompt + query for query in cut])


def _passages(encoder: Encoder, texts: Sequence[str], lengths: Lengths) -> list[list[int]]:
    return ended_ids(encoder.tokenizer, cut_texts(encoder.tokenizer, texts, lengths.passage)[0])


def _encode(encoder: Encoder, groups: Sequence[list[list[int]]], lengths: Lengths) -> list[torch.Tensor]:
    """Vectors of each group; inputs of like length share a pass, whatever group they are in."""
    ids = [each for group in groups for each in group]
    batches = list(token_budget_batches([len(tokens) for tokens in ids], lengths.chunk))
    vectors = []
    for batch in batches:
        padded = pad([ids[i] for i in batch], int(encoder.tokenizer.pad_token_id), encoder.device)
        if lengths.recompute and torch.is_grad_enabled():
            vectors.append(checkpoint(encoder, *padded, use_reentrant=False))
        else:
            vectors.append(encoder(*padded))
    order = torch.argsort(torch.tensor([i for batch in batches for i in batch])).to(encoder.device)
    return list(torch.cat(vectors)[order].split([len(group) for group in groups]))
