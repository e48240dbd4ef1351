# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Where the time of a call goes: methods are wrapped for the time of the measurement; product code stays as it is."""

from __future__ import annotations

import functools
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class Stopwatch:
    """
    Adds up the time inside methods, each without what other watched methods take inside it.

    ```python
    with Stopwatch({"search": (Store, "search_ids"), "component": (Retriever, "run")}) as watch:
        ...
    print(watch.seconds["component"])  # without the search
    ```

    :param watched: class and method name, by label.
    """

    def __init__(self, watched: Mapping[str, tuple[type, str]]) -> None:
        self._watched = watched
        self._originals: list[tuple[type, str, Any]] = []
        self._inner: list[float] = []
        self._thread = threading.get_ident()
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)

    def __enter__(self) -> Stopwatch:
        for label, (owner, name) in self._watched.items():
            original = getattr(owner, name)
            # What the class itself defines, to put it back as it was; None when it is inherited.
            self._originals.append((owner, name, vars(owner).get(name)))
            setattr(owner, name, self._timed(original, label))
        return self

    def __exit__(self, *_: object) -> None:
        for owner, name, own in reversed(self._originals):
            if own is None:
                delattr(owner, name)
            else:
                setattr(owner, name, own)
        self._originals.clear()

    def reset(self) -> None:
        """Forget what was added up."""
        self.seconds.clear()
        self.calls.clear()

    def _timed(self, original: Any, label: str) -> Any:
        @functools.wraps(original)
        def run(*args: Any, **kwargs: Any) -> Any:
            with self._span(label):
                return original(*args, **kwargs)

        return run

    @contextmanager
    def _span(self, label: str) -> Iterator[None]:
        if threading.get_ident() != self._thread:
            msg = f"{label} ran in another thread: its time cannot be taken off the caller's"
            raise RuntimeError(msg)
        self._inner.append(0.0)
        started = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            self.seconds[label] += elapsed - self._inner.pop()
            self.calls[label] += 1
            if self._inner:
                self._inner[-1] += elapsed
