# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Where points, lines, labels and grid lines of the charts go. The template draws them.

Quality against latency is a scatter plot, answers against the size of the context are lines.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

WIDTH = 760
HEIGHT = 440
LEFT, RIGHT, TOP, BOTTOM = 58, 24, 18, 50
FONT = 13
_CHARACTER = 7.1  # widest usual mean of a character at this size, in the fonts of common systems
_LINE = 16
_GAP = 10  # between a point and its label
_NUDGES = 3  # lines that a name may go up or down; further away it is hard to tell whose it is
_NUMBER_NUDGES = 16  # the same of a number
_LONGEST = 44  # characters of a label; the whole name is in the point's title and in the table
_LABELS = 250  # width for the names of lines, at their right ends
_LONGEST_OF_LINE = 34
_MOST_LINES = 20  # names one above the other


@dataclass(frozen=True)
class Spot:
    """
    What is to be drawn.

    :param name: of the system.
    :param x: median total time a query in milliseconds, above 0.
    :param y: quality.
    :param other: whether it was measured in another environment than most.
    """

    name: str
    x: float
    y: float
    other: bool = False


@dataclass(frozen=True)
class Point:
    """
    A drawn point; coordinates are those of the SVG.

    :param spot: what it stands for.
    :param x: centre.
    :param y: centre.
    :param front: whether no other system is both faster and better.
    :param label: its text.
    :param label_x: where the text starts or ends.
    :param label_y: its base line.
    :param anchor: `start` or `end`.
    :param leader: whether a line leads from the point to the label.
    """

    spot: Spot
    x: float
    y: float
    front: bool
    label: str
    label_x: float
    label_y: float
    anchor: str
    leader: bool


@dataclass(frozen=True)
class Scatter:
    """
    A scatter plot.

    :param points: in the order of drawing.
    :param numbered: whether labels are numbers, from 1 in the order of the spots, because names would overlap.
    :param x_ticks: coordinate and text.
    :param y_ticks: coordinate and text.
    :param width: of the SVG.
    :param height: of the SVG.
    :param left: of the plot within it; likewise `right`, `top` and `bottom`.
    :param right: see `left`.
    :param top: see `left`.
    :param bottom: see `left`.
    """

    points: list[Point]
    numbered: bool
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True)
class Series:
    """
    What is to be drawn as a line.

    :param name: of the system.
    :param values: quality by budget in tokens.
    :param bound: whether it is no competitor.
    """

    name: str
    values: dict[int, float]
    bound: bool = False


@dataclass(frozen=True)
class Line:
    """
    A drawn line; coordinates are those of the SVG.

    :param series: what it stands for.
    :param points: centres, from left to right.
    :param label: its text, at the right.
    :param label_x: where the text starts.
    :param label_y: its base line.
    """

    series: Series
    points: list[tuple[float, float]]
    label: str
    label_x: float
    label_y: float


@dataclass(frozen=True)
class Lines:
    """
    A chart of lines.

    :param lines: in the order of drawing.
    :param left_out: series that there was no room for.
    :param x_ticks: coordinate and text.
    :param y_ticks: coordinate and text.
    :param width: of the SVG.
    :param height: of the SVG.
    :param left: of the plot within it; likewise `right`, `top` and `bottom`.
    :param right: see `left`.
    :param top: see `left`.
    :param bottom: see `left`.
    """

    lines: list[Line]
    left_out: list[Series]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - _LABELS
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclass
class _Taken:
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)

    def free(self, box: tuple[float, float, float, float]) -> bool:
        left, top, right, bottom = box
        return all(
            right <= other[0] or left >= other[2] or bottom <= other[1] or top >= other[3] for other in self.boxes
        )


def scatter(spots: Sequence[Spot]) -> Scatter:
    """
    Lay out a scatter plot with a logarithmic x axis.

    :param spots: what is to be drawn; at least one.
    :returns: the plot. Labels are names, or numbers when names would overlap each other or a point.
    """
    low, high = _decades([spot.x for spot in spots])
    bottom, top, step = _linear([spot.y for spot in spots])

    def place_x(value: float) -> float:
        return LEFT + (math.log10(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    x_ticks = [(place_x(value), _plain(value)) for value in _log_ticks(low, high)]
    y_ticks = _y_ticks(bottom, top, step)
    centres = [(place_x(spot.x), _place_y(spot.y, bottom, top)) for spot in spots]
    points = _labelled(spots, centres, [_short(spot.name) for spot in spots], all_fit=True)
    numbered = points is None
    if points is None:
        points = _labelled(spots, centres, [str(number) for number in range(1, len(spots) + 1)], all_fit=False)
    return Scatter(points or [], numbered, x_ticks, y_ticks)


def _labelled(
    spots: Sequence[Spot], centres: Sequence[tuple[float, float]], labels: Sequence[str], *, all_fit: bool
) -> list[Point] | None:
    """`None` when a label finds no room and all are to fit; else it is drawn at its point all the same."""
    taken = _Taken([(x - 6, y - 6, x + 6, y + 6) for x, y in centres])
    points = []
    for index in sorted(range(len(spots)), key=lambda i: (centres[i][1], centres[i][0])):
        spot, label, (x, y) = spots[index], labels[index], centres[index]
        width = len(label) * _CHARACTER + 4
        places = list(_candidates(x, y, width, _NUDGES if all_fit else _NUMBER_NUDGES))
        boxes = [(start, middle - _LINE / 2, start + width, middle + _LINE / 2) for _, start, middle in places]
        chosen = next((i for i, box in enumerate(boxes) if taken.free(box)), None)
        if chosen is None and all_fit:
            return None
        anchor, start, middle = places[chosen or 0]
        taken.boxes.append(boxes[chosen or 0])
        front = not any(
            other.x <= spot.x and other.y >= spot.y and (other.x, other.y) != (spot.x, spot.y) for other in spots
        )
        label_x = start if anchor == "start" else start + width
        leader = abs(middle - y) > _LINE * 0.75
        points.append(Point(spot, x, y, front, label, label_x, middle + 4.5, anchor, leader))
    return points


def lines(series: Sequence[Series]) -> Lines:
    """
    Lay out lines over budgets of tokens, on a logarithmic x axis, each with its name at its right end.

    :param series: what is to be drawn, in the order of importance; at least one, each with the same budgets.
    :returns: the chart. A bound that is 0 everywhere is left out: it would press all others together.
    """
    drawn = [each for each in series if not each.bound or any(each.values.values())][:_MOST_LINES] or list(series[:1])
    budgets = sorted(drawn[0].values)
    low, high = math.log2(budgets[0]), math.log2(budgets[-1])
    right = WIDTH - _LABELS
    bottom, top, step = _linear([value for each in drawn for value in each.values.values()])
    bottom = max(0.0, bottom)

    def place_x(budget: int) -> float:
        share = (math.log2(budget) - low) / (high - low) if high > low else 0.5
        return LEFT + 16 + share * (right - LEFT - 32)

    paths = [[(place_x(b), _place_y(each.values[b], bottom, top)) for b in budgets] for each in drawn]
    middles = _spread([path[-1][1] for path in paths])
    found = [
        Line(each, path, _short(each.name, _LONGEST_OF_LINE), right + 8.0, middle + 4.5)
        for each, path, middle in zip(drawn, paths, middles, strict=True)
    ]
    x_ticks = [(place_x(budget), f"{budget:,}") for budget in budgets]
    return Lines(found, [each for each in series if each not in drawn], x_ticks, _y_ticks(bottom, top, step))


def _spread(heights: Sequence[float]) -> list[float]:
    """As near to the heights as possible, in their order, a line of text apart, within the plot."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed = [0.0] * len(heights)
    lowest = TOP + _LINE / 2
    for i in order:
        placed[i] = lowest = max(heights[i], lowest)
        lowest += _LINE
    highest = HEIGHT - BOTTOM - _LINE / 2
    for i in reversed(order):
        placed[i] = highest = min(placed[i], highest)
        highest -= _LINE
    return placed


def _place_y(value: float, bottom: float, top: float) -> float:
    return HEIGHT - BOTTOM - (value - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM)


def _y_ticks(bottom: float, top: float, step: float) -> list[tuple[float, str]]:
    count = round((top - bottom) / step)
    digits = max(2, math.ceil(-math.log10(step) - 1e-9))
    return [(_place_y(bottom + i * step, bottom, top), f"{bottom + i * step:.{digits}f}") for i in range(count + 1)]


def _short(name: str, longest: int = _LONGEST) -> str:
    name = " ".join(name.split())
    return name if len(name) <= longest else name[: longest - 1] + "…"


def _candidates(x: float, y: float, width: float, nudges: int) -> Iterable[tuple[str, float, float]]:
    """Right of the point, then left of it, then the same ever further up and down, within the plot."""
    sides = [("start", x + _GAP), ("end", x - _GAP - width)]
    inside = [(anchor, start) for anchor, start in sides if start >= LEFT + 2 and start + width <= WIDTH - 2]
    inside = inside or [("start", max(LEFT + 2, min(x + _GAP, WIDTH - 2 - width)))]
    for nudge in range(nudges + 1):
        for offset in dict.fromkeys((-nudge * _LINE, nudge * _LINE)):
            middle = y + offset
            if TOP - 8 <= middle - _LINE / 2 and middle + _LINE / 2 <= HEIGHT - BOTTOM:
                for anchor, start in inside:
                    yield anchor, start, middle
    anchor, start = inside[0]
    yield anchor, start, y


def _decades(values: Sequence[float]) -> tuple[float, float]:
    low, high = math.log10(min(values)), math.log10(max(values))
    if high - low < 0.5:
        middle = (low + high) / 2
        low, high = middle - 0.25, middle + 0.25
    margin = (high - low) * 0.08
    return low - margin, high + margin


def _log_ticks(low: float, high: float) -> list[float]:
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        powers = range(math.floor(low), math.ceil(high) + 1)
        ticks = [digit * 10.0**power for power in powers for digit in digits]
        ticks = [tick for tick in ticks if low <= math.log10(tick) <= high]
        if len(ticks) >= 3:
            return ticks
    return ticks


def _linear(values: Sequence[float]) -> tuple[float, float, float]:
    low, high = min(values), max(values)
    span = max(high - low, 0.02)
    step = 10.0 ** math.floor(math.log10(span))
    step *= next(factor for factor in (0.1, 0.2, 0.5, 1.0, 2.0) if span / (step * factor) <= 6)
    bottom = math.floor((low - span * 0.05) / step) * step
    top = math.ceil((high + span * 0.05) / step) * step
    return bottom, max(top, bottom + step), step


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"
