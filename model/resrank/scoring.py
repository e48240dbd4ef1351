# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""One forward pass over a batch of candidate lists: the same for serving and training."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .candidates import ListTensors
from .head import Head
from .reranker import Prompt, Reranker


def score_lists(
    reranker: Reranker, head: Head, prompts: Sequence[Prompt], lists: Sequence[ListTensors]
) -> torch.Tensor:
    """
    Score the candidates of each query; lists share the pass but never see each other. Differentiable.

    :param reranker: of the model.
    :param head: of the model.
    :param prompts: one a list.
    :param lists: their candidates.
    :returns: (lists, most candidates) float32; beyond a list's candidates undefined.
    """

    def stack(rows: list[torch.Tensor]) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)

    passages, features = stack([of.passages for of in lists]), stack([of.features for of in lists])
    counts = [len(of.passages) for of in lists]
    query_hidden, passage_hidden = reranker(prompts, head.slots(passages, features), counts)
    return head.scores(
        torch.stack([of.query for of in lists]),
        passages,
        stack([of.prior for of in lists]),
        query_hidden,
        passage_hidden,
        share=head.share(torch.stack([of.has_evidence for of in lists])),
    )
