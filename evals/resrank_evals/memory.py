# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""How much memory this process takes while something runs."""

from __future__ import annotations

import threading
from types import TracebackType

import psutil
import torch

_EVERY_S = 0.05


class PeakMemory:
    """
    Watches the resident memory of the process, and the GPU's, from entering to leaving the context.

    ```python
    with PeakMemory() as peak:
        work()
    print(peak.megabytes)
    ```
    """

    def __init__(self) -> None:
        self.megabytes = 0.0
        self.gpu_megabytes: float | None = None
        self._process = psutil.Process()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        """
        Start watching.

        :returns: itself; its figures are final after leaving.
        """
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """
        Stop watching.

        :param kind: of an error; not handled.
        :param error: likewise.
        :param trace: likewise.
        """
        self._stop.set()
        self._thread.join()
        self._look()
        if torch.cuda.is_available():
            self.gpu_megabytes = torch.cuda.max_memory_allocated() / 1e6

    def _watch(self) -> None:
        while not self._stop.wait(_EVERY_S):
            self._look()

    def _look(self) -> None:
        self.megabytes = max(self.megabytes, self._process.memory_info().rss / 1e6)
