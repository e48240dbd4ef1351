# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The machine and the software that a figure belongs to."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .settings import Settings

_PACKAGES = (
    "resrank",
    "torch",
    "transformers",
    "sentence-transformers",
    "haystack-ai",
    "qdrant-edge-py",
    "tokenizers",
    "numpy",
    "flash-attn",
)


def describe(settings: Settings) -> dict[str, Any]:
    """
    Describe where a run happens.

    :param settings: of the run.
    :returns: plain values.
    """
    import torch

    runtime = settings.runtime()
    affinity = getattr(os, "sched_getaffinity", None)
    described: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": len(affinity(0)) if affinity is not None else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load_average": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "device": str(runtime.device),
        "dtype": runtime.dtype_name,
        "versions": {name: _version(name) for name in _PACKAGES},
    }
    if runtime.device.type == "cuda":
        described["gpu"] = torch.cuda.get_device_name(runtime.device)
        described["cuda"] = torch.version.cuda
    return described


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
