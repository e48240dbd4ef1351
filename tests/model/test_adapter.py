# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""An encoder as a base and a low-rank update: the sum is right, PEFT agrees, and what does not fit is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModel

from resrank import ResRank
from resrank.adapter import save_adapter

RANK = 3
MODULES = ("encoder.layer.0.attention.self.query", "encoder.layer.1.output.dense")


@pytest.fixture
def factors(mini_encoder_folder: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    backbone = AutoModel.from_pretrained(mini_encoder_folder)
    generator = torch.Generator().manual_seed(4)
    found = {}
    for name in MODULES:
        rows, columns = backbone.get_submodule(name).weight.shape
        down, up = torch.randn(RANK, columns, generator=generator), torch.randn(rows, RANK, generator=generator)
        found[name] = (0.1 * down, 0.1 * up)
    return found


@pytest.fixture
def checkpoint(
    tiny_safe_checkpoint: Path,
    mini_encoder_folder: Path,
    factors: dict[str, tuple[torch.Tensor, torch.Tensor]],
    tmp_path: Path,
) -> Path:
    """A checkpoint without reranker and head, whose encoder is an adapter."""
    folder = tmp_path / "checkpoint"
    save_adapter(folder / "encoder", factors, str(mini_encoder_folder), torch.float32)
    config = json.loads((tiny_safe_checkpoint / "config.json").read_text())
    config["encoder"]["source"] = str(mini_encoder_folder)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _load(folder: Path, **options: Any) -> ResRank:
    return ResRank.from_pretrained(folder, device="cpu", **{"dtype": "float32", **options})


def test_the_update_is_added(
    checkpoint: Path, mini_encoder_folder: Path, factors: dict[str, tuple[torch.Tensor, torch.Tensor]]
) -> None:
    base = AutoModel.from_pretrained(mini_encoder_folder).state_dict()
    merged = _load(checkpoint).encoder.backbone.state_dict()
    for name, weight in base.items():
        module = name.removesuffix(".weight")
        expected = weight + factors[module][1] @ factors[module][0] if module in factors else weight
        torch.testing.assert_close(merged[name], expected, atol=1e-6, rtol=1e-5)


def test_peft_reads_it_alike(checkpoint: Path, mini_encoder_folder: Path) -> None:
    theirs = PeftModel.from_pretrained(AutoModel.from_pretrained(mini_encoder_folder), checkpoint / "encoder").eval()
    ours = _load(checkpoint).encoder.backbone
    ids = torch.arange(5, 15)[None]
    with torch.no_grad():
        expected, found = theirs(input_ids=ids).last_hidden_state, ours(input_ids=ids).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_it_has_a_fingerprint_of_its_own_that_does_not_depend_on_the_dtype(
    checkpoint: Path, tiny_safe_checkpoint: Path
) -> None:
    model = _load(checkpoint)
    assert model.fingerprint != _load(tiny_safe_checkpoint).fingerprint
    assert _load(checkpoint, dtype="bfloat16").fingerprint == model.fingerprint


def test_saved_whole_it_is_the_same_model(
    checkpoint: Path, tmp_path: Path, corpus: tuple[str, ...], randomise_head: Callable[..., ResRank]
) -> None:
    model = randomise_head(_load(checkpoint))
    model.save_pretrained(tmp_path / "whole")
    whole = _load(tmp_path / "whole")
    assert not (tmp_path / "whole" / "encoder" / "adapter_config.json").exists()
    assert whole.fingerprint == model.fingerprint
    vectors = model.encode_passages(list(corpus))
    np.testing.assert_array_equal(whole.encode_passages(list(corpus)), vectors)
    np.testing.assert_allclose(whole.rerank("bread", vectors), model.rerank("bread", vectors), atol=1e-5)


def _edit(folder: Path, **changes: Any) -> None:
    path = folder / "encoder" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "changes", [{"peft_type": "IA3"}, {"bias": "all"}, {"use_dora": True}, {"rank_pattern": {"query": 8}}]
)
def test_other_adapters_are_refused(checkpoint: Path, changes: dict[str, Any]) -> None:
    _edit(checkpoint, **changes)
    with pytest.raises(ValueError, match=r"expected a plain LoRA adapter, got .*: merge it into its base"):
        _ = _load(checkpoint).encoder


def test_damaged_adapters_are_refused(checkpoint: Path) -> None:
    weights = checkpoint / "encoder" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match="it is damaged or incomplete, get it again"):
        _ = _load(checkpoint).encoder
    weights.unlink()
    with pytest.raises(ValueError, match="it is damaged or incomplete, get it again"):
        _ = _load(checkpoint).encoder


def test_an_adapter_of_another_base_is_refused(checkpoint: Path, qwen_encoder_folder: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    config["encoder"]["source"] = str(qwen_encoder_folder)
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"does not fit the base: .* the base has no such weight"):
        _ = _load(checkpoint).encoder


def test_an_adapter_without_a_base_is_refused(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    config["encoder"]["source"] = None
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"only an adapter in encoder/, and its config names no encoder\.source"):
        _ = _load(checkpoint).encoder
