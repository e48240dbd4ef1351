# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Batches side by side: what comes out, and what PyTorch's number of threads is afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from resrank import EncoderConfig
from resrank.encoder import load_encoder
from resrank.runtime import Runtime
from resrank.threads import BatchThreads


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_groups_fill_the_threads(two_threads: None) -> None:
    with BatchThreads(nn.Linear(2, 2)) as threads:
        assert list(threads.groups(range(5))) == [[0, 1], [2, 3], [4]]
        assert list(threads.groups([])) == []


def test_results_keep_their_order_and_each_has_one_thread(two_threads: None) -> None:
    meet = threading.Barrier(2, timeout=20)

    def work(item: int) -> tuple[int, int]:
        meet.wait()  # both run at the same time, or this fails
        return item, torch.get_num_threads()

    with BatchThreads(nn.Linear(2, 2)) as threads:
        assert threads.map(work, [7, 3]) == [(7, 1), (3, 1)]
        assert threads.map(lambda item: (item, torch.get_num_threads()), [4]) == [(4, 2)]


def test_the_number_of_threads_is_as_before_here_and_in_new_threads(two_threads: None) -> None:
    def fail(item: int) -> int:
        msg = f"batch {item}"
        raise RuntimeError(msg)

    seen: list[int] = []
    with BatchThreads(nn.Linear(2, 2)) as threads:
        with pytest.raises(RuntimeError, match="batch 1"):
            threads.map(fail, [1, 2])
        other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        other.start()
        other.join()
    assert torch.get_num_threads() == 2
    assert seen == [2]


def test_a_large_model_shares_each_pass(two_threads: None) -> None:
    with BatchThreads(nn.utils.skip_init(nn.Linear, 20_000, 10_000)) as threads:
        assert threads.at_once == 1


def test_vectors_are_the_same_side_by_side(encoder_folder: Path, corpus: tuple[str, ...], two_threads: None) -> None:
    encoder = load_encoder(encoder_folder, EncoderConfig(), Runtime.resolve("cpu", "float32"))[0]
    together = encoder.encode(corpus, is_query=False, tokens_per_batch=32)
    torch.set_num_threads(1)
    alone = encoder.encode(corpus, is_query=False, tokens_per_batch=32)
    assert len(corpus) > 8
    np.testing.assert_allclose(together, alone, atol=1e-6)
