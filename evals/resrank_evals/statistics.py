# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
How sure a difference is.

Queries are the sample: intervals come from the bootstrap over queries, p-values from the paired randomisation test
(Smucker, Allan and Carterette 2007), corrected for several comparisons by Holm's step-down procedure (1979).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Float64Array = np.ndarray[Any, np.dtype[np.float64]]

SAMPLES = 10_000
CONFIDENCE = 0.95
_CHUNK = 4_000_000  # random numbers drawn at once: 32 MB


@dataclass(frozen=True)
class Comparison:
    """
    One system against a baseline on the same queries.

    :param difference: mean of system minus baseline.
    :param low: lower end of its paired bootstrap interval.
    :param high: upper end.
    :param p_value: two-sided, of the paired randomisation test.
    :param p_holm: corrected for all comparisons made together.
    :param wins: queries where the system is better.
    :param losses: queries where it is worse.
    :param ties: queries where both are equal.
    """

    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float
    wins: int
    losses: int
    ties: int


def interval(values: Sequence[float], *, samples: int = SAMPLES, seed: int = 0) -> tuple[float, float]:
    """
    Percentile bootstrap interval of a mean, 95 %.

    :param values: one a query; of differences, the interval is a paired one.
    :param samples: bootstrap samples.
    :param seed: of the samples.
    :returns: lower and upper end.
    :raises ValueError: without values.
    """
    array = _checked(values)
    random = np.random.default_rng(seed)
    rows = max(1, _CHUNK // len(array))
    means = [
        array[random.integers(0, len(array), (min(rows, samples - start), len(array)))].mean(axis=1)
        for start in range(0, samples, rows)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def randomisation_test(differences: Sequence[float], *, samples: int = SAMPLES, seed: int = 0) -> float:
    """
    Two-sided p-value for "both systems are the same": how often random signs give a mean at least as far from 0.

    :param differences: system minus baseline, one a query.
    :param samples: random sign assignments; the observed one counts as one more.
    :param seed: of the signs.
    :returns: between 1 / (samples + 1) and 1.
    :raises ValueError: without values.
    """
    array = _checked(differences)
    observed = abs(array.sum()) * (1 - 1e-12)  # sums of the same numbers in another order differ by rounding
    random = np.random.default_rng(seed)
    rows = max(1, _CHUNK // len(array))
    extreme = 0
    for start in range(0, samples, rows):
        signs = random.integers(0, 2, (min(rows, samples - start), len(array)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ array) >= observed).sum())
    return (extreme + 1) / (samples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """
    Holm's correction.

    :param p_values: of all comparisons made together.
    :returns: corrected ones, in the same order.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for position, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - position) * p_values[index]))
        corrected[index] = highest
    return corrected


def compare(
    systems: Mapping[str, Mapping[str, float]], baseline: Mapping[str, float], *, seed: int = 0
) -> dict[str, Comparison]:
    """
    Compare systems with a baseline, query by query.

    :param systems: by name, the value of one measure by query id.
    :param baseline: the same of the baseline.
    :param seed: of the random tests.
    :returns: by name; p-values are corrected for all of them.
    :raises ValueError: when a system was measured on other queries.
    """
    queries = sorted(baseline)
    differences: dict[str, Float64Array] = {}
    for name, values in systems.items():
        if set(values) != set(queries):
            msg = f"system {name!r} was measured on {len(values)} queries, the baseline on {len(queries)} others"
            raise ValueError(msg)
        differences[name] = np.array([values[query] - baseline[query] for query in queries], dtype=np.float64)
    p_values = [randomisation_test(list(row), seed=seed) for row in differences.values()]
    found = {}
    for (name, row), p_value, p_holm in zip(differences.items(), p_values, holm(p_values), strict=True):
        low, high = interval(list(row), seed=seed)
        wins, losses = int((row > 0).sum()), int((row < 0).sum())
        found[name] = Comparison(
            float(row.mean()), low, high, p_value, p_holm, wins, losses, len(queries) - wins - losses
        )
    return found


def _checked(values: Sequence[float]) -> Float64Array:
    array: Float64Array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        msg = f"statistics need at least one finite value a query, got {len(array)} values"
        raise ValueError(msg)
    return array
