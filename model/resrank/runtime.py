# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Where and how a model runs: device, dtype and attention implementation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from .linear import in_blocks

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_ATTENTIONS = ("auto", "sdpa", "eager", "flash_attention_2")

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Runtime:
    """
    Resolved choices.

    :param device: a torch device.
    :param dtype: of the backbones; scores, losses and softmax are always float32.
    :param attn_implementation: the Hugging Face name.
    :param attention_was_asked_for: whether a user named it; then it is never replaced, only refused.
    """

    device: torch.device
    dtype: torch.dtype
    attn_implementation: str
    attention_was_asked_for: bool = False

    @classmethod
    def resolve(cls, device: str | None = None, dtype: str = "auto", attn_implementation: str = "auto") -> Runtime:
        """
        Turn what a user says into what torch needs.

        :param device: `cpu`, `cuda`, `cuda:1`, `mps`, …; `None` takes the best one present.
        :param dtype: `float32`, `bfloat16`, `float16`, or `auto`: bfloat16 on GPUs and on CPUs that compute in it
            (avx512_bf16 or AMX: about 3 times faster), else float32.
        :param attn_implementation: `sdpa`, `eager`, `flash_attention_2`, or `auto`: FlashAttention 2 where CUDA and the
            package are there and the dtype is a half one, else SDPA.
        :returns: the resolved runtime.
        :raises ValueError: for unknown values, or FlashAttention 2 where it cannot run.
        """
        resolved = torch.device(device if device is not None else _best_device())
        available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not available.get(resolved.type, True):
            msg = (
                f"device {device!r} is not available to this PyTorch ({torch.__version__}): use 'cpu', or install a "
                "build for it"
            )
            raise ValueError(msg)
        if dtype == "auto":
            torch_dtype = _auto_dtype(resolved)
        elif dtype in _DTYPES:
            torch_dtype = _DTYPES[dtype]
        else:
            msg = f"dtype must be auto or one of {', '.join(_DTYPES)}, got {dtype!r}"
            raise ValueError(msg)
        if attn_implementation not in _ATTENTIONS:
            msg = f"attn_implementation must be one of {', '.join(_ATTENTIONS)}, got {attn_implementation!r}"
            raise ValueError(msg)
        asked = attn_implementation != "auto"
        flash = resolved.type == "cuda" and torch_dtype != torch.float32 and _flash_attention_installed()
        if attn_implementation == "auto":
            attn_implementation = "flash_attention_2" if flash else "sdpa"
        elif attn_implementation == "flash_attention_2" and not flash:
            msg = (
                "flash_attention_2 needs a CUDA device, the package flash-attn (pip install --no-build-isolation "
                f"'resrank[flash]') and a half dtype; got device {resolved}, dtype {torch_dtype}. Use 'sdpa' or 'auto'"
            )
            raise ValueError(msg)
        return cls(resolved, torch_dtype, attn_implementation, asked)

    def place(self, module: Module) -> Module:
        """
        Bring a model to the device and the dtype.

        :param module: changed in place; on a CPU in a half dtype its linear layers work in blocks (`linear.py`).
        :returns: the same.
        """
        if self.device.type == "cpu" and self.dtype != torch.float32:
            in_blocks(module)
        return module.to(device=self.device, dtype=self.dtype)

    @property
    def dtype_name(self) -> str:
        """
        The dtype as users write it.

        :returns: e.g. `float32`.
        """
        return str(self.dtype).removeprefix("torch.")


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _auto_dtype(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type == "cpu" and _cpu_has_fast_bfloat16():
        return torch.bfloat16
    return torch.float32


def _cpu_has_fast_bfloat16() -> bool:
    # Read from the kernel: torch's own queries are private and changed names between versions.
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _flash_attention_installed() -> bool:
    from transformers.utils import is_flash_attn_2_available

    return bool(is_flash_attn_2_available())
