# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from resrank_evals.statistics import compare, holm, interval, randomisation_test


def test_interval_agrees_with_scipys_bootstrap():
    values = np.random.default_rng(3).normal(0.5, 0.2, 200)
    expected = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=10_000, rng=1).confidence_interval
    assert interval(list(values)) == pytest.approx((expected.low, expected.high), abs=0.002)


def test_interval_covers_the_mean_about_as_often_as_it_says():
    random = np.random.default_rng(5)
    inside = 0
    for _ in range(300):
        low, high = interval(list(random.normal(0.0, 1.0, 60)), samples=1_000)
        inside += low <= 0 <= high
    assert 0.90 <= inside / 300 <= 0.98


def test_of_equal_values_the_interval_is_a_point():
    assert interval([0.25] * 7) == (0.25, 0.25)


def test_the_randomisation_test_agrees_with_all_sign_assignments():
    differences = [0.3, -0.1, 0.2, 0.05, 0.4, -0.02, 0.1, 0.15]
    observed = abs(sum(differences))
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((1, -1), repeat=len(differences))]
    exact = np.mean([value >= observed - 1e-12 for value in sums])
    assert randomisation_test(differences, samples=200_000) == pytest.approx(exact, abs=0.003)


def test_no_difference_is_certainly_no_difference():
    assert randomisation_test([0.0] * 20) == 1.0


def test_p_values_are_uniform_when_systems_are_the_same():
    random = np.random.default_rng(9)
    values = [randomisation_test(list(random.normal(0, 1, 30)), samples=500, seed=n) for n in range(300)]
    assert stats.kstest(values, "uniform").pvalue > 0.01


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_compare():
    baseline = {f"q{n}": 0.4 for n in range(40)}
    better = {query: value + 0.1 + 0.01 * (n % 3) for n, (query, value) in enumerate(baseline.items())}
    found = compare({"better": better, "same": dict(baseline)}, baseline)
    assert found["better"].difference == pytest.approx(0.11, abs=0.001)
    assert found["better"].low < found["better"].difference < found["better"].high
    assert found["better"].p_value < 0.001
    assert found["better"].p_holm == pytest.approx(2 * found["better"].p_value)
    assert (found["better"].wins, found["better"].ties, found["better"].losses) == (40, 0, 0)
    assert (found["same"].p_value, found["same"].ties) == (1.0, 40)
    with pytest.raises(ValueError, match="system 'other' was measured on 1 queries, the baseline on 40 others"):
        compare({"other": {"q1": 1.0}}, baseline)


@pytest.mark.parametrize("values", [[], [float("nan")]])
def test_nothing_to_test(values):
    with pytest.raises(ValueError, match="at least one finite value a query"):
        interval(values)
    with pytest.raises(ValueError, match="at least one finite value a query"):
        randomisation_test(values)
