# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
A large language model as a teacher: it reads several passages at once and answers with their order.

Listwise permutation with a sliding window, as RankGPT does (Sun et al. 2023, arXiv 2304.09542): the window moves from
the back of the list to its front, half a window at a time, and what it ranks high is read again by the next one.

Any server with OpenAI's `/v1/chat/completions` will do. Answers are kept in a file as they come, so that none is paid
for twice, whatever interrupts the run.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from resrank_evals.generation import server_of
from resrank_pipelines.indexing import Progress
from resrank_pipelines.lines import shown

from .labelling import Candidates, Order, whole_rows

Messages = list[dict[str, str]]

# As in RankGPT.
WINDOW = 20
STEP = 10
# The client waits between tries, up to 8 seconds, or as long as the server says.
RETRIES = 6
TIMEOUT_S = 300.0
PROMPT = 1  # raised when the wording changes: it decides the answers
_TELL_EVERY_S = 5.0
# Scripts without blanks are one long word.
_CHARACTERS_PER_WORD = 12
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_NUMBER = re.compile(r"[0-9]+")
_COUNTS = ("answers", "cached", "repaired", "failed", "cut_passages", "prompt_tokens", "completion_tokens")


@dataclass(frozen=True)
class Answer:
    """
    What a model answered.

    :param text: as it came.
    :param prompt_tokens: that the server says it read; 0 when it does not say.
    :param completion_tokens: that it says it wrote.
    """

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0


class AnswerCache:
    """
    Answers by what was asked, in a JSONL file that only grows.

    :param path: the file; made with the first answer.
    :raises ValueError: for a damaged line, with file and line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            self._known = {
                row["key"]: Answer(row["text"], row["prompt_tokens"], row["completion_tokens"])
                for row in whole_rows(path)
            }
        except KeyError as error:
            msg = f"{path}: expected answers of language models, got a line without {error}; move the file away"
            raise ValueError(msg) from error

    @staticmethod
    def key(model: str, messages: Messages) -> str:
        """
        Identify a request.

        :param model: that is asked.
        :param messages: what it is asked.
        :returns: 32 hexadecimal digits.
        """
        asked = json.dumps([model, messages], sort_keys=True)
        return hashlib.sha256(asked.encode()).hexdigest()[:32]

    def get(self, key: str) -> Answer | None:
        """
        Look an answer up.

        :param key: of the request.
        :returns: the answer; `None` when it was never asked.
        """
        return self._known.get(key)

    def add(self, key: str, model: str, answer: Answer) -> None:
        """
        Keep an answer; it is on disk when this returns.

        :param key: of the request.
        :param model: that answered.
        :param answer: its answer.
        """
        line = json.dumps({"key": key, "model": model, **asdict(answer)}) + "\n"  # ASCII: models write anything
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
            self._known[key] = answer


class LLMTeacher:
    """
    Orders candidates by asking a language model, a window at a time.

    Counts `answers`, `cached` (of them, not asked again), `repaired` (with a number twice, missing or out of range),
    `failed` (without any number, or refused: the window keeps its order), `cut_passages`, and the tokens that the
    server reports, those of cached answers included.

    :param model: its name on the server.
    :param url: of the server, e.g. `http://localhost:8000/v1`; `None` takes `OPENAI_BASE_URL`, else OpenAI. It is sent
        `OPENAI_API_KEY` where that is set.
    :param answers: JSONL file in which answers are kept.
    :param passage_words: words of a passage that it reads; 300 as in RankGPT.
    :param concurrency: requests at the same time.
    :param window: passages in one request.
    :param step: passages by which the window moves.
    :param retries: times that a request is sent again when the server is busy, broken or slow.
    :raises ValueError: when a number makes no sense, or OpenAI is asked without a key.
    """

    def __init__(
        self,
        model: str,
        *,
        url: str | None = None,
        answers: Path,
        passage_words: int = 300,
        concurrency: int = 4,
        window: int = WINDOW,
        step: int = STEP,
        retries: int = RETRIES,
    ) -> None:
        from openai import OpenAI

        if not 0 < step <= window or window < 2 or passage_words < 1 or concurrency < 1:
            msg = (
                "expected 0 < step <= window, a window of 2 at least, and positive numbers of words and requests, got "
                f"step {step}, window {window}, {passage_words} words, {concurrency} requests"
            )
            raise ValueError(msg)
        server = server_of(f"llm:{model}", url)
        self._model = model
        self._url = _with_version(server["base_url"])
        self._client: Any = OpenAI(
            api_key=server["api_key"], base_url=self._url, max_retries=retries, timeout=TIMEOUT_S
        )
        self._cache = AnswerCache(answers)
        self._words = passage_words
        self._concurrency = concurrency
        self._window, self._step = window, step
        self._heard = False  # whether this model has ever answered

    @property
    def name(self) -> str:
        """
        What tables call it.

        :returns: `llm:` and the model.
        """
        return f"llm:{self._model}"

    @property
    def settings(self) -> Mapping[str, Any]:
        """
        What decides its orders.

        :returns: model, prompt, window and words; neither server nor key.
        """
        return {
            "kind": "llm",
            "model": self._model,
            "prompt": PROMPT,
            "window": self._window,
            "step": self._step,
            "passage_words": self._words,
        }

    def order(self, lists: Sequence[Candidates], progress: Progress) -> list[Order]:
        """
        Order lists, several at the same time.

        :param lists: any number.
        :param progress: told every few seconds how many are done.
        :returns: an order for each.
        :raises RuntimeError: when the server cannot be used. What it answered is kept.
        """
        stop = threading.Event()
        told = time.monotonic()
        with ThreadPoolExecutor(self._concurrency) as pool:
            futures = [pool.submit(self._order, each, stop) for each in lists]
            try:
                for done, future in enumerate(as_completed(futures), 1):
                    future.result()
                    if time.monotonic() - told >= _TELL_EVERY_S:
                        told = time.monotonic()
                        progress(f"Asking {self._model}", done, len(lists))
            except BaseException:
                stop.set()  # leaving the pool waits for its threads: they end with the answers that are under way
                raise
        return [future.result() for future in futures]

    def _order(self, each: Candidates, stop: threading.Event) -> Order:
        counts = Counter(dict.fromkeys(_COUNTS, 0))
        failures = []
        texts = [cut_words(text, self._words) for text in each.texts]
        counts["cut_passages"] = sum(cut for _, cut in texts)
        ranking = list(range(len(texts)))
        for start, end in windows(len(texts), self._window, self._step):
            if stop.is_set():
                break
            inside = ranking[start:end]
            failure = None
            answer, cached = self._ask(messages_for(each.query, [texts[i][0] for i in inside]))
            counts["answers"] += 1
            counts["cached"] += cached
            if isinstance(answer, Answer):
                counts["prompt_tokens"] += answer.prompt_tokens
                counts["completion_tokens"] += answer.completion_tokens
                order, repaired = parse_order(answer.text, len(inside))
                counts["repaired"] += repaired
                if order is None:
                    failure = f"no number of a passage in {shown(answer.text)}"
                else:
                    ranking[start:end] = [inside[i] for i in order]
            else:
                failure = f"refused: {answer}"
            if failure is not None:
                counts["failed"] += 1
                failures.append(f"places {start + 1} to {end}: {failure}")
        return Order(tuple(ranking), dict(counts), tuple(failures))

    def _ask(self, messages: Messages) -> tuple[Answer | str, bool]:
        """The answer, or why the server refuses this request; and whether it was known."""
        key = AnswerCache.key(self._model, messages)
        known = self._cache.get(key)
        if known is not None:
            self._heard = True
            return known, True
        answer = self._request(messages)
        if isinstance(answer, Answer):
            self._heard = True
            self._cache.add(key, self._model, answer)
        return answer, False

    def _request(self, messages: Messages) -> Answer | str:
        from openai import BadRequestError, OpenAIError, UnprocessableEntityError

        try:
            response = self._client.chat.completions.create(model=self._model, messages=messages, temperature=0)
        except (BadRequestError, UnprocessableEntityError) as error:
            if self._heard:
                return str(error).encode(errors="replace").decode()
            raise self._unusable(str(error)) from error  # so would all others be
        except OpenAIError as error:
            raise self._unusable(str(error)) from error
        try:
            text = response.choices[0].message.content or ""
        except (AttributeError, IndexError, TypeError) as error:
            got = shown(response if isinstance(response, str) else type(response).__name__)
            msg = f"expected a chat completion, got {got}; does the URL end in /v1?"
            raise self._unusable(msg) from error
        usage = getattr(response, "usage", None)
        return Answer(text, *(int(getattr(usage, f"{kind}_tokens", 0) or 0) for kind in ("prompt", "completion")))

    def _unusable(self, reason: str) -> RuntimeError:
        where = urlsplit(self._url).hostname
        return RuntimeError(
            f"{self.name} at {where} cannot be used: {reason}. Its answers so far are kept in {self._cache.path}: run "
            "the same command again to go on"
        )


def windows(count: int, window: int = WINDOW, step: int = STEP) -> Iterator[tuple[int, int]]:
    """
    Where the window stands, from the back of a list to its front.

    The last one is as wide as the others: the top is read with as much beside it as possible.

    :param count: candidates.
    :param window: its width.
    :param step: by which it moves.
    :returns: (start, end) of each position; none for fewer than two candidates.
    """
    start = max(0, count - window)
    while count > 1:
        yield start, min(count, start + window)
        if start == 0:
            return
        start = max(0, start - step)


def messages_for(query: str, texts: Sequence[str]) -> Messages:
    """
    Ask for an order, with a turn of the conversation a passage.

    :param query: the query.
    :param texts: of the passages; bracketed numbers in them become round, as they would be taken for passages.
    :returns: the messages.
    """
    count = len(texts)
    messages = [
        {"role": "system", "content": "You rank passages by how well they answer a search query."},
        {
            "role": "user",
            "content": f"I will give you {count} passages, each after its number in brackets. Rank them by their "
            f"relevance to this query: {query}",
        },
        {"role": "assistant", "content": "Please give me the passages."},
    ]
    for number, text in enumerate(texts, 1):
        plain = re.sub(r"\[(\s*[0-9]+\s*)\]", r"(\1)", text)
        messages.append({"role": "user", "content": f"[{number}] {plain}"})
        messages.append({"role": "assistant", "content": f"I have passage [{number}]."})
    messages.append(
        {
            "role": "user",
            "content": f"The query: {query}\nRank the {count} passages above by their relevance to it, the most "
            "relevant first. Name each of them once, by its number in brackets, with > between them, as in "
            "[2] > [1]. Answer with the ranking alone.",
        }
    )
    return messages


def parse_order(answer: str, count: int) -> tuple[tuple[int, ...] | None, bool]:
    """
    Read an answer: the numbers in brackets, in their order.

    What a model thinks aloud between `<think>` and `</think>` does not count. Numbers that came before or that no
    passage has are dropped, and passages that were not named follow in their old order.

    :param answer: what the model wrote.
    :param count: passages that it was given, numbered from 1.
    :returns: positions from 0, each once, and whether that took a repair; `None` and false when no passage is named.
    """
    said = answer.rpartition("</think>")[2].partition("<think>")[0]
    numbers = [number.lstrip("0") for inside in _BRACKETS.findall(said) for number in _NUMBER.findall(inside)]
    position = {str(number): number - 1 for number in range(1, count + 1)}
    named = tuple(dict.fromkeys(position[number] for number in numbers if number in position))
    if not named:
        return None, False
    rest = tuple(i for i in range(count) if i not in named)
    return named + rest, bool(rest) or len(numbers) > len(named)


def cut_words(text: str, words: int) -> tuple[str, bool]:
    """
    Keep the start of a passage.

    :param text: its text.
    :param words: most words; at most 12 characters a word on average.
    :returns: the words, a blank between them, and whether any are missing.
    """
    split = text.split()
    whole = " ".join(split)
    kept = " ".join(split[:words])[: words * _CHARACTERS_PER_WORD]
    return kept, len(kept) < len(whole)


def _with_version(url: str) -> str:
    """Servers answer below /v1; a URL without any path means that."""
    return url if urlsplit(url).path.strip("/") else f"{url.rstrip('/')}/v1"
