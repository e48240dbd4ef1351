# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""A causal language model made of an encoder's layers, for methods that need one where only an encoder is at hand."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from resrank.backbone import UNUSED_PREFIX, load_backbone, load_tokenizer

from .runs import base_config


def is_language_model(folder: Path) -> bool:
    """
    Tell language models from encoders.

    :param folder: of a Hugging Face model.
    :returns: whether its weights are those of a causal language model, by what its config says.
    :raises ValueError: when there is no config that can be read.
    """
    config = base_config(folder)
    causal = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    encoder = hasattr(config, "is_decoder") and not config.is_decoder and config.model_type == "bert"
    return not encoder and bool(causal.intersection(config.architectures or ()))


def language_model_from_encoder(base: Path, folder: Path, seed: int = 0) -> None:
    """
    Write a causal language model with an encoder's weights.

    Embeddings and layers are the encoder's, with attention to earlier tokens alone; the output embeddings are tied to
    the token embeddings. What an encoder lacks starts fresh: BERT's output transform and biases. It speaks no language
    before it is trained.

    :param base: folder of a BERT-type encoder; its [CLS] and [SEP] become first and end token.
    :param folder: made if missing; `AutoModelForCausalLM` loads it without a missing weight.
    :param seed: of the fresh weights.
    :raises ValueError: for another kind of model.
    """
    backbone, tokenizer = load_backbone(base, dtype=torch.float32, attn_implementation="sdpa"), load_tokenizer(base)
    config = backbone.config
    if config.model_type != "bert" or tokenizer.cls_token is None or tokenizer.sep_token is None:
        msg = (
            f"expected a BERT-type encoder with the tokens [CLS] and [SEP], got {config.model_type} in {base}: give a "
            "causal language model instead"
        )
        raise ValueError(msg)
    tokenizer.bos_token, tokenizer.eos_token = tokenizer.cls_token, tokenizer.sep_token
    config.is_decoder, config.tie_word_embeddings = True, True
    config.bos_token_id, config.eos_token_id = tokenizer.cls_token_id, tokenizer.sep_token_id
    devices: list[int] = []  # the caller's draws are its own
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    weights = {name: w for name, w in backbone.state_dict().items() if not name.startswith(UNUSED_PREFIX)}
    model.base_model.load_state_dict(weights)
    model.tie_weights()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
