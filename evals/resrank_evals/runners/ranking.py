# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from haystack import Document

from resrank_evals.collection import Collection
from resrank_evals.trec import Run

Told = Callable[[int, int], None]
Lists = Iterator[tuple[str, str, list[Document]]]


@dataclass(frozen=True)
class Ranking:
    """
    What a system gave, and what it cost.

    :param run: (passage id, score) by query id.
    :param latency_ms: stage name to the time of each query.
    :param tokens: kind to tokens processed, all queries together.
    :param generated_tokens: all queries together; `None` when not known.
    :param environment: what differs from the run's, e.g. the dtype of another model.
    """

    run: Run
    latency_ms: dict[str, list[float]] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    generated_tokens: int | None = None
    environment: dict[str, Any] = field(default_factory=dict)


def runs_as(module: Any) -> dict[str, Any]:
    """
    How another model than the run's runs.

    :param module: a torch module.
    :returns: its dtype and attention, for the environment of the result.
    """
    dtype = next(module.parameters()).dtype
    attention = getattr(getattr(module, "config", None), "_attn_implementation", None)
    return {"dtype": str(dtype).removeprefix("torch."), "attn_implementation": attention}


def followed_by(ranked: list[tuple[str, float]], rest: Sequence[Document]) -> list[tuple[str, float]]:
    """
    Put candidates that a system did not read behind those that it ranked.

    :param ranked: (passage id, score).
    :param rest: in the order that they keep.
    :returns: all; the others' scores go down by 1 from the lowest.
    """
    lowest = min((score for _, score in ranked), default=0.0)
    return [*ranked, *((document.id, lowest - place) for place, document in enumerate(rest, start=1))]


def check_ids(run: Run, collection: Collection, where: str) -> None:
    """
    Refuse results that are no passages of the collection.

    :param run: to be checked.
    :param collection: without passages nothing is refused.
    :param where: it came from.
    :raises ValueError: with how many there are, and one of them.
    """
    if not collection.passages:
        return
    unknown = [(query, id_) for query, hits in run.items() for id_, _ in hits if id_ not in collection.passages]
    if unknown:
        query, id_ = unknown[0]
        msg = (
            f"{where}: {len(unknown)} results are no passages of {collection.name} (query {query!r}, passage {id_!r}): "
            f"expected ids like {next(iter(collection.passages))!r}"
        )
        raise ValueError(msg)
