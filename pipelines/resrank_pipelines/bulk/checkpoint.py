# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
How far an unfinished run came, in a file.

The store is what knows which passages it holds; the checkpoint only spares asking it about those that an interrupted
run had acknowledged. Where anything has changed since, or the store lacks them, it is not used. A run that ends leaves
none.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .batches import SHOWN_PROBLEMS, Batch, Problem, Tally
from .rows import Position

_FORMAT = 1
_SAMPLE = 20


@dataclass
class Checkpoint:
    """
    The acknowledged part of a corpus, from its first row on.

    :param position: the end of it.
    :param tally: counts of it.
    :param problems: the first ones in it.
    :param last: ids of some passages that were acknowledged last.
    """

    position: Position = field(default_factory=Position)
    tally: Tally = field(default_factory=Tally)
    problems: list[Problem] = field(default_factory=list)
    last: list[str] = field(default_factory=list)


class CheckpointFile:
    """
    Keeps the checkpoint of a run.

    :param path: of the file.
    :param conditions: plain values that must be the same for a checkpoint to count: files, fields, store, model.
    """

    def __init__(self, path: Path, conditions: dict[str, Any]) -> None:
        self._path = path
        self._conditions = json.loads(json.dumps(conditions))
        self._done: dict[int, Batch] = {}
        self._next = 0
        self.checkpoint = Checkpoint()

    def read(self) -> bool:
        """
        Read what an interrupted run left.

        :returns: whether there is a checkpoint and its conditions are those of this run.
        """
        # Not there, or damaged by a power failure: begin at the beginning, the store knows what it holds.
        with suppress(OSError, ValueError, TypeError, KeyError):
            values = json.loads(self._path.read_text(encoding="utf-8"))
            if values["format"] == _FORMAT and values["conditions"] == self._conditions:
                self.checkpoint = Checkpoint(
                    Position(**values["position"]),
                    Tally(**values["tally"]),
                    [Problem(**problem) for problem in values["problems"]],
                    [str(name) for name in values["last"]],
                )
                return True
        return False

    def acknowledge(self, batch: Batch) -> None:
        """
        Note that a batch is in the store, in whatever order batches come; written when all before it are, too.

        :param batch: after its last step.
        """
        self._done[batch.number] = batch
        if batch.number != self._next:
            return
        while self._next in self._done:
            done = self._done.pop(self._next)
            self._next += 1
            self.checkpoint.position = done.end
            self.checkpoint.tally.add(done.tally)
            add_problems(self.checkpoint.problems, done.problems)
            self.checkpoint.last = list(done.places)[-_SAMPLE:] or self.checkpoint.last
        self._write()

    def _write(self) -> None:
        values = {"format": _FORMAT, "conditions": self._conditions, **asdict(self.checkpoint)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".writing")
        temporary.write_text(json.dumps(values), encoding="utf-8")
        os.replace(temporary, self._path)


def add_problems(to: list[Problem], new: list[Problem]) -> None:
    """
    Keep the first problems of each kind.

    :param to: gets them.
    :param new: in order.
    """
    for problem in new:
        if sum(known.kind == problem.kind for known in to) < SHOWN_PROBLEMS:
            to.append(problem)
