# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What a run measures with, and on how much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resrank.runtime import Runtime


@dataclass(frozen=True)
class Settings:
    """
    Choices of one run.

    :param quick: small sizes, for the smoke test; its figures mean nothing.
    :param device: `cpu`, `cuda`, ….
    :param dtype: `auto`, `float32`, `bfloat16` or `float16`; the same for ResRank and its peers.
    :param twin: name of one of the paper's architectures with random weights, or `None` for `resrank-mini`.
    """

    quick: bool = False
    device: str = "cpu"
    dtype: str = "auto"
    twin: str | None = None

    @property
    def model_name(self) -> str:
        """
        What is measured.

        :returns: for titles and file names.
        """
        return "resrank-mini" if self.twin is None else f"{self.twin} (random weights)"

    def pick(self, full: int, quick: int) -> int:
        """
        A size.

        :param full: of a real run.
        :param quick: of the smoke test.
        :returns: one of the two.
        """
        return quick if self.quick else full

    def runtime(self) -> Runtime:
        """
        The resolved device and dtype.

        :returns: with SDPA, so that ResRank and its peers use the same kernels.
        """
        from resrank.runtime import Runtime

        return Runtime.resolve(self.device, self.dtype, "sdpa")
