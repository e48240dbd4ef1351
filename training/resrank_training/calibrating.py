# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Weights of the first stage's scores and of matching words, learnt before anything else: a convex problem."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from resrank.evidence import FEATURES, MATCH_COLUMNS
from resrank.head import Head
from resrank.matching import MATCHES

from .lists import TrainingList
from .losses import list_softmax

_DENSE, _RRF = FEATURES.index("dense_score"), FEATURES.index("rrf_score")
_RIDGE = 4e-4  # where two weights do the same, neither grows without bound
_ITERATIONS = 100


def calibrate(head: Head, lists: Sequence[TrainingList], match_share: float = 1.0) -> str:
    """
    Set the weights of the prior by softmax regression.

    It then is the weighted sum of BM25 score, cosine and matches that gives the relevant candidates of the lists the
    highest probability. Scores are those of the encoder that the lists were mined with. Log RRF gets no weight: it says
    nothing that the scores do not, and what weight it is given is lost on other collections (docs/LOG.md).

    :param head: in evidence mode; its prior is changed.
    :param lists: those without evidence or judgments are left out.
    :param match_share: how far to go from the best weights without matches to the best weights with them. Where texts
        are all that is known it is all the way.
    :returns: what was found, in words.
    """
    usable = [each for each in lists if each.evidence is not None and each.positives]
    if not usable:
        return "no list has evidence and judgments: the prior stays RRF's"
    features = _padded([np.asarray(each.evidence, dtype=np.float32) for each in usable], float("nan"))
    grades = _padded([np.array([max(0, grade or 0) for grade in each.grades], dtype=np.float32) for each in usable], 0)
    mask = _padded([np.ones(len(each.passages), dtype=bool) for each in usable], False)
    cosine, rrf = (torch.nan_to_num(features[..., column]) for column in (_DENSE, _RRF))
    with torch.no_grad():
        head.prior_scale.zero_()
    without = features.clone()
    without[..., MATCH_COLUMNS] = 0.0
    _regress(head.prior_weights, lambda: head.fused(rrf, without, cosine), grades, mask)
    start = head.prior_weights.detach().clone()
    _regress(head.prior_weights, lambda: head.fused(rrf, features, cosine), grades, mask)
    with torch.no_grad():
        head.prior_weights.copy_(start.lerp(head.prior_weights, match_share))
    _regress(head.text_weights, lambda: head.of_texts(features[..., MATCH_COLUMNS], cosine), grades, mask)
    first = _sum(("BM25", "cosine", *MATCHES), head.prior_weights.tolist())
    texts = _sum(("cosine", *MATCHES), head.text_weights.tolist())
    return f"the prior is {first}; without a first stage {texts}; from {len(usable):,} lists"


def _regress(
    weights: torch.nn.Parameter, scores: Callable[[], torch.Tensor], grades: torch.Tensor, mask: torch.Tensor
) -> None:
    optimizer = torch.optim.LBFGS([weights], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = list_softmax(scores(), grades, mask) + _RIDGE * weights.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    optimizer.zero_grad(set_to_none=True)


def _sum(names: Sequence[str], weights: Sequence[float]) -> str:
    return " + ".join(f"{weight:.2f} {name}" for name, weight in zip(names, weights, strict=True))


def _padded(rows: Sequence[np.ndarray[Any, Any]], value: float) -> torch.Tensor:
    return pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True, padding_value=value)
