# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from resrank import ResRank
from resrank.linear import BLOCK, STEP, BlockLinear, in_blocks
from resrank.reader import SpanReader


@pytest.fixture
def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(24, 40).to(torch.bfloat16)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each product had."""
    seen: list[int] = []
    multiply = nn.functional.linear

    def counted(inputs: torch.Tensor, *rest: torch.Tensor | None) -> torch.Tensor:
        seen.append(inputs.numel() // inputs.shape[-1])
        return multiply(inputs, *rest)

    monkeypatch.setattr(nn.functional, "linear", counted)
    return seen


@pytest.mark.parametrize("shape", [(0, 24), (1, 24), (24,), (16, 24), (3, 7, 24), (512, 24), (2, 300, 24), (1_030, 24)])
def test_products_are_those_of_a_linear_layer(layer, shape):
    inputs = torch.randn(shape).to(torch.bfloat16)
    with torch.inference_mode():
        expected = layer(inputs)
        in_blocks(layer)
        found = layer(inputs)
    assert type(layer) is BlockLinear
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=1e-2)  # of a bfloat16's last bit


def test_there_are_few_shapes_whatever_comes(layer, rows):
    in_blocks(layer)
    with torch.inference_mode():
        for count in range(1, 2_100, 3):
            layer(torch.zeros(count, 24, dtype=torch.bfloat16))
    assert set(rows) == set(range(STEP, BLOCK + 1, STEP))


def test_others_multiply_at_once(layer, rows):
    in_blocks(layer)
    layer(torch.zeros(1_030, 24, dtype=torch.bfloat16)).sum().backward()
    assert layer.weight.grad is not None
    with torch.inference_mode():
        layer.float()(torch.zeros(1_030, 24))
    assert rows == [1_030, 1_030]


def linear_layers(module: nn.Module) -> set[type]:
    return {type(each) for each in module.modules() if isinstance(each, nn.Linear)}


@pytest.mark.parametrize(("dtype", "kind"), [("bfloat16", BlockLinear), ("float32", nn.Linear)])
def test_models_on_a_cpu_load_so_in_half_precision(
    tiny_mini_checkpoint, tiny_reader_folder, tmp_path: Path, dtype, kind
):
    model = ResRank.from_pretrained(tiny_mini_checkpoint, device="cpu", dtype=dtype)
    model.load("encoder", "reranker")
    reader = SpanReader.from_pretrained(tiny_reader_folder, device="cpu", dtype=dtype)
    assert linear_layers(model.encoder.backbone) == {kind}
    assert linear_layers(model.reranker.backbone) == {kind}
    assert linear_layers(reader.model) == {kind}
    assert type(nn.Linear(1, 1)) is nn.Linear
