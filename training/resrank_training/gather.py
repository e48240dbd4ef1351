# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Rows of all processes, so that in-batch negatives come from all devices; gradients find their way back."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist


def is_distributed() -> bool:
    """
    Whether several processes train together.

    :returns: true with an initialised process group of more than one.
    """
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """
    Rows of all processes, in the order of their ranks.

    Each process may have another number of rows. In the backward pass a row gets the sum of what all processes' losses
    ask of it: with losses that are means over the own queries, and gradients that DDP or DeepSpeed averages, this is
    the gradient of the mean over all queries. (An own function because `torch.distributed.nn.all_gather` wants equal
    sizes, and its backward pass operators that gloo lacks.)

    :param rows: (n, …) of any dtype.
    :returns: (n of all processes, …); the rows themselves when there is one process.
    """
    if not is_distributed():
        return rows
    gathered: torch.Tensor = _Gather.apply(rows)
    return gathered


def most_of_all(count: int, device: torch.device) -> int:
    """
    The largest of the processes' numbers.

    :param count: of this process.
    :param device: of the process group's tensors.
    :returns: the largest.
    """
    return max(_counts(count, device)) if is_distributed() else count


def _counts(count: int, device: torch.device) -> list[int]:
    mine = torch.tensor([count], device=device)
    found = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(found, mine)
    return [int(each) for each in found]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        counts = _counts(len(rows), rows.device)
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        found = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(found, padded)
        before = sum(counts[: dist.get_rank()])
        ctx.own = slice(before, before + len(rows))
        return torch.cat([each[:count] for each, count in zip(found, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.own]
