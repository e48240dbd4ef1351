# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The span reader as the components of a server see it: questions take turns with all other work of the models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .shared_engine import SharedEngine

if TYPE_CHECKING:
    from resrank.reader import SpanReader


class SharedReader:
    """
    Does what `SpanReader` does, in the few threads that run the models.

    A thread that multiplies matrices holds threads and memory of its own for it, per shape; in a thread a request, 32
    clients made that 300 MiB, and more with each question.

    Whatever is not here goes to the reader itself.

    :param reader: the loaded reader.
    :param engine: whose threads it takes.
    """

    def __init__(self, reader: SpanReader, engine: SharedEngine) -> None:
        self._reader = reader
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def read(self, *arguments: Any, **named: Any) -> Any:
        """
        Find spans.

        :param arguments: of `SpanReader.read`.
        :param named: likewise.
        :returns: its spans.
        """
        return self._engine.in_turn(lambda: self._reader.read(*arguments, **named))
