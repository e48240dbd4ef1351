# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
An encoder that is a pinned base and a low-rank update, in PEFT's folder layout.

The update is merged when the encoder loads, so nothing of it is left at run time, and PEFT is not needed. It is merged
in float64: the rounded sum, and with it the fingerprint, is then the same on every machine.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .json_file import read_object

CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"


@torch.no_grad()
def merge_adapter(backbone: Any, folder: Path) -> None:
    """
    Add an adapter's update to the weights of a backbone: W + (alpha / r) B A (Hu et al., arXiv 2106.09685, Eq. 3).

    :param backbone: of the base; changed in place.
    :param folder: with `adapter_config.json` and `adapter_model.safetensors`.
    :raises ValueError: when it is damaged, of another kind, or of another base.
    """
    config = read_object(folder / CONFIG)
    try:
        state = load_file(folder / _WEIGHTS)
        scale = _number(config, "lora_alpha") / _number(config, "r")
    except (OSError, SafetensorError, ValueError, OverflowError, ZeroDivisionError) as error:
        msg = f"the adapter in {folder} cannot be read ({error}): it is damaged or incomplete, get it again"
        raise ValueError(msg) from error
    plain = config.get("peft_type") == "LORA" and config.get("bias", "none") == "none"
    extras = [key for key in ("use_dora", "use_rslora", "fan_in_fan_out", "modules_to_save") if config.get(key)]
    if not plain or extras or config.get("rank_pattern") or config.get("alpha_pattern"):
        got = f"{config.get('peft_type')} with {', '.join(extras) or 'biases or patterns'}"
        msg = f"{folder}: expected a plain LoRA adapter, got {got}: merge it into its base and save that instead"
        raise ValueError(msg)
    names = sorted(name.removesuffix(_A) for name in state if name.endswith(_A))
    expected = {name + suffix for name in names for suffix in (_A, _B)}
    if set(state) != expected or not names:
        msg = f"{folder}: expected pairs of lora_A and lora_B weights, got {sorted(set(state) ^ expected)[:3]}"
        raise ValueError(msg)
    weights = dict(backbone.named_parameters())
    for name in names:
        down, up = state[name + _A].double(), state[name + _B].double()
        target = weights.get(f"{name.removeprefix(_PREFIX)}.weight")
        if target is None or target.shape != (up.shape[0], down.shape[1]):
            got = "no such weight" if target is None else f"one of {tuple(target.shape)}"
            msg = f"{folder} does not fit the base: {name} updates {(up.shape[0], down.shape[1])}, the base has {got}"
            raise ValueError(msg)
        target.copy_((target.double() + scale * (up @ down)).to(target.dtype))


def save_adapter(folder: Path, factors: dict[str, tuple[torch.Tensor, torch.Tensor]], base: str, dtype: Any) -> None:
    """
    Write an adapter.

    :param folder: made if missing.
    :param factors: (A, B) by the name of the module whose weight gets B A added; all of one rank.
    :param base: what it is an update of.
    :param dtype: of the written weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rank = len(next(iter(factors.values()))[0])
    state = {}
    for name, (down, up) in factors.items():
        state[f"{_PREFIX}{name}{_A}"] = down.to(dtype).contiguous()
        state[f"{_PREFIX}{name}{_B}"] = up.to(dtype).contiguous()
    save_file(state, folder / _WEIGHTS, metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": rank,  # the factors hold the whole update
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(factors),
        "task_type": "FEATURE_EXTRACTION",
        "inference_mode": True,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _number(config: dict[str, Any], name: str) -> float:
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        msg = f"{CONFIG} needs a number as {name}, got {value!r}"
        raise ValueError(msg)
    return float(value)
