# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
A checkpoint is one folder: `config.json`, `encoder/`, `reranker/`, `head.safetensors`, `README.md`.

Parts that are missing come from what the config names: the encoder from `encoder.source`, the reranker from
`reranker.source` or from the encoder's layers, the head from safe start. `encoder/` may also be an adapter, an update
of `encoder.source`. Weights are safetensors only.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from .adapter import CONFIG as ADAPTER_CONFIG
from .backbone import load_backbone, load_config, load_tokenizer
from .config import RerankerConfig, ResRankConfig
from .encoder import Encoder, load_encoder
from .head import Head
from .json_file import read_object
from .reranker import Reranker, needs_custom_mask
from .runtime import Runtime
from .sources import sha256_of

# How many of the encoder's last layers a reranker starts from when nothing says otherwise: a probe with 3 of MiniLM's 6
# ranked 100 candidates in 9 ms on 2 cores.
DEFAULT_LAYERS = 3

_LAYER = re.compile(r"((?:^|\.)(?:layer|layers|h)\.)(\d+)(\.)")
_WEIGHTS = "model.safetensors"

Resolver = Callable[[str, str | None], Path]


class Checkpoint:
    """
    The parts of a model, each loaded on its own.

    :param config: of the model.
    :param folder: holds the parts; `None` for a model that is just being put together from its sources.
    :param resolver: finds the folder of a source and revision.
    """

    def __init__(self, config: ResRankConfig, folder: Path | None, resolver: Resolver) -> None:
        self.config = config
        self.folder = folder
        self._resolver = resolver

    def digest(self, fingerprint: str, config: ResRankConfig) -> str:
        """
        Identify what decides the scores.

        :param fingerprint: of the vectors.
        :param config: as it is run.
        :returns: 16 hexadecimal digits.
        """
        found = hashlib.sha256(json.dumps([fingerprint, config.to_dict()], sort_keys=True).encode())
        # The fingerprint stands for the encoder.
        if self.folder is not None:
            for file in sorted([*self.folder.glob("head.safetensors"), *self.folder.glob("reranker/*.safetensors")]):
                found.update(f"{file.name} {sha256_of(file)}".encode())
        return found.hexdigest()[:16]

    def _part(self, name: str) -> Path | None:
        path = None if self.folder is None else self.folder / name
        return path if path is not None and path.exists() else None

    def load_encoder(self, runtime: Runtime) -> tuple[Encoder, str]:
        """
        Load the encoder.

        :param runtime: where and how.
        :returns: the encoder and its fingerprint.
        """
        config = self.config.encoder
        folder = self._part("encoder")
        is_adapter = folder is not None and (folder / ADAPTER_CONFIG).exists()
        if folder is not None and not is_adapter:
            _require_tokenizer(folder)
            return load_encoder(folder, config, runtime)
        if config.source is None:
            found = "only an adapter in encoder/" if is_adapter else "no encoder/ folder"
            msg = f"the checkpoint {self.folder} has {found}, and its config names no encoder.source"
            raise ValueError(msg)
        return load_encoder(self._resolver(config.source, config.revision), config, runtime, folder)

    def load_reranker(self, encoder: Encoder, runtime: Runtime) -> Reranker:
        """
        Load the reranker.

        :param encoder: of the same checkpoint; a reranker that started from its layers shares its token embeddings.
        :param runtime: where and how.
        :returns: the reranker in eval mode.
        :raises ValueError: when the checkpoint is damaged or incomplete.
        """
        config = self.config.reranker
        folder, head = self._part("reranker"), self._part("head.safetensors")
        # Trained parts belong together: one without the other would rank, but wrongly.
        if folder is not None and head is None:
            msg = f"the checkpoint {self.folder} has a reranker/ folder but no head.safetensors: get it again"
            raise ValueError(msg)
        if folder is None and head is not None and config.source is None:
            msg = f"the checkpoint {self.folder} has a head.safetensors but no reranker/ folder: get it again"
            raise ValueError(msg)
        if folder is not None and config.encoder_layers is not None:
            return _load_shared(folder, encoder, config, runtime)
        if folder is not None:
            _require_tokenizer(folder)
            return _load_backbone(folder, config, runtime)
        if config.source is not None:
            return _load_backbone(self._resolver(config.source, config.revision), config, runtime)
        return reranker_from_encoder(encoder, config, runtime)

    def load_head(self, encoder: Encoder, reranker: Reranker, runtime: Runtime) -> Head:
        """
        Load the head, or start it safely.

        :param encoder: of the same checkpoint.
        :param reranker: of the same checkpoint.
        :param runtime: where.
        :returns: the float32 head in eval mode.
        """
        head = Head(
            self.config.mode,
            encoder.dimension,
            reranker.hidden_size,
            reranker.token_norm,
            rrf_k=self.config.rrf_k,
            residual=self.config.residual,
            evidence_share=self.config.evidence_share,
        )
        path = self._part("head.safetensors")
        if path is not None:
            _load_strictly(head, _read_weights(path), path)
        return head.to(runtime.device).eval()


def read_config(folder: Path) -> ResRankConfig:
    """
    Read a checkpoint's config.

    :param folder: the checkpoint.
    :returns: the validated config.
    :raises ValueError: when there is none or it is damaged.
    """
    path = folder / "config.json"
    if not path.is_file():
        msg = f"{folder} is not a ResRank checkpoint: it has no config.json"
        raise ValueError(msg)
    described = read_object(path)
    try:
        return ResRankConfig.from_dict(described)
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        msg = f"{path}: {error}"
        raise ValueError(msg) from error


def reranker_from_encoder(encoder: Encoder, config: RerankerConfig, runtime: Runtime) -> Reranker:
    """
    Start a reranker from layers of the encoder, sharing its token embeddings.

    :param encoder: gives layers, norms, position embeddings and tokenizer.
    :param config: `encoder_layers` says which layers; `None` means the last three.
    :param runtime: where and how.
    :returns: the reranker in eval mode; its layers are copies.
    """
    source = encoder.backbone
    depth = int(source.config.num_hidden_layers)
    layers = config.encoder_layers if config.encoder_layers is not None else tuple(range(depth))[-DEFAULT_LAYERS:]
    if not layers or not all(0 <= layer < depth for layer in layers):
        msg = f"reranker.encoder_layers must name layers 0 to {depth - 1} of the encoder, got {layers}"
        raise ValueError(msg)
    backbone_config = deepcopy(source.config)
    backbone_config.num_hidden_layers = len(layers)
    if getattr(backbone_config, "layer_types", None):
        backbone_config.layer_types = [backbone_config.layer_types[layer] for layer in layers]
    wanted = {layer: new for new, layer in enumerate(layers)}
    state = {}
    for name, tensor in source.state_dict().items():
        match = _LAYER.search(name)
        if match is None:
            state[name] = tensor
        elif int(match[2]) in wanted:
            state[_LAYER.sub(lambda m: f"{m[1]}{wanted[int(m[2])]}{m[3]}", name, count=1)] = tensor
    backbone = _empty_backbone(backbone_config, config, runtime)
    _load_strictly(backbone, state, "the encoder's layers")
    return _share_embeddings(backbone, encoder, config, runtime)


def save_checkpoint(folder: Path, config: ResRankConfig, encoder: Encoder, reranker: Reranker, head: Head) -> None:
    """
    Write a whole checkpoint.

    :param folder: made if missing; files of the same names are replaced.
    :param config: of the model.
    :param encoder: goes to `encoder/`.
    :param reranker: goes to `reranker/`; shared token embeddings are not written twice.
    :param head: goes to `head.safetensors`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").unlink(missing_ok=True)
    encoder.save(folder / "encoder")
    reranker_folder = folder / "reranker"
    reranker_folder.mkdir(exist_ok=True)
    if shares_embeddings(encoder, reranker):
        reranker.backbone.config.save_pretrained(reranker_folder)
        shared = _embedding_name(reranker.backbone)
        state = {k: v.detach().cpu().contiguous() for k, v in reranker.backbone.state_dict().items() if k != shared}
        save_file(state, reranker_folder / _WEIGHTS, metadata={"format": "pt"})
    else:
        reranker.backbone.save_pretrained(reranker_folder)
        reranker.tokenizer.save_pretrained(reranker_folder)
    head_state = {k: v.detach().float().cpu().contiguous() for k, v in head.state_dict().items()}
    save_file(head_state, folder / "head.safetensors", metadata={"format": "pt"})
    # The config comes last: a folder with one is complete.
    (folder / "config.json").write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")


def write_card(folder: Path, config: ResRankConfig, fingerprint: str) -> None:
    """
    Write a model card that says what is known without being told.

    :param folder: of the checkpoint.
    :param config: of the model.
    :param fingerprint: of its encoder.
    """
    encoder = config.encoder
    text = (
        "---\nlibrary_name: resrank\npipeline_tag: text-ranking\n---\n\n# A ResRank model\n\n"
        f"Mode `{config.mode}`, {config.reranker.attention} attention. Encoder: {encoder.pooling} pooling, passages of "
        f"up to {encoder.max_length} tokens, fingerprint `{fingerprint}`.\n\n"
        '```python\nfrom resrank import ResRank\n\nmodel = ResRank.from_pretrained("this folder")\n```\n\n'
        "Data, licences, recipe and figures: to be written by whoever publishes it.\n"
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def shares_embeddings(encoder: Encoder, reranker: Reranker) -> bool:
    """
    Whether the reranker reads the encoder's token embeddings.

    :param encoder: of a model.
    :param reranker: of the same model.
    :returns: true when they are one tensor.
    """
    return _embeddings(encoder.backbone) is _embeddings(reranker.backbone)


def _require_tokenizer(folder: Path) -> None:
    """Without this file's content transformers guesses, and cuts texts otherwise."""
    path = folder / "tokenizer_config.json"
    if "tokenizer_class" not in read_object(path):
        msg = f"{path} names no tokenizer_class: the checkpoint is damaged, get it again"
        raise ValueError(msg)


def _load_shared(folder: Path, encoder: Encoder, config: RerankerConfig, runtime: Runtime) -> Reranker:
    backbone_config = load_config(folder)
    try:
        backbone = _empty_backbone(backbone_config, config, runtime)
    except Exception as error:  # transformers raises whatever a wrong value leads to
        msg = f"{folder / 'config.json'} describes no model that can be made ({error}): it is damaged, get it again"
        raise ValueError(msg) from error
    state, shared = _read_weights(folder / _WEIGHTS), _embedding_name(backbone)
    if shared in state:
        msg = (
            f"{folder} holds token embeddings of its own, but by reranker.encoder_layers in "
            f"{folder.parent / 'config.json'} it shares the encoder's: the checkpoint is damaged, get it again"
        )
        raise ValueError(msg)
    _load_strictly(backbone, {**state, shared: _embeddings(encoder.backbone).weight}, folder)
    return _share_embeddings(backbone, encoder, config, runtime)


def _load_backbone(folder: Path, config: RerankerConfig, runtime: Runtime) -> Reranker:
    attention = _attention(load_config(folder), config, runtime)
    backbone = load_backbone(folder, dtype=runtime.dtype, attn_implementation=attention)
    tokenizer = load_tokenizer(folder)
    try:
        return Reranker(runtime.place(backbone), tokenizer, config).eval()
    except ValueError as error:
        msg = f"{folder}: {error}"
        raise ValueError(msg) from error


def _empty_backbone(backbone_config: Any, config: RerankerConfig, runtime: Runtime) -> Any:
    from transformers import AutoModel

    return AutoModel.from_config(
        backbone_config,
        dtype=torch.float32,
        attn_implementation=_attention(backbone_config, config, runtime),
        trust_remote_code=False,
    )


def _share_embeddings(backbone: Any, encoder: Encoder, config: RerankerConfig, runtime: Runtime) -> Reranker:
    runtime.place(backbone)
    backbone.set_input_embeddings(_embeddings(encoder.backbone))
    return Reranker(backbone, encoder.tokenizer, config).eval()


def _attention(backbone_config: Any, config: RerankerConfig, runtime: Runtime) -> str:
    flash = runtime.attn_implementation == "flash_attention_2"
    if flash and needs_custom_mask(backbone_config, config) and not runtime.attention_was_asked_for:
        return "sdpa"  # FlashAttention 2 drops custom masks
    return runtime.attn_implementation


def _embeddings(backbone: Any) -> Any:
    return backbone.get_input_embeddings()


def _embedding_name(backbone: Any) -> str:
    embeddings = _embeddings(backbone)
    return next(f"{name}.weight" for name, module in backbone.named_modules() if module is embeddings)


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        msg = f"{path} cannot be read ({error}): the checkpoint is damaged or incomplete, get it again"
        raise ValueError(msg) from error


def _load_strictly(module: nn.Module, state: dict[str, torch.Tensor], where: object) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        msg = f"{where} does not fit the model that its config describes: {error}"
        raise ValueError(msg) from error
