# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Several processes on gloo: DeepSpeed's ZeRO-2 and ZeRO-3 and plain DDP give the losses that one process gives."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from resrank import ResRank

pytestmark = pytest.mark.slow

STEPS = 4


@pytest.fixture(scope="module")
def has_compiler() -> bool:
    """DeepSpeed builds its CPU communication with g++ when it is first used."""
    if shutil.which("g++") is None:
        if os.environ.get("RESRANK_CI"):
            pytest.fail("g++ must be there in CI: DeepSpeed needs it")
        pytest.skip("DeepSpeed needs g++")
    return True


def _train(folder: Path, settings: dict[str, Any], processes: int) -> list[float]:
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"),
        *("--master-addr=127.0.0.1", f"--master-port={port}", "-m", "resrank_training", "fit", path, "--out", folder),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RESRANK_DEBUG": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [str(part) for part in command], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-20000:]}"
    logs = [(folder / stage / "log.jsonl").read_text().splitlines() for stage in ("stage1", "stage2")]
    return [row["loss"] for log in logs for row in map(json.loads, log) if "loss" in row]


@pytest.fixture
def settings(
    qwen_encoder_folder: Path, qwen_reranker_folder: Path, list_folder: Callable[..., Path]
) -> Callable[..., dict[str, Any]]:
    """Return a function that makes the settings of a run of Qwen3 twins, full-parameter, in paper mode."""
    train, dev = list_folder("train", count=24), list_folder("dev", count=4, seed=5)

    def make(processes: int, **arguments: Any) -> dict[str, Any]:
        stage = {
            "name": "stage1",
            "lists": [{"path": str(train)}],
            "list_length": 6,
            "targets": "ranking",
            "losses": {"info_nce": 1.0, "rank_net": 2.0},
            "encoder": "full",
            "reranker": "full",
            "dropout": 0.0,
            "tokens_per_chunk": 64,
            "arguments": {
                "max_steps": STEPS,
                "per_device_train_batch_size": 4 // processes,
                "learning_rate": 1e-3,
                "logging_steps": 1,
                "use_cpu": True,
                "ddp_backend": "gloo",
                "save_steps": 100,
                **arguments,
            },
        }
        second = {**stage, "name": "stage2", "encoder": "frozen", "losses": {"rank_net": 1.0}}
        return {
            "model": {
                "encoder": str(qwen_encoder_folder),
                "reranker": str(qwen_reranker_folder),
                "config": {"mode": "paper", "reranker": {"attention": "causal"}},
            },
            "dev": {"lists": [str(dev)], "queries": 4},
            "seed": 1,
            "stages": [stage, second],
        }

    return make


def test_two_processes_give_the_losses_of_one(
    settings: Callable[..., dict[str, Any]], tmp_path: Path, has_compiler: bool
) -> None:
    alone = _train(tmp_path / "one", settings(1), 1)
    assert len(alone) == 2 * STEPS
    assert alone[STEPS - 1] < alone[0]
    runs = {
        "ddp": {},
        "zero2": {"deepspeed": "zero2"},
        "zero3": {"deepspeed": "zero3"},
    }
    reference = ResRank.from_pretrained(tmp_path / "one" / "model", device="cpu", dtype="float32").load()
    for name, arguments in runs.items():
        together = _train(tmp_path / name, settings(2, **arguments), 2)
        np.testing.assert_allclose(together, alone, rtol=2e-3, err_msg=name)
        model = ResRank.from_pretrained(tmp_path / name / "model", device="cpu", dtype="float32").load()
        for part in ("encoder", "reranker", "head"):
            expected = getattr(reference, part).state_dict()
            for key, weight in getattr(model, part).state_dict().items():
                np.testing.assert_allclose(weight.float(), expected[key].float(), atol=5e-3, err_msg=f"{name} {key}")


def test_what_the_shipped_cluster_settings_ask_for(
    settings: Callable[..., dict[str, Any]], tmp_path: Path, has_compiler: bool
) -> None:
    """ZeRO-3, weights and arithmetic in bfloat16, accumulation, activation checkpointing; in both modes."""
    arguments = {"deepspeed": "zero3", "bf16": True, "gradient_accumulation_steps": 2, "gradient_checkpointing": True}
    for mode, attention in (("paper", "causal"), ("evidence", "order_free")):
        of = settings(2, **arguments)
        of["model"] |= {"dtype": "bfloat16", "config": {"mode": mode, "reranker": {"attention": attention}}}
        losses = _train(tmp_path / mode, of, 2)
        assert len(losses) == 2 * STEPS
        assert np.isfinite(losses).all()
        assert ResRank.from_pretrained(tmp_path / mode / "model", device="cpu").load().config.mode == mode


def test_lists_without_evidence_on_two_processes(
    settings: Callable[..., dict[str, Any]], tmp_path: Path, list_folder: Callable[..., Path]
) -> None:
    """Weights of the head that only evidence reaches get their gradient on every process, or DDP would stop."""
    of = settings(2)
    of["model"]["config"] = {"mode": "evidence", "reranker": {"attention": "order_free"}}
    bare = list_folder("bare", count=24, evidence=False)
    of["stages"] = [{**stage, "lists": [{"path": str(bare)}]} for stage in of["stages"]]
    assert np.isfinite(_train(tmp_path / "run", of, 2)).all()
