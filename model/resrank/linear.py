# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Linear layers in half precision on CPUs, in few shapes.

oneDNN compiles a kernel for each number of rows that it meets, keeps a thousand of them, about 2 MiB each, and does not
give all memory of the others back. Texts come in all lengths: a server grew without end, and each new length of a query
took 10 to 30 ms more. Rows go through in blocks of `BLOCK` and one rest, filled up to a multiple of `STEP`: 32 shapes
a layer.
"""

from __future__ import annotations

import torch
from torch import nn

BLOCK = 512  # smaller ones are slower, larger ones are not faster
STEP = 16  # as many rows as the kernels' tiles have


class BlockLinear(nn.Linear):
    """
    A linear layer that multiplies in blocks of rows where oneDNN would compile for their number.

    It does so in half precision on a CPU without gradients, and is `torch.nn.Linear` otherwise. Made of layers that are
    there: see `in_blocks`.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - as torch names it
        """
        Multiply.

        :param input: (…, in_features), of the weights' dtype.
        :returns: (…, out_features).
        """
        if self.weight.dtype == torch.float32 or self.weight.device.type != "cpu" or torch.is_grad_enabled():
            return super().forward(input)
        rows = input.reshape(-1, self.in_features)
        count = len(rows)
        if count <= BLOCK and count % STEP == 0:
            return super().forward(input)
        output = rows.new_empty(count, self.out_features)
        for start in range(0, count, BLOCK):
            block = rows[start : start + BLOCK]
            filled = nn.functional.pad(block, (0, 0, 0, -len(block) % STEP))
            output[start : start + BLOCK] = super().forward(filled)[: len(block)]
        return output.reshape(*input.shape[:-1], self.out_features)


def in_blocks(module: nn.Module) -> None:
    """
    Turn the linear layers of a model into `BlockLinear`. Their weights stay as they are.

    :param module: changed in place.
    """
    for layer in module.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = BlockLinear
