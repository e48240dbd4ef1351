# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
A language model as the reader: any server with OpenAI's `/v1/chat/completions`.

It is given the same contexts as a span reader: packed by that reader's tokenizer, so that what differs is who answers.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from typing import Any

from .readers import Answer

OPENAI = "https://api.openai.com/v1"
RETRIES = 6
TIMEOUT_S = 300.0
PROMPT = 1  # raised when the wording changes: it decides the answers
_TASK = (
    "Answer the question in as few words as possible: a name, a date, a number or a short phrase; no sentence and no "
    "explanation."
)
_FROM_PASSAGES = " Take the answer from the passages, and guess when they do not say."
_THOUGHTS = re.compile(r"(?s)^.*</think>")
_UNFINISHED_THOUGHTS = "<think>"


def server_of(model: str, url: str | None = None) -> dict[str, Any]:
    """
    Where a language model is asked.

    :param model: its name, for the message.
    :param url: of the server; `None` takes OPENAI_BASE_URL.
    :returns: what `openai` clients take: `base_url` (OpenAI's when OPENAI_BASE_URL is empty or not set) and `api_key`
        from OPENAI_API_KEY.
    :raises ValueError: when OpenAI is asked without a key.
    """
    url = url or os.environ.get("OPENAI_BASE_URL")
    key = os.environ.get("OPENAI_API_KEY")
    if not key and not url:
        msg = f"{model}: set OPENAI_API_KEY, or name a server of your own with OPENAI_BASE_URL (it ends in /v1)"
        raise ValueError(msg)
    # Servers of one's own seldom ask for a key, the client insists on it.
    # It reads an empty OPENAI_BASE_URL itself when it is given none.
    return {"base_url": url or OPENAI, "api_key": key or "none"}


class GeneratedAnswers:
    """
    Asks a language model, without sampling where the server lets it: OpenAI's reasoning models refuse a temperature.

    :param model: its name on the server.
    :param tokenizer: a fast tokenizer, which packs the contexts.
    :raises ValueError: when OpenAI is asked without a key.
    """

    def __init__(self, model: str, tokenizer: Any) -> None:
        from openai import OpenAI

        self.name = f"generator:{model}"
        self.tokenizer = tokenizer
        self._model = model
        self._client: Any = OpenAI(**server_of(model), max_retries=RETRIES, timeout=TIMEOUT_S)
        self._packing = _fingerprint(tokenizer)
        self._heard = False  # whether it has ever answered
        self._sampling: dict[str, Any] = {"temperature": 0}

    def describe(self) -> dict[str, Any]:
        """
        Say what decides the answers.

        :returns: model, prompt and the tokenizer of the contexts; neither server nor key.
        """
        return {"name": self.name, "prompt": PROMPT, "tokenizer": self._packing}

    def environment(self) -> dict[str, Any]:
        """
        Say what it runs on.

        :returns: that it is elsewhere: times are those of a server and a network; and whether it refuses a temperature.
        """
        return {"device": "server"} if self._sampling else {"device": "server", "temperature": "the model's own"}

    def answer(self, query: str, passages: Sequence[str]) -> Answer:
        """
        Ask.

        :param query: the question.
        :param passages: the context.
        :returns: the answer; a failed one when the server refuses this request, but has answered others, and when what
            it says is cut short, or is nothing but thoughts.
        :raises RuntimeError: when the server cannot be used.
        """
        from openai import BadRequestError, OpenAIError, UnprocessableEntityError

        messages = [{"role": "user", "content": prompt(query, passages)}]
        try:
            response = self._ask(messages)
        except (BadRequestError, UnprocessableEntityError) as error:
            if self._heard:
                return Answer("", generated_tokens=None, failed=True)
            raise self._unusable(str(error)) from error  # so would all others be
        except OpenAIError as error:
            raise self._unusable(str(error)) from error
        try:
            choice = response.choices[0]
            text, ended = choice.message.content or "", choice.finish_reason
        except (AttributeError, IndexError, TypeError) as error:
            msg = f"expected a chat completion, got {type(response).__name__}; does OPENAI_BASE_URL end in /v1?"
            raise self._unusable(msg) from error
        self._heard = True
        tokens = getattr(getattr(response, "usage", None), "completion_tokens", None)
        clean = _THOUGHTS.sub("", text).strip().encode(errors="replace").decode()
        if not clean or ended == "length" or _UNFINISHED_THOUGHTS in clean:
            return Answer("", generated_tokens=tokens, failed=True)
        return Answer(clean, generated_tokens=tokens)

    def _ask(self, messages: list[dict[str, str]]) -> Any:
        from openai import BadRequestError, UnprocessableEntityError

        create = self._client.chat.completions.create
        try:
            return create(model=self._model, messages=messages, **self._sampling)
        except (BadRequestError, UnprocessableEntityError) as error:
            if not self._sampling or "temperature" not in str(error).lower():
                raise
            response = create(model=self._model, messages=messages)
            self._sampling = {}  # nor will the next ones take it
            return response

    def _unusable(self, reason: str) -> RuntimeError:
        msg = (
            f"{self._model} cannot be used: {reason}. Answers from the systems before are kept: run the same command "
            "again to go on"
        )
        return RuntimeError(msg)


def _fingerprint(tokenizer: Any) -> str:
    """Without truncation and padding: a fast tokenizer keeps those of its last call, whatever it was for."""
    from tokenizers import Tokenizer

    copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    return hashlib.sha256(copy.to_str().encode()).hexdigest()[:16]


def prompt(query: str, passages: Sequence[str]) -> str:
    """
    What a language model is asked.

    :param query: the question.
    :param passages: the context; without it the task does not speak of passages.
    :returns: the prompt.
    """
    if not passages:
        return f"{_TASK}\n\nQuestion: {query}"
    listed = "\n\n".join(f"[{number}] {text}" for number, text in enumerate(passages, 1))
    return f"{_TASK}{_FROM_PASSAGES}\n\n{listed}\n\nQuestion: {query}"
