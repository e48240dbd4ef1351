# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What `resrank info` tells."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from haystack_integrations.common.resrank import ResRankModel
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore

from .loader import MODEL_TYPE

_PACKAGES = ("resrank", "haystack-ai", "qdrant-edge-py", "qdrant-haystack", "torch", "transformers")


def describe(model: dict[str, Any], store: Path) -> dict[str, dict[str, Any]]:
    """
    Collect facts about model, store and versions.

    :param model: init parameters of `ResRankModel`.
    :param store: the store's folder; it need not exist.
    :returns: plain values by section.
    """
    handle = ResRankModel.from_dict({"type": MODEL_TYPE, "init_parameters": dict(model)})
    loaded = handle.load("encoder")
    config = loaded.config
    return {
        "model": {
            "name": handle.model,
            "fingerprint": loaded.fingerprint,
            "dimension": loaded.dimension,
            "mode": config.mode,
            "attention": config.reranker.attention,
            "pooling": loaded.encoder.pooling,
            "max_length": loaded.encoder.max_length,
            "device": str(loaded.runtime.device),
            "dtype": loaded.runtime.dtype_name,
            "attn_implementation": loaded.runtime.attn_implementation,
        },
        "store": _describe_store(store, loaded.dimension, loaded.fingerprint),
        "versions": {"python": platform.python_version(), **{name: package_version(name) for name in _PACKAGES}},
    }


def _describe_store(folder: Path, dimension: int, fingerprint: str) -> dict[str, Any]:
    if not folder.is_dir():
        return {"path": str(folder), "state": "not there yet: resrank index PATH makes it"}
    store = QdrantEdgeDocumentStore(path=str(folder), embedding_dim=dimension)
    try:
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return {
            "path": str(folder),
            "passages": store.count_documents(),
            "fingerprint": store.fingerprint,
            "same_model": store.fingerprint in (None, fingerprint),
            "megabytes": round(size / 1e6, 1),
        }
    finally:
        store.close()


def package_version(package: str) -> str:
    """
    The installed version of a package.

    :param package: its name on the package index.
    :returns: the version, or `not installed`.
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
