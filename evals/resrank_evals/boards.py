# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
One measure, systems by collections: what the report and the terminal tables show.

Values are comparable only on the same queries. A collection's queries are those of the baseline there, else those that
most systems share; a system measured on others keeps its value, but is not compared, ranked or averaged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .results import SystemResult
from .statistics import SAMPLES, Comparison, compare, interval

DEFAULT_MEASURE = "nDCG@10"
DEFAULT_BASELINE = "bm25"
LEVEL = 0.05  # of a Holm-corrected p-value
_SAME = 1e-9  # values nearer than this share the first place


@dataclass(frozen=True)
class Cell:
    """
    One system on one collection.

    :param value: mean over queries.
    :param low: lower end of its 95 % interval.
    :param high: upper end.
    :param queries: how many queries it is the mean of.
    :param best: whether no system is better on the collection.
    :param comparable: whether it was measured on the collection's queries.
    :param comparison: with the baseline; `None` for the baseline, without it, and on other queries.
    """

    value: float
    low: float
    high: float
    queries: int
    best: bool
    comparable: bool
    comparison: Comparison | None

    @property
    def significant(self) -> int:
        """
        Whether the difference to the baseline is significant.

        :returns: 1 for better, -1 for worse, 0 for neither.
        """
        if self.comparison is None or self.comparison.p_holm >= LEVEL:
            return 0
        return 1 if self.comparison.difference > 0 else -1


@dataclass(frozen=True)
class Board:
    """
    Systems by collections.

    :param measure: e.g. `nDCG@10`.
    :param baseline: the system that others are compared with.
    :param collections: names, sorted.
    :param systems: names: those with a mean first, best first, then the others by name.
    :param cells: by system and collection; missing where the system was not measured.
    :param means: macro average by system; `None` for a system that is not comparable on every collection.
    :param samples: of the bootstrap.
    :param tested: whether differences were tested.
    :param bounds: systems that are no competitors: they have values, but are neither ranked nor compared.
    """

    measure: str
    baseline: str
    collections: list[str]
    systems: list[str]
    cells: dict[tuple[str, str], Cell]
    means: dict[str, float | None]
    samples: int
    tested: bool
    bounds: frozenset[str] = frozenset()

    @property
    def best_means(self) -> set[str]:
        """
        The first of the macro average.

        :returns: systems, more than one when they are equal; none when no system has a mean.
        """
        return _best({system: mean for system, mean in self.means.items() if system not in self.bounds})

    def absent(self, system: str) -> list[str]:
        """
        What keeps a system from having a mean.

        :param system: its name.
        :returns: collections without a comparable value.
        """
        cells = ((name, self.cells.get((system, name))) for name in self.collections)
        return [name for name, cell in cells if cell is None or not cell.comparable]


def measures_of(results: Sequence[SystemResult]) -> list[str]:
    """
    Every measure of the results.

    :param results: any.
    :returns: names in the order of the results.
    """
    return list(dict.fromkeys(measure for result in results for measure in result.means))


def check_measure(results: Sequence[SystemResult], measure: str) -> str:
    """
    Refuse a measure that no result has.

    :param results: any.
    :param measure: the name.
    :returns: the name.
    :raises ValueError: listing the measures that exist.
    """
    known = measures_of(results)
    if measure not in known:
        msg = f"no result has the measure {measure!r}; there is {', '.join(known)}"
        raise ValueError(msg)
    return measure


def check_baseline(results: Sequence[SystemResult], baseline: str | None, bounds: frozenset[str] = frozenset()) -> str:
    """
    Choose the baseline, or refuse one that does not exist.

    :param results: at least one.
    :param baseline: the name; `None` for `bm25`, or the first system by name when there is no `bm25`.
    :param bounds: systems that cannot be the baseline.
    :returns: the name.
    :raises ValueError: listing the systems that exist.
    """
    known = sorted({result.system for result in results} - bounds)
    if not known:
        msg = "there are no results to compare"
        raise ValueError(msg)
    if baseline is None:
        return DEFAULT_BASELINE if DEFAULT_BASELINE in known else known[0]
    if baseline not in known:
        msg = f"no result is of the system {baseline!r}, which is to be the baseline; there is {', '.join(known)}"
        raise ValueError(msg)
    return baseline


def make_board(
    results: Sequence[SystemResult],
    *,
    measure: str = DEFAULT_MEASURE,
    baseline: str | None = None,
    samples: int = SAMPLES,
    tested: bool = True,
    bounds: frozenset[str] = frozenset(),
) -> Board:
    """
    Put results of one measure side by side.

    :param results: of any systems and collections.
    :param measure: one that is in `means` of some result.
    :param baseline: a system; `None` for `bm25`, or the first one by name.
    :param samples: of the bootstrap intervals of the values.
    :param tested: whether to compare with the baseline.
    :param bounds: systems that are neither ranked nor compared.
    :returns: the board.
    :raises ValueError: for an unknown measure or baseline, listing those that exist.
    """
    check_measure(results, measure)
    baseline = check_baseline(results, baseline, bounds)
    names = {result.system for result in results}
    collections = sorted({result.collection for result in results})
    cells: dict[tuple[str, str], Cell] = {}
    for collection in collections:
        values = query_values(results, collection, measure)
        for system, cell in _column(values, baseline, samples, tested, bounds).items():
            cells[system, collection] = cell
    means: dict[str, float | None] = {}
    for system in names:
        row = [cells.get((system, collection)) for collection in collections]
        known = [cell.value for cell in row if cell is not None and cell.comparable]
        means[system] = sum(known) / len(known) if len(known) == len(collections) else None

    def order(system: str) -> tuple[bool, float, str]:
        mean = means[system]
        return mean is None, -(mean or 0.0), system

    return Board(measure, baseline, collections, sorted(names, key=order), cells, means, samples, tested, bounds)


def query_values(results: Sequence[SystemResult], collection: str, measure: str) -> dict[str, dict[str, float]]:
    """
    Values of one measure on one collection.

    :param results: any.
    :param collection: its name.
    :param measure: its name.
    :returns: value by query id, by system; systems without the measure are left out.
    """
    return {
        result.system: {query: values[measure] for query, values in result.per_query.items()}
        for result in results
        if result.collection == collection
        and measure in result.means
        and result.per_query
        and all(measure in values for values in result.per_query.values())
    }


def reference_queries(values: Mapping[str, Mapping[str, float]], baseline: str) -> frozenset[str]:
    """
    The queries on which a collection's systems are compared.

    :param values: value by query id, by system.
    :param baseline: the system that others are compared with.
    :returns: the baseline's, else those that most systems share; empty without systems.
    """
    if baseline in values:
        return frozenset(values[baseline])
    shared = Counter(frozenset(row) for row in values.values()).most_common(1)
    return shared[0][0] if shared else frozenset()


def _column(
    values: Mapping[str, Mapping[str, float]], baseline: str, samples: int, tested: bool, bounds: frozenset[str]
) -> dict[str, Cell]:
    queries = reference_queries(values, baseline)
    comparable = {system: row for system, row in values.items() if set(row) == queries}
    means = {system: sum(row.values()) / len(row) for system, row in values.items()}
    best = _best({system: means[system] for system in comparable if system not in bounds})
    others = {system: row for system, row in comparable.items() if system != baseline and system not in bounds}
    found = compare(others, values[baseline]) if tested and others and baseline in values else {}
    cells = {}
    for system, row in values.items():
        low, high = interval(list(row.values()), samples=samples)
        cells[system] = Cell(
            means[system], low, high, len(row), system in best, system in comparable, found.get(system)
        )
    return cells


def _best(means: Mapping[str, float | None]) -> set[str]:
    known = {system: mean for system, mean in means.items() if mean is not None}
    highest = max(known.values(), default=0.0)
    return {system for system, mean in known.items() if mean >= highest - _SAME}
