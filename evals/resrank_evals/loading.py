# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""From what a user names on the command line to collections, each read only when its turn comes."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .beir import choose_split, collection_name, is_beir, load_beir, splits
from .collection import Collection
from .lines import DuplicateIds, MissingPassages, check_duplicate_ids, check_missing_passages
from .public_sets import NOT_PUBLIC, PRESETS, load_ir_dataset, name_and_split
from .trec import default_name, load_trec

logger = logging.getLogger(__name__)

FORMS = (
    "a folder in BEIR layout, a folder of such folders, irds:<id>, "
    "trec:topics=FILE,qrels=FILE[,corpus=FILE][,name=NAME], or one of " + ", ".join(PRESETS)
)


@dataclass(frozen=True)
class CollectionSource:
    """
    A collection that is not read yet.

    :param name: of the collection.
    :param split: of the qrels.
    :param load: reads it.
    :param folder: of a collection in BEIR layout; `None` for others.
    """

    name: str
    split: str
    load: Callable[[], Collection]
    folder: Path | None = None

    @property
    def label(self) -> str:
        """
        Name collection and split: splits of one collection are different collections to whoever compares results.

        :returns: the name, with the split when it is not `test`.
        """
        return self.name if self.split == "test" else f"{self.name}-{self.split}"


def collection_sources(
    spec: str,
    *,
    split: str | None = None,
    missing_passages: MissingPassages = "error",
    duplicate_ids: DuplicateIds = "error",
) -> list[CollectionSource]:
    """
    Find the collections that a user names. The names are checked here, the content when a collection is read.

    A folder that is called like a preset is named with its path: `./dl19`.

    :param spec: a folder in BEIR layout; a folder that holds several such folders, for all of them, by name;
        `irds:<id>` for a collection of ir_datasets; the name of a preset; or
        `trec:topics=FILE,qrels=FILE[,corpus=FILE][,name=NAME]`.
    :param split: of the qrels. `None` takes `test` when there is one, else `dev`, else the only one. In a folder of
        collections those without the split are left out, with a warning. An id of ir_datasets decides its split itself.
    :param missing_passages: what to do with judgments of passages that a collection lacks: `"error"`, or `"keep"` them
        as passages that no system can find, with a warning.
    :param duplicate_ids: of collections in BEIR layout: what to do with different texts under one id, as `load_beir`.
    :returns: what was found, at least one.
    :raises FileNotFoundError: when a file named in a `trec:` form is missing.
    :raises ValueError: when the spec is none of these forms, or the split does not exist.
    """
    check_missing_passages(missing_passages)
    check_duplicate_ids(duplicate_ids)
    if spec.startswith("irds:"):
        return [_public(spec.removeprefix("irds:"), spec, split, missing_passages)]
    if spec in PRESETS:
        for name, advice in NOT_PUBLIC.get(spec, {}).items():
            logger.warning("%s without %s: %s", spec, name, advice)
        return [_public(id_, spec, split, missing_passages) for id_ in PRESETS[spec]]
    if spec.startswith("trec:"):
        return [_trec(spec, split, missing_passages)]
    return _folders(spec, split, missing_passages, duplicate_ids)


def _folders(
    spec: str, split: str | None, missing_passages: MissingPassages, duplicate_ids: DuplicateIds
) -> list[CollectionSource]:
    folder = Path(spec).expanduser()
    if spec and is_beir(folder):
        return [_beir(folder, split, missing_passages, duplicate_ids)]
    is_folder = bool(spec) and folder.is_dir()
    sets = sorted(path for path in folder.iterdir() if is_beir(path) and path.name[0] != ".") if is_folder else []
    if not sets:
        got = f"the folder {spec} without any corpus.jsonl" if is_folder else repr(spec)
        msg = f"expected {FORMS}; got {got}; docs/data.md describes the layout"
        raise ValueError(msg)
    chosen = [path for path in sets if split is None or split in splits(path)]
    for path in sets:
        if path not in chosen:
            logger.warning("%s is left out: it has no split %s, only %s", path, split, ", ".join(splits(path)))
    if not chosen:
        msg = f"{spec}: expected a collection with the split {split!r}, got none among {len(sets)}; ask for another"
        raise ValueError(msg)
    return [_beir(path, split, missing_passages, duplicate_ids) for path in chosen]


def _beir(
    folder: Path, split: str | None, missing_passages: MissingPassages, duplicate_ids: DuplicateIds
) -> CollectionSource:
    chosen = choose_split(folder, split)
    load = partial(load_beir, folder, chosen, missing_passages=missing_passages, duplicate_ids=duplicate_ids)
    return CollectionSource(name=collection_name(folder), split=chosen, load=load, folder=folder)


def _public(id_: str, spec: str, split: str | None, missing_passages: MissingPassages) -> CollectionSource:
    name, own = name_and_split(id_)
    if split not in (None, own):
        msg = (
            f"{spec}: expected no split, or {own}, the split of {id_}, got {split!r}; name the id of that split instead"
        )
        raise ValueError(msg)
    return CollectionSource(name=name, split=own, load=partial(load_ir_dataset, id_, missing_passages=missing_passages))


def _trec(spec: str, split: str | None, missing_passages: MissingPassages) -> CollectionSource:
    values: dict[str, str] = {}
    # A comma may be part of a path: only one before a known key separates.
    for part in re.split(r",(?=(?:topics|qrels|corpus|name)=)", spec.removeprefix("trec:")):
        key, _, value = part.partition("=")
        if key not in ("topics", "qrels", "corpus", "name") or not value or key in values:
            msg = f"{spec}: expected topics=, qrels=, corpus= and name= once each, got {part!r}; the form is {FORMS}"
            raise ValueError(msg)
        values[key] = value
    lacking = [key for key in ("topics", "qrels") if key not in values]
    if lacking:
        msg = f"{spec}: expected topics= and qrels=, got no {' and no '.join(lacking)}; name the file"
        raise ValueError(msg)
    name = values.pop("name", None)
    label = "test" if split is None else split
    files = {key: Path(value).expanduser() for key, value in values.items()}
    for key, path in files.items():
        if not path.is_file():
            msg = f"{spec}: expected a file as {key}, got {path}, which is none; name an existing file"
            raise FileNotFoundError(msg)
    load = partial(
        load_trec,
        topics=files["topics"],
        qrels=files["qrels"],
        corpus=files.get("corpus"),
        name=name,
        split=label,
        missing_passages=missing_passages,
    )
    return CollectionSource(name=default_name(files["qrels"]) if name is None else name, split=label, load=load)
