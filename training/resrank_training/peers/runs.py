# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What runs of all peers share: what decides them, their log, and the facts and card that stand beside the weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from transformers import AutoConfig

from resrank_evals.environment import describe_environment, weights_hash
from resrank_evals.results import write_whole
from resrank_pipelines.indexing import Progress
from resrank_pipelines.information import package_version
from resrank_training.checkpoints import check_begun, plain_settings
from resrank_training.lists import ListSet

from .orders import Unjudged

DONE = "training.json"
LOG = "log.jsonl"
CARD = "README.md"
_BEGUN = "training.json.part"
_WORK = "checkpoints"
_PACKAGES = ("resrank", "torch", "transformers", "tokenizers")
_LOGGED_EVERY = 10  # steps
_MAY_BE_ZERO = ("lora_rank", "seed")


@dataclass(frozen=True)
class PeerReport:
    """
    What was trained.

    :param steps: of each stage.
    :param lists: that were learnt from.
    :param first_loss: of the last stage's first step.
    :param last_loss: mean over its last ten steps.
    """

    steps: Mapping[str, int]
    lists: int
    first_loss: float
    last_loss: float


def check_settings(settings: Any, *, at_least_two: Sequence[str], may_be_zero: str) -> None:
    """
    Check what the settings of all peers have.

    :param settings: a dataclass with `unjudged`; its other numbers must be positive, or `None` for a default.
    :param at_least_two: numbers below which there is nothing to rank.
    :param may_be_zero: the steps of a stage that may be left out.
    :raises ValueError: for a value that makes no sense.
    """
    for name in at_least_two:
        if getattr(settings, name) < 2:
            msg = f"{name} must be at least 2, got {getattr(settings, name)}"
            raise ValueError(msg)
    if settings.unjudged not in get_args(Unjudged):
        msg = f"unjudged must be one of {', '.join(get_args(Unjudged))}, got {settings.unjudged!r}"
        raise ValueError(msg)
    for name, value in vars(settings).items():
        if value is None or isinstance(value, (str, bool)) or name in _MAY_BE_ZERO:
            continue
        if name == may_be_zero and value < 0:
            msg = f"{name} must be 0 or more, got {value}"
            raise ValueError(msg)
        if name != may_be_zero and not value > 0:
            msg = f"{name} must be positive, got {value}"
            raise ValueError(msg)


def base_config(base: Path) -> Any:
    """
    Read what kind of model a base is.

    :param base: folder of a Hugging Face model.
    :returns: its config.
    :raises ValueError: when there is none that can be read.
    """
    try:
        return AutoConfig.from_pretrained(base, trust_remote_code=False)
    except (OSError, ValueError) as error:
        msg = f"{base} is no model folder ({error}): give a Hugging Face model with config.json"
        raise ValueError(msg) from None


class PeerRun:
    """
    A folder that a peer is trained in.

    :param out: the folder.
    :param method: name of the peer.
    :param settings: a dataclass with `base`, as a user gave it.
    :param base: the folder that this is.
    :param sets: training lists.
    :param facts: whatever else decides the weights, as plain values.
    :param progress: told (stage, step, steps).
    :raises FileExistsError: when the folder holds something finished.
    :raises ValueError: when it was begun with something else.
    """

    def __init__(
        self,
        out: Path,
        *,
        method: str,
        settings: Any,
        base: Path,
        sets: Sequence[ListSet],
        facts: Mapping[str, Any],
        progress: Progress,
    ) -> None:
        self.out, self._progress = out, progress
        self.described: dict[str, Any] = {
            "method": method,
            "settings": plain_settings(settings, base),
            "base_weights": weights_hash(str(base)),
            **facts,
            "lists": [{"name": each.name, "digest": each.digest, "lists": len(each.lists)} for each in sets],
            "versions": {package: package_version(package) for package in _PACKAGES},
        }
        check_begun(out / DONE, out / _BEGUN, self.described, what=method, inputs="settings, lists or packages")
        self._rows: dict[tuple[str, int], dict[str, Any]] = {}

    @property
    def work(self) -> Path:
        """
        Where checkpoints are, and whatever else goes when the run is done.

        :returns: a folder in `out`.
        """
        return self.out / _WORK

    def begin(self) -> None:
        """
        Mark the folder as begun, once nothing is left that a user would have to mend.
        """
        self.work.mkdir(parents=True, exist_ok=True)
        write_whole(self.out / _BEGUN, json.dumps(self.described, indent=2) + "\n")
        with suppress(FileNotFoundError):
            for line in (self.out / LOG).read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                self._rows[row["stage"], row["step"]] = row

    def told(self, stage: str, steps: int) -> Any:
        """
        What a stage reports to.

        :param stage: its name.
        :param steps: of it.
        :returns: takes (step, losses); shows them and keeps every tenth.
        """

        def report(step: int, losses: Mapping[str, float]) -> None:
            if step % _LOGGED_EVERY == 0 or step in (1, steps):
                rounded = {name: round(value, 5) for name, value in losses.items()}
                self._rows[stage, step] = {"stage": stage, "step": step, **rounded}
                write_whole(self.out / LOG, "".join(json.dumps(row) + "\n" for row in self._rows.values()))
                self._progress(stage, step, steps)

        return report

    def finish(self, steps: Mapping[str, int], losses: Sequence[float], card: str) -> PeerReport:
        """
        Write facts and card, once the weights are written.

        :param steps: of each stage.
        :param losses: of the last stage's steps.
        :param card: Markdown before the table of facts.
        :returns: what was trained.
        """
        last = losses[-10:]
        lists = sum(each["lists"] for each in self.described["lists"])
        report = PeerReport(steps, lists, round(losses[0], 5), round(sum(last) / len(last), 5))
        found = {name: value for name, value in asdict(report).items() if name != "lists"}
        facts = {**self.described, **found, "environment": describe_environment(None)}
        write_whole(self.out / CARD, _card(card, self.described, report))
        write_whole(self.out / DONE, json.dumps(facts, indent=2) + "\n")
        (self.out / _BEGUN).unlink()
        shutil.rmtree(self.work)
        return report


def _card(text: str, described: Mapping[str, Any], report: PeerReport) -> str:
    lists = {f"lists of {each['name']}": f"{each['lists']}, digest {each['digest']}" for each in described["lists"]}
    steps = {f"steps: {stage}": count for stage, count in report.steps.items()}
    other = {
        name: value for name, value in described.items() if name not in ("method", "settings", "lists", "versions")
    }
    facts = {**steps, **lists, **other, **described["settings"], **described["versions"]}
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return f"""{text}
Loss of the last stage: {report.first_loss:.4f} at its first step, {report.last_loss:.4f} over its last ten (`{LOG}`).

| what | value |
| --- | --- |
{rows}
"""
