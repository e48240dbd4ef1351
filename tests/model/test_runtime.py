# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Device, dtype and attention implementation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from resrank import runtime
from resrank.runtime import Runtime


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_named_dtypes(name: str) -> None:
    resolved = Runtime.resolve("cpu", name)
    assert resolved.dtype is getattr(torch, name)
    assert resolved.dtype_name == name


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu sse avx512_bf16", torch.bfloat16), ("fpu amx_bf16 amx_tile", torch.bfloat16), ("fpu avx2", torch.float32)],
)
def test_auto_dtype_on_cpu_follows_the_processor(
    monkeypatch: pytest.MonkeyPatch, flags: str, expected: torch.dtype
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *args, **kwargs: f"flags\t: {flags}\n")
    assert Runtime.resolve("cpu").dtype is expected


def test_auto_dtype_without_proc_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", fail)
    assert Runtime.resolve("cpu").dtype is torch.float32


@pytest.mark.parametrize("bf16", [True, False])
def test_auto_dtype_on_cuda(monkeypatch: pytest.MonkeyPatch, bf16: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)
    assert Runtime.resolve("cuda").dtype is (torch.bfloat16 if bf16 else torch.float32)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_best_device(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert Runtime.resolve(dtype="float32").device.type == expected


@pytest.mark.parametrize(
    ("device", "dtype", "installed", "expected"),
    [
        ("cuda", "bfloat16", True, "flash_attention_2"),
        ("cuda", "bfloat16", False, "sdpa"),
        ("cuda", "float32", True, "sdpa"),
        ("cpu", "bfloat16", True, "sdpa"),
    ],
)
def test_auto_attention(
    monkeypatch: pytest.MonkeyPatch, device: str, dtype: str, installed: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(runtime, "_flash_attention_installed", lambda: installed)
    resolved = Runtime.resolve(device, dtype)
    assert (resolved.attn_implementation, resolved.attention_was_asked_for) == (expected, False)


def test_asked_attention_is_kept() -> None:
    resolved = Runtime.resolve("cpu", "float32", "eager")
    assert (resolved.attn_implementation, resolved.attention_was_asked_for) == ("eager", True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "int8"}, "dtype must be auto or one of float32, bfloat16, float16, got 'int8'"),
        (
            {"attn_implementation": "fast"},
            "attn_implementation must be one of auto, sdpa, eager, flash_attention_2, got 'fast'",
        ),
        (
            {"attn_implementation": "flash_attention_2", "dtype": "bfloat16"},
            "flash_attention_2 needs a CUDA device, the package flash-attn",
        ),
    ],
)
def test_what_cannot_run_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Runtime.resolve("cpu", **arguments)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device 'cuda' is not available to this PyTorch"):
        Runtime.resolve("cuda")
