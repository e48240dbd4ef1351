# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Hugging Face's Trainer for a `JointModel`: small checkpoints, a learning rate a part, every loss in the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Trainer

from .parts import trained_state

_WEIGHTS = "model.safetensors"
_PARTS = ("encoder", "reranker", "head")


def as_evaluation(values: Mapping[str, float]) -> dict[str, float]:
    """
    Name figures as the trainer's log does.

    :param values: by name.
    :returns: each name with the prefix `eval_`.
    """
    return {f"eval_{name}": value for name, value in values.items()}


class JointTrainer(Trainer):
    """
    Trains a `JointModel`.

    Checkpoints hold the trained weights only, as safetensors; the others never change. (DeepSpeed writes its own.)

    :param learning_rates: of `encoder`, `reranker` and `head`; a missing one takes the arguments'.
    :param measure: gives what is logged as evaluation, by name.
    :param rest: of `transformers.Trainer`.
    """

    control: Any
    optimizer: Any
    # The loss is a mean over the lists of a batch; the Trainer divides it by the accumulation steps.
    loss_is_scaled_for_ga = False

    def __init__(
        self,
        *,
        learning_rates: Mapping[str, float] | None = None,
        measure: Callable[[], Mapping[str, float]] | None = None,
        **rest: Any,
    ) -> None:
        self._learning_rates = dict(learning_rates or {})
        self._measure = measure
        self._losses: dict[str, list[torch.Tensor]] = {}
        super().__init__(**rest)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,  # noqa: ARG002 - of the base class
    ) -> Any:
        """
        Run the model.

        :param model: a (wrapped) `JointModel`.
        :param inputs: as `Collator` makes them.
        :param return_outputs: whether to return them, too.
        :param num_items_in_batch: not used.
        :returns: the loss, or loss and outputs.
        """
        found = model(**inputs)
        for name, value in found.items():
            if name != "loss":
                self._losses.setdefault(name, []).append(value.detach())
        return (found["loss"], found) if return_outputs else found["loss"]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """
        Log, with the mean of each loss since the last time.

        :param logs: of the base class.
        :param start_time: of the base class.
        """
        if "loss" in logs:
            for name, values in self._losses.items():
                mean = torch.stack(values).mean()
                logs[name] = float(self.accelerator.gather(mean.reshape(1)).mean())
            self._losses.clear()
        super().log(logs, start_time)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """
        Measure.

        :returns: what `measure` gave, each name with the prefix `eval_`.
        """
        found = {} if self._measure is None else as_evaluation(self._measure())
        self.log(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def _prepare_input(self, data: Any) -> Any:
        # The base class would also cast to DeepSpeed's dtype: evidence in bfloat16 ties the first stage's order.
        return send_to_device(data, self.args.device)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """
        Make the optimizer with a learning rate for each part.

        :param model: of the base class.
        :returns: the optimizer.
        """
        if self.optimizer is None:
            of = self.model if model is None else model
            decaying = set(self.get_decay_parameter_names(of))
            groups = []
            for part in _PARTS:
                rate = self._learning_rates.get(part, self.args.learning_rate)
                named = [(n, p) for n, p in trained_state(of).items() if n.startswith(f"{part}.")]
                for decay in (True, False):
                    group = [p for n, p in named if (n in decaying) is decay]
                    if group:
                        weight_decay = self.args.weight_decay if decay else 0.0
                        groups.append({"params": group, "lr": rate, "weight_decay": weight_decay})
            optimizer_class, keywords = self.get_optimizer_cls_and_kwargs(self.args, of)
            self.optimizer = optimizer_class(groups, **keywords)
        return self.optimizer

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if not self.args.should_save:
            return
        folder = Path(str(output_dir if output_dir is not None else self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        trained = trained_state(self.model)
        state = trained if state_dict is None else {name: state_dict[name] for name in trained}
        save_file({n: t.detach().cpu().contiguous() for n, t in state.items()}, folder / _WEIGHTS, {"format": "pt"})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        state = load_file(Path(resume_from_checkpoint) / _WEIGHTS)
        trained = trained_state(self.model if model is None else model)
        if set(state) != set(trained):
            msg = f"{resume_from_checkpoint} is of a stage that trains other weights: name another output folder"
            raise ValueError(msg)
        with torch.no_grad():
            for name, weight in trained.items():
                weight.copy_(state[name])
