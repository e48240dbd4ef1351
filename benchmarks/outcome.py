# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What a benchmark gives back: figures for the JSON file, something to look at, and the bars it is held to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Bar:
    """
    A goal.

    :param name: what is compared.
    :param value: what was measured.
    :param relation: `>=` or `<=`.
    :param limit: the goal.
    """

    name: str
    value: float
    relation: Literal[">=", "<="]
    limit: float

    @property
    def met(self) -> bool:
        """
        Whether the goal is reached.

        :returns: true when it is.
        """
        return self.value >= self.limit if self.relation == ">=" else self.value <= self.limit

    def to_dict(self) -> dict[str, Any]:
        """
        For the report.

        :returns: plain values.
        """
        return {
            "name": self.name,
            "value": self.value,
            "relation": self.relation,
            "limit": self.limit,
            "met": self.met,
        }


@dataclass
class Outcome:
    """
    Results of one benchmark.

    :param title: what was measured, on what.
    :param sizes: the stated sizes.
    :param results: figures; plain values only.
    :param shown: rich renderables.
    :param bars: goals.
    :param notes: what a reader must know to read the figures right.
    """

    title: str
    sizes: dict[str, Any]
    results: dict[str, Any]
    shown: list[Any] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """
        For the report.

        :returns: plain values.
        """
        return {
            "title": self.title,
            "sizes": self.sizes,
            "results": self.results,
            "bars": [bar.to_dict() for bar in self.bars],
            "notes": self.notes,
        }
