# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Which weights of a model a stage trains: all, low-rank adapters, or none of a part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from resrank import ResRank
from resrank.backbone import UNUSED_PREFIX

from .settings import Lora, Stage, Trained

_POOLER = UNUSED_PREFIX.rstrip(".")


def prepare(model: ResRank, stage: Stage) -> None:
    """
    Switch on the gradients that a stage wants, and add its adapters. The head is trained when there is a ranking loss.

    :param model: loaded; changed in place.
    :param stage: what it trains.
    """
    encoder, reranker, head = model.encoder, model.reranker, model.head
    if stage.dropout is not None:  # before adapters bring their own
        set_dropout(encoder, stage.dropout)
        set_dropout(reranker, stage.dropout)
    for part in (encoder, reranker, head):
        part.requires_grad_(False)
    # Token embeddings that both share belong to the encoder.
    shared = {id(parameter) for parameter in encoder.parameters()}
    reranker.backbone = _trainable(reranker.backbone, stage.reranker, stage.lora, shared)
    encoder.backbone = _trainable(encoder.backbone, stage.encoder, stage.lora, set())
    head.requires_grad_(stage.ranks)


def merge(model: ResRank) -> None:
    """
    Fold adapters into the weights they adapt, and switch gradients off.

    :param model: that `prepare` changed; changed in place.
    """
    for part in (model.encoder, model.reranker):
        if hasattr(part.backbone, "merge_and_unload"):
            part.backbone = part.backbone.merge_and_unload()
        part.requires_grad_(False)
        part.eval()
    model.head.requires_grad_(False)
    model.head.eval()
    model.weights_changed()


def copied_weights(model: ResRank) -> dict[str, torch.Tensor]:
    """
    The weights as they are now.

    :param model: loaded, without adapters.
    :returns: copies, by part and name.
    """
    return {name: weight.detach().clone() for name, weight in _weights(model)}


@torch.no_grad()
def keep_share(model: ResRank, start: dict[str, torch.Tensor], share: float) -> None:
    """
    Take a share of what training changed.

    The mean of the weights before and after often generalises better than either (WiSE-FT, Wortsman et al. 2022, arXiv
    2109.01903).

    :param model: after training, without adapters; changed in place.
    :param start: `copied_weights` from before.
    :param share: between 0, the start, and 1, all of it.
    """
    for name, weight in _weights(model):
        weight.lerp_(start[name], 1 - share)
    model.weights_changed()


def trained_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """
    The weights that are trained.

    :param module: any.
    :returns: by name; not copied.
    """
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def _weights(model: ResRank) -> Iterator[tuple[str, nn.Parameter]]:
    for part in ("encoder", "reranker", "head"):
        for name, weight in getattr(model, part).named_parameters():
            yield f"{part}.{name}", weight


def set_dropout(part: nn.Module, share: float) -> None:
    """
    Set how much a backbone drops in training.

    :param part: a BERT-type or Qwen3-type backbone; changed in place.
    :param share: of activations and of attention.
    """
    module: Any
    for module in part.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
        elif isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = share  # Qwen3-type layers keep a number instead of a module


def _trainable(backbone: Any, how: Trained, lora: Lora, shared: set[int]) -> Any:
    if how == "full":
        for name, parameter in backbone.named_parameters():
            # The pooler gets no gradient, which DDP would wait for.
            parameter.requires_grad_(id(parameter) not in shared and not name.startswith(UNUSED_PREFIX))
    if how != "lora":
        return backbone
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        exclude_modules=None if isinstance(lora.target_modules, list) else rf".*\b{_POOLER}\b.*",
    )
    return get_peft_model(backbone, config)
