# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""ResRank: one compressed vector per passage, listwise reranking in a single forward pass."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import EncoderConfig, LexicalConfig, RerankerConfig, ResRankConfig
    from .encoder import TruncationReport
    from .evidence import Evidence
    from .model import ResRank

try:
    __version__ = version("resrank")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0.0.0"

# torch takes over a second to import: names are looked up on first use, so that the command starts fast.
_HOMES = {
    "EncoderConfig": "config",
    "Evidence": "evidence",
    "LexicalConfig": "config",
    "RerankerConfig": "config",
    "ResRank": "model",
    "ResRankConfig": "config",
    "TruncationReport": "encoder",
}

__all__ = [
    "EncoderConfig",
    "Evidence",
    "LexicalConfig",
    "RerankerConfig",
    "ResRank",
    "ResRankConfig",
    "TruncationReport",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module 'resrank' has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
