# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The mean of the weights along the last part of a stage, which generalises better than where it happens to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .parts import trained_state

_FILE = "average.safetensors"
_COUNT = "steps"


class WeightAverage(TrainerCallback):
    """
    Keeps the running mean of all trained weights (stochastic weight averaging, Izmailov et al., arXiv 1803.05407).

    :param model: whose weights.
    :param start: share of the steps after which it begins.
    """

    def __init__(self, model: nn.Module, start: float) -> None:
        self._model, self._start = model, start
        self._mean: dict[str, torch.Tensor] = {}
        self._steps = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """
        Go on from what the checkpoint kept.

        :param args: of the trainer.
        :param state: of the trainer.
        :param control: of the trainer.
        :returns: control, unchanged.
        """
        path = _checkpoint(args, state) / _FILE
        if state.global_step and path.is_file():
            kept = load_file(path)
            self._steps = int(kept.pop(_COUNT))
            self._mean = kept
        return control

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002 - the trainer's signature
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> TrainerControl:
        """
        Count a step.

        :param args: of the trainer.
        :param state: of the trainer.
        :param control: of the trainer.
        :returns: control, unchanged.
        """
        if state.global_step > self._start * state.max_steps:
            self._steps += 1
            for name, weight in trained_state(self._model).items():
                now = weight.detach().float().cpu()
                if name in self._mean:
                    self._mean[name] += (now - self._mean[name]) / self._steps
                else:
                    self._mean[name] = now.clone()
        return control

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """
        Keep it with the checkpoint.

        :param args: of the trainer.
        :param state: of the trainer.
        :param control: of the trainer.
        :returns: control, unchanged.
        """
        if self._mean and args.should_save:
            path = _checkpoint(args, state) / _FILE
            partial = path.with_suffix(".part")
            save_file({**self._mean, _COUNT: torch.tensor(self._steps)}, partial)
            partial.replace(path)
        return control

    def is_kept(self, checkpoint: Path, step: int, max_steps: int) -> bool:
        """
        Whether a checkpoint has all that is needed to go on from it.

        :param checkpoint: its folder.
        :param step: at which it was written.
        :param max_steps: of the stage.
        :returns: false when the mean had begun and is not there.
        """
        return step <= self._start * max_steps or (checkpoint / _FILE).is_file()

    @torch.no_grad()
    def apply(self) -> int:
        """
        Put the mean into the model.

        :returns: over how many steps it was taken; 0 leaves the model as it is.
        """
        for name, weight in trained_state(self._model).items():
            if name in self._mean:
                weight.copy_(self._mean[name])
        return self._steps


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
