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

from resrank.evidence import FEATURES, FIRST_STAGE
from resrank.head import Head
from resrank.matching import MATCHES

from .lists import TrainingList
from .losses import list_softmax

_DENSE, _RRF = FEATURES.index("dense_score"), FEATURES.index("rrf_score")
_RIDGE = 4e-4  # where two weights do the same, neither grows without bound
_ITERATIONS = 100
_MATCHES = slice(len(FIRST_STAGE), None)


def calibrate(head: Head, lists: Sequence[TrainingList]) -> str:
    """
    Set the weights of the prior by softmax regression.

    It then is the weighted sum of log RRF, BM25 score, cosine and matches that gives the relevant candidates of the
    lists the highest probability. Scores are those of the encoder that the lists were mined with.

    :param head: in evidence mode; its prior is changed.
    :param lists: those without evidence or judgments are left out.
    :returns: what was found, in words.
    """
    usable = [each for each in lists if each.evidence is not None and each.positives]
    if not usable:
        return "no list has evidence and judgments: the prior stays RRF's"
    features = _padded([np.asarray(each.evidence, dtype=np.float32) for each in usable], float("nan"))
    grades = _padded([np.array([max(0, grade or 0) for grade in each.grades], dtype=np.float32) for each in usable], 0)
    mask = _padded([np.ones(len(each.passages), dtype=bool) for each in usable], False)
    cosine, rrf = (torch.nan_to_num(features[..., column]) for column in (_DENSE, _RRF))
    _regress([head.prior_scale, head.prior_weights], lambda: head.fused(rrf, features, cosine), grades, mask)
    _regress([head.text_weights], lambda: head.of_texts(features[..., _MATCHES], cosine), grades, mask)
    with torch.no_grad():
        head.prior_scale.clamp_(min=0)
    first = _sum(("log(RRF)", "BM25", "cosine", *MATCHES), [head.prior_scale.item(), *head.prior_weights.tolist()])
    texts = _sum(("cosine", *MATCHES), head.text_weights.tolist())
    return f"the prior is {first}; without a first stage {texts}; from {len(usable):,} lists"


def _regress(
    weights: list[torch.nn.Parameter], scores: Callable[[], torch.Tensor], grades: torch.Tensor, mask: torch.Tensor
) -> None:
    optimizer = torch.optim.LBFGS(weights, max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        penalty = _RIDGE * torch.stack([weight.square().sum() for weight in weights]).sum()
        value = list_softmax(scores(), grades, mask) + penalty
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    optimizer.zero_grad(set_to_none=True)


def _sum(names: Sequence[str], weights: Sequence[float]) -> str:
    return " + ".join(f"{weight:.2f} {name}" for name, weight in zip(names, weights, strict=True))


def _padded(rows: Sequence[np.ndarray[Any, Any]], value: float) -> torch.Tensor:
    return pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True, padding_value=value)
