# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Hugging Face backbones, loaded strictly: safetensors only, every weight there, and errors that name the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .json_file import read_object

# A weight that may be missing: pooling never sees it, and many encoder folders leave it out.
UNUSED_PREFIX = "pooler."


def load_config(folder: Path) -> Any:
    """
    Load a backbone's config.

    :param folder: with a `config.json`.
    :returns: the config of transformers.
    :raises ValueError: when it is missing, damaged, or of a kind that transformers does not know.
    """
    from transformers import AutoConfig

    path = folder / "config.json"
    read_object(path)
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers raises whatever a wrong value leads to
        msg = f"{path} cannot be read ({_said(error)}): it is damaged or of a kind that is not supported, get it again"
        raise ValueError(msg) from error


def load_backbone(folder: Path, *, dtype: Any, attn_implementation: str) -> Any:
    """
    Load a backbone. Weights that are missing would be drawn at random by `transformers`: here they are an error.

    :param folder: with a config and safetensors weights.
    :param dtype: a torch dtype, or `auto` for the one it was saved in.
    :param attn_implementation: the Hugging Face name.
    :returns: the backbone, on the CPU.
    :raises ValueError: when files or weights are missing or damaged.
    """
    from transformers import AutoModel

    load_config(folder)
    try:
        backbone, report = AutoModel.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=attn_implementation,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # likewise
        msg = f"the model in {folder} cannot be read ({_said(error)}): it is damaged or incomplete, get it again"
        raise ValueError(msg) from error
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(UNUSED_PREFIX))
    if missing:
        msg = (
            f"the model in {folder} lacks {len(missing)} weights ({', '.join(missing[:3])}"
            f"{', …' if len(missing) > 3 else ''}): it is damaged or incomplete, get it again"
        )
        raise ValueError(msg)
    return backbone


def load_tokenizer(folder: Path) -> Any:
    """
    Load a tokenizer.

    :param folder: with a `tokenizer.json`.
    :returns: the tokenizer.
    :raises ValueError: when it is missing or damaged.
    """
    from transformers import AutoTokenizer

    _check_sections(folder / "tokenizer.json")
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare exceptions
        msg = f"the tokenizer in {folder} cannot be read ({_said(error)}): it is damaged or incomplete, get it again"
        raise ValueError(msg) from error


def _check_sections(path: Path) -> None:
    """The tokenizers library takes some lists for objects, and then cuts texts otherwise."""
    if not path.is_file():
        return  # older folders have a vocabulary only
    described = read_object(path)
    for name in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        if not isinstance(described.get(name), dict | None):
            msg = f"{path}: expected an object or null as {name}, got {type(described[name]).__name__}: get it again"
            raise ValueError(msg)


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
