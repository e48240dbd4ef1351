# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Who answers: the same reader for all systems, so that a difference of answers is one of rankings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .environment import weights_hash

if TYPE_CHECKING:
    from resrank.reader import SpanReader

DEFAULT_READER = "resrank-reader-mini"
_WARM_UP = 2  # before any clock counts
_NAMED_BY = 6  # digits of the weights


@dataclass(frozen=True)
class Answer:
    """
    What a reader says.

    :param text: the answer; empty when it has none.
    :param passage: the place in the context that it was taken from; `None` when it was not taken from a passage.
    :param no_answer: how sure it is that the context has no answer, 0 to 1; `None` when it does not say.
    :param generated_tokens: `None` when not known.
    :param failed: whether the reader refused or did not come to an answer; it is empty then, and counts as such.
    """

    text: str
    passage: int | None = None
    no_answer: float | None = None
    generated_tokens: int | None = 0
    failed: bool = False


class Reader(Protocol):
    """
    Answers questions from contexts.
    """

    name: str
    tokenizer: Any

    def describe(self) -> dict[str, Any]:
        """
        Say what decides the answers.

        :returns: plain values; kept answers of a reader that is described otherwise are made anew.
        """

    def environment(self) -> dict[str, Any]:
        """
        Say what it runs on.

        :returns: plain values.
        """

    def answer(self, query: str, passages: Sequence[str]) -> Answer:
        """
        Answer a question.

        :param query: the question.
        :param passages: the context, best first; may be empty.
        :returns: the answer.
        """


class SpanAnswers:
    """
    The span of all passages that a `SpanReader` prefers.

    It answers whenever there is a passage, however unsure it is: every evaluated question has an answer.

    :param name: of the reader, for tables.
    :param reader: the loaded reader.
    :param weights: a hash of its files.
    """

    def __init__(self, name: str, reader: SpanReader, weights: str | None) -> None:
        self.name = name
        self.tokenizer = reader.tokenizer
        self._reader = reader
        self._weights = weights

    @classmethod
    def from_pretrained(cls, name: str, *, device: str | None = None, dtype: str = "auto") -> SpanAnswers:
        """
        Load a reader, and let it read once or twice, because what comes first is slow.

        :param name: as `SpanReader.from_pretrained` takes it.
        :param device: likewise.
        :param dtype: likewise.
        :returns: the reader; a folder gives it its last part and 6 digits of its weights as name, because what
            `resrank-train reader` makes lies in a folder `reader`, whatever it is.
        """
        from resrank.reader import SpanReader
        from resrank.sources import resolve

        reader = SpanReader.from_pretrained(name, device=device, dtype=dtype)
        for _ in range(_WARM_UP):
            reader.read("what takes longer?", ["The first time takes longer than all that come after it."])
        folder = resolve(name).resolve()
        weights = weights_hash(str(folder))
        by_path = folder == Path(name).expanduser().resolve()  # not a shipped name or hub id
        return cls(f"{folder.name}-{str(weights)[:_NAMED_BY]}" if by_path else name, reader, weights)

    def describe(self) -> dict[str, Any]:
        """
        Say what decides the answers.

        :returns: name, weights and dtype.
        """
        return {"name": self.name, "weights": self._weights, "dtype": self.environment()["dtype"]}

    def environment(self) -> dict[str, Any]:
        """
        Say what it runs on.

        :returns: device and dtype.
        """
        dtype = next(self._reader.model.parameters()).dtype
        return {"device": self._reader.device.type, "dtype": str(dtype).removeprefix("torch.")}

    def answer(self, query: str, passages: Sequence[str]) -> Answer:
        """
        Read the context.

        :param query: the question.
        :param passages: the context.
        :returns: the best span of all; none without passages.
        """
        from resrank.reader import confidences

        spans = self._reader.read(query, passages)
        _, no_answer = confidences([span.margin for span in spans])
        if not spans:
            return Answer("", no_answer=no_answer)
        return Answer(spans[0].text, spans[0].passage, no_answer)
