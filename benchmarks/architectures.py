# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Sizes of the paper's backbones, written down so that they can be built without a download.

As in the `config.json` of Qwen/Qwen3-Embedding-0.6B, Qwen3-0.6B, Qwen3-Embedding-4B and Qwen3-4B on the hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

COMMON: dict[str, Any] = {
    "max_position_embeddings": 40_960,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}


@dataclass(frozen=True)
class Twin:
    """
    One pair of backbones.

    :param checkpoint: the shipped checkpoint with its prompts and limits.
    :param architecture: values of `Qwen3Config` that encoder and reranker share.
    :param encoder_vocabulary: token embeddings of the encoder.
    :param reranker_vocabulary: token embeddings of the reranker.
    :param tokens: vocabulary of the tokenizer that is trained in place.
    """

    checkpoint: str
    architecture: dict[str, int]
    encoder_vocabulary: int = 151_669
    reranker_vocabulary: int = 151_936
    tokens: int = 16_000


TWINS = {
    "qwen3-0.6b": Twin(
        "resrank-qwen3-0.6b",
        {
            "hidden_size": 1_024,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "intermediate_size": 3_072,
        },
    ),
    "qwen3-4b": Twin(
        "resrank-qwen3-4b",
        {
            "hidden_size": 2_560,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "intermediate_size": 9_728,
        },
    ),
    # Goes through the same code in a second; its figures mean nothing.
    "tiny": Twin(
        "resrank-qwen3-0.6b",
        {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "intermediate_size": 128,
        },
        encoder_vocabulary=4_096,
        reranker_vocabulary=4_096,
        tokens=4_000,
    ),
}
