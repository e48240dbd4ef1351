# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""An embedder of E2Rank's form made of a BERT-type encoder: an end token, last-token pooling and a chat template."""

from __future__ import annotations

from pathlib import Path

import torch

from resrank.backbone import load_backbone, load_tokenizer
from resrank.config import EncoderConfig
from resrank.encoder import Encoder
from resrank_evals.peers.e2rank import END

_TEMPLATE = (
    "{% for message in messages %}FIRST{{ message.content }}{% endfor %}{% if add_generation_prompt %}LAST{% endif %}"
)


def embedder_from_encoder(base: Path, folder: Path) -> None:
    """
    Write an embedder that `E2RankRanker` loads.

    The end token is new and starts as [SEP]; the prompt is the message between [CLS] and [SEP]. Attention stays
    bidirectional, unlike that of the published models. Before it is trained, its last token says little of the text.

    :param base: folder of a BERT-type encoder.
    :param folder: made if missing.
    :raises ValueError: for another kind of model.
    """
    backbone, tokenizer = load_backbone(base, dtype=torch.float32, attn_implementation="sdpa"), load_tokenizer(base)
    if backbone.config.model_type != "bert" or tokenizer.cls_token is None or tokenizer.sep_token is None:
        found = backbone.config.model_type
        msg = (
            f"expected a BERT-type encoder with the tokens [CLS] and [SEP], got {found} in {base}: give a Qwen3-type "
            "embedding model with last-token pooling instead"
        )
        raise ValueError(msg)
    tokenizer.add_tokens([END], special_tokens=True)
    tokenizer.chat_template = _TEMPLATE.replace("FIRST", tokenizer.cls_token).replace("LAST", tokenizer.sep_token)
    backbone.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    embeddings = backbone.get_input_embeddings().weight
    with torch.no_grad():
        embeddings[tokenizer.convert_tokens_to_ids(END)] = embeddings[tokenizer.sep_token_id]
    positions = backbone.config.max_position_embeddings
    Encoder(backbone, tokenizer, EncoderConfig(pooling="last", max_length=positions)).save(folder)
