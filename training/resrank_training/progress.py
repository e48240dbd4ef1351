# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What a person sees while a stage is trained: a bar on stderr, and a line whenever something is logged."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .losses import LOSSES

_SHOWN = ("loss", *LOSSES, "eval_ndcg@10", "eval_ndcg@10_pure")


class TrainingProgress(TrainerCallback):
    """
    Replaces the trainer's own display, which writes to stdout, where programs read.

    :param name: of the stage.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar: tqdm[Any] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """
        Open the bar.

        :param args: of the trainer.
        :param state: of the trainer.
        :param control: of the trainer.
        :returns: control, unchanged.
        """
        if state.is_world_process_zero:
            self._bar = tqdm(
                total=state.max_steps,
                initial=state.global_step,
                desc=self._name,
                unit="step",
                delay=2,
                disable=args.disable_tqdm,
            )
        return control

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002 - the trainer's signature
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> TrainerControl:
        """
        Move the bar.

        :param args: of the trainer.
        :param state: of the trainer.
        :param control: of the trainer.
        :returns: control, unchanged.
        """
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)
        return control

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002 - the trainer's signature
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> TrainerControl:
        """
        Write a line above the bar.

        :param args: of the trainer.
        :param state: of the trainer.
        :param control: of the trainer.
        :param logs: what was logged.
        :returns: control, unchanged.
        """
        shown = [f"{key.removeprefix('eval_')} {logs[key]:.4g}" for key in _SHOWN if logs and key in logs]
        if self._bar is not None and shown:
            line = f"{self._name}: step {state.global_step:,} of {state.max_steps:,}: {', '.join(shown)}"
            tqdm.write(line, file=sys.stderr)
        return control

    def on_train_end(
        self,
        args: TrainingArguments,  # noqa: ARG002 - the trainer's signature
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,
        **_: Any,
    ) -> TrainerControl:
        """
        Close the bar.

        :param args: of the trainer.
        :param state: of the trainer.
        :param control: of the trainer.
        :returns: control, unchanged.
        """
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        return control
