# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""`resrank.json`: what a store's folder holds."""

import contextlib
import json
import os
import re
import uuid
from dataclasses import dataclass, field
from typing import Any

from .converters import TRAITS

MANIFEST_NAME = "resrank.json"
SHARD_NAME = "shard"  # of a new collection; an index that was built aside comes with a name of its own
WRITING = f"{MANIFEST_NAME}.writing-"
_FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """
    What a collection is and holds, as kept in `resrank.json`.

    :param embedding_dim: Dimension of the dense vectors.
    :param similarity: `dot_product`, `cosine` or `l2`.
    :param use_sparse_embeddings: Whether the collection has sparse vectors.
    :param fingerprint: Which model made the vectors; `None` until the first one is written.
    :param traits: The `TRAITS` that a document of the collection ever had.
    :param shard: Name of the folder with the engine's files.
    :param settings: The settings of the index and of quantisation that are in force; see `engine_config`.
    :param indexed: Those that the index was built with; `None` before the first one.
    """

    embedding_dim: int
    similarity: str
    use_sparse_embeddings: bool
    fingerprint: str | None = None
    traits: frozenset[str] = field(default_factory=frozenset)
    shard: str = SHARD_NAME
    settings: dict[str, Any] = field(default_factory=dict)
    indexed: dict[str, Any] | None = None


def read_manifest(folder: str) -> Manifest | None:
    """
    Read the manifest of a store's folder.

    :param folder: The folder, which need not exist.
    :returns: The manifest, or `None` if there is none.
    :raises ValueError: If it cannot be understood.
    """
    path = os.path.join(folder, MANIFEST_NAME)
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        values = json.loads(text)
        version = values.pop("format")
        if version != _FORMAT:
            msg = f"{path} has format {version!r}; this version of resrank reads format {_FORMAT}. Upgrade resrank."
            raise ValueError(msg)
        traits = frozenset(values.pop("traits"))
        if not traits <= TRAITS:
            msg = f"{path} names the unknown traits {sorted(traits - TRAITS)}. Upgrade resrank."
            raise ValueError(msg)
        manifest = Manifest(**values, traits=traits)
        if not isinstance(manifest.shard, str) or not re.fullmatch(rf"{SHARD_NAME}(-[0-9a-f]+)?", manifest.shard):
            msg = f"{path} names the folder {manifest.shard!r}, which is not the engine's. Restore it from a backup."
            raise ValueError(msg)
        return manifest
    except (AttributeError, KeyError, TypeError, json.JSONDecodeError) as error:
        msg = f"{path} is not a manifest that this version of resrank can read ({error}). Restore it from a backup."
        raise ValueError(msg) from error


def sync_folder(folder: str) -> None:
    """
    Make renames in a folder durable, where the system can.

    :param folder: The folder.
    """
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_manifest(folder: str, manifest: Manifest, *, first: bool = False) -> None:
    """
    Write the manifest whole and durably.

    :param folder: The folder of the store.
    :param manifest: What to write.
    :param first: Whether there must be none yet.
    :raises FileExistsError: With `first`, if another process was faster.
    """
    values = {"format": _FORMAT, **vars(manifest), "traits": sorted(manifest.traits)}
    path = os.path.join(folder, MANIFEST_NAME)
    temporary = os.path.join(folder, f"{WRITING}{os.getpid()}-{uuid.uuid4().hex}")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(values, file)
            file.flush()
            os.fsync(file.fileno())
        if first:
            try:
                os.link(temporary, path)
            except FileExistsError:
                raise
            except OSError:  # a file system without hard links
                os.rename(temporary, path)
        else:
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
    sync_folder(folder)
