# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Quality of a run, by trec_eval's own code and rules.

* Scores decide the order, not the order of lines; equal scores are ordered by passage id, descending, so that a system
  which cannot tell passages apart gets what chance gives.
* Every evaluated query counts: one without results is 0. Unjudged passages are not relevant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import ir_measures

from .collection import Qrels
from .trec import Run

DEFAULT_MEASURES = ("nDCG@10", "RR@10", "R@100", "AP", "P@1")


def parse_measures(names: Sequence[str]) -> list[Any]:
    """
    Understand measure names.

    :param names: as `ir_measures` writes them, e.g. `nDCG@10`, `AP(rel=2)`.
    :returns: its measures.
    :raises ValueError: for a name that it does not know, or a measure that trec_eval does not compute.
    """
    provider = ir_measures.providers.registry["pytrec_eval"]
    found = []
    for name in names:
        try:
            measure = ir_measures.parse_measure(name)
        except (NameError, ValueError, SyntaxError, TypeError, KeyError) as error:
            msg = f"unknown measure {name!r}: expected names like {', '.join(DEFAULT_MEASURES)}"
            raise ValueError(msg) from error
        if not provider.supports(_uncut(measure)):
            msg = f"trec_eval does not compute {name!r}: expected measures like {', '.join(DEFAULT_MEASURES)}"
            raise ValueError(msg)
        found.append(measure)
    return found


def evaluate(run: Run, qrels: Qrels, measures: Sequence[str] = DEFAULT_MEASURES) -> dict[str, dict[str, float]]:
    """
    Measure a run query by query.

    :param run: (passage id, score) pairs by query id; queries without qrels do not count.
    :param qrels: grades; every query in them counts.
    :param measures: their names.
    :returns: by query id (of the qrels), the value of each measure by its name.
    :raises ValueError: for unknown measures, passages that occur twice in a query, or scores that are not finite.
    """
    parsed = parse_measures(measures)
    scores = {}
    for query_id, hits in run.items():
        if query_id not in qrels:
            continue
        scores[query_id] = dict(hits)
        if len(scores[query_id]) != len(hits):
            msg = f"query {query_id!r} has a passage more than once"
            raise ValueError(msg)
        if not all(map(math.isfinite, scores[query_id].values())):
            msg = f"query {query_id!r} has a score that is not finite"
            raise ValueError(msg)
    values = {query_id: dict.fromkeys(measures, 0.0) for query_id in qrels}
    names: dict[Any, list[tuple[str, int | None]]] = {}
    for name, measure in zip(measures, parsed, strict=True):
        names.setdefault(_uncut(measure), []).append((name, _rr_cutoff(measure)))
    judged = {query_id: dict(grades) for query_id, grades in qrels.items() if grades}
    for value in ir_measures.pytrec_eval.iter_calc(list(names), judged, scores):
        for name, cutoff in names[value.measure]:
            # The reciprocal rank of a passage below the cutoff does not count.
            below = cutoff is not None and value.value < 1 / (cutoff + 0.5)
            values[value.query_id][name] = 0.0 if below else float(value.value)
    return values


def mean(per_query: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """
    Means over queries.

    :param per_query: as `evaluate` gives them.
    :returns: by measure name.
    :raises ValueError: without queries.
    """
    if not per_query:
        msg = "there is no query to measure: the qrels are empty"
        raise ValueError(msg)
    names = next(iter(per_query.values()))
    return {name: math.fsum(values[name] for values in per_query.values()) / len(per_query) for name in names}


def ceiling(run: Run, qrels: Qrels, measures: Sequence[str] = DEFAULT_MEASURES) -> dict[str, float]:
    """
    What a perfect ranking of the same candidates would reach.

    :param run: the pool.
    :param qrels: grades.
    :param measures: their names.
    :returns: means by measure name.
    """
    perfect: Run = {}
    for query_id, hits in run.items():
        grades = qrels.get(query_id, {})
        perfect[query_id] = [(passage_id, float(grades.get(passage_id, 0))) for passage_id, _ in hits]
    return mean(evaluate(perfect, qrels, measures))


def _uncut(measure: Any) -> Any:
    """The measure that trec_eval computes: it knows the reciprocal rank without cutoff only."""
    if measure.NAME != "RR":
        return measure
    parameters = {name: value for name, value in measure.params.items() if name != "cutoff"}
    return ir_measures.RR(**parameters) if parameters else ir_measures.RR


def _rr_cutoff(measure: Any) -> int | None:
    return int(measure.params["cutoff"]) if measure.NAME == "RR" and "cutoff" in measure.params else None
