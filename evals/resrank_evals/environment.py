# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Where results were made, and what identifies the model that made them."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import platform
from pathlib import Path
from typing import Any

import torch

from haystack_integrations.common.resrank import ResRankModel
from resrank.sources import sha256_of
from resrank_pipelines.information import package_version

_PACKAGES = (
    "resrank",
    "haystack-ai",
    "qdrant-edge-py",
    "torch",
    "transformers",
    "sentence-transformers",
    "ir-measures",
)
_SCORING = ("resrank", "qdrant-edge-py", "haystack-ai", "transformers")


def describe_environment(model: ResRankModel | None) -> dict[str, Any]:
    """
    The machine and the software.

    :param model: that ran; `None` when none did.
    :returns: plain values.
    """
    facts: dict[str, Any] = {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "system": platform.system(),
        **{package: package_version(package) for package in _PACKAGES},
    }
    if model is not None:
        runtime = model.load().runtime
        facts |= {
            "device": torch.cuda.get_device_name(runtime.device)
            if runtime.device.type == "cuda"
            else runtime.device.type,
            "dtype": runtime.dtype_name,
            "attn_implementation": runtime.attn_implementation,
        }
    return facts


def describe_model(model: ResRankModel) -> dict[str, Any]:
    """
    What decides a model's results: a stored result of another model is not kept.

    :param model: the handle.
    :returns: its name, the fingerprint of its vectors, a hash of the reranker's side, and how it runs.
    """
    engine = model.load("encoder")
    return {
        "name": model.model,
        "fingerprint": engine.fingerprint,
        "checkpoint": engine.checkpoint_hash,
        "dtype": engine.runtime.dtype_name,
        "device": engine.runtime.device.type,
    }


def scoring_versions() -> dict[str, str]:
    """
    What a stored result must have been made with to be kept: packages whose code decides scores.

    :returns: version by package.
    """
    return {package: package_version(package) for package in _SCORING}


def weights_hash(model: str) -> str | None:
    """
    Identify the files of a model in a folder, so that one trained anew is another one.

    :param model: a folder, or a name on the hub.
    :returns: 16 hexadecimal digits; `None` for a name.
    """
    folder = Path(model)
    if not folder.is_dir():
        return None
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors", ".bin", ".txt"))
    return hashlib.sha256(" ".join(sha256_of(path) for path in files).encode()).hexdigest()[:16]


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _cpu() -> str:
    cpus = Path("/proc/cpuinfo")
    if cpus.is_file():
        for line in cpus.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
