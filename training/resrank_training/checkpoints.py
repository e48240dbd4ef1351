# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Checkpoints of a Hugging Face trainer, as a killed run left them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any


def checkpoints(folder: Path) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """
    The checkpoints of a run.

    :param folder: the trainer's `output_dir`; may be missing.
    :returns: an iterator over (folder, trainer's state), newest first. The state is written last: `None` for a
        checkpoint that was not written to its end.
    """
    found = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    for path in sorted(found, key=lambda each: -int(each.name.rpartition("-")[2])):
        try:
            yield path, json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            yield path, None


def last_whole(folder: Path) -> tuple[Path | None, dict[str, Any]]:
    """
    The checkpoint to go on from. Those that a kill left unfinished are deleted.

    :param folder: the trainer's `output_dir`; may be missing.
    :returns: the newest whole one and its state; `None` and no state when there is none.
    """
    for path, state in checkpoints(folder):
        if state is not None:
            return path, state
        shutil.rmtree(path)
    return None, {}


def plain_settings(settings: Any, base: Path) -> dict[str, Any]:
    """
    Settings as they are kept beside the weights, without a path of this machine.

    :param settings: a dataclass with `base`, as a user gave it.
    :param base: the folder that this is.
    :returns: plain values; a base that was given as a folder goes by the folder's name.
    """
    local = Path(settings.base).expanduser().is_dir()
    return {**asdict(settings), "base": base.name if local else settings.base}


def check_begun(done: Path, begun: Path, described: Mapping[str, Any], *, what: str, inputs: str) -> None:
    """
    Refuse a folder that holds something finished, or something begun otherwise.

    :param done: the file that says that it is finished.
    :param begun: the file that says what it was begun with; may be missing.
    :param described: everything that decides the result, as `begun` holds it.
    :param what: is trained, for the message.
    :param inputs: what may differ, for the message.
    :raises FileExistsError: when it is finished.
    :raises ValueError: when it was begun with something else.
    """
    if done.is_file():
        msg = f"{done.parent} holds a finished {what}: name another folder, or remove it to train it again"
        raise FileExistsError(msg)
    if begun.is_file() and json.loads(begun.read_text(encoding="utf-8")) != described:
        msg = f"{begun.parent} was begun with other {inputs} ({begun}): name another folder, or remove it"
        raise ValueError(msg)
