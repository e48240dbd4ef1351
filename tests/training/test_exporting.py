# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What is published ranks as what was trained, in fewer bytes, and its card says how it came about."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from resrank import ResRank
from resrank_training.exporting import export, factorise, write_model_card


@pytest.fixture
def trained(tiny_mini: Callable[..., ResRank], randomise_head: Callable[..., ResRank], tmp_path: Path) -> Path:
    """A checkpoint whose encoder moved from its base by an update of rank 4."""
    model = randomise_head(tiny_mini()).load()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name in ("encoder.layer.0.attention.self.query", "encoder.layer.2.intermediate.dense"):
            weight = model.encoder.backbone.get_submodule(name).weight
            down = torch.randn(4, weight.shape[1], generator=generator)
            weight += 0.02 * torch.randn(weight.shape[0], 4, generator=generator) @ down
    model.weights_changed()
    model.save_pretrained(tmp_path / "trained")
    return tmp_path / "trained"


def _vectors(model: ResRank, corpus: tuple[str, ...]) -> np.ndarray:
    return model.encode_passages(list(corpus))


def test_an_adapter_holds_the_whole_update(
    trained: Path, mini_encoder_folder: Path, tmp_path: Path, corpus: tuple[str, ...]
) -> None:
    before = ResRank.from_pretrained(trained, device="cpu", dtype="float32")
    after = export(trained, tmp_path / "out", adapter_base=str(mini_encoder_folder))
    config = json.loads((tmp_path / "out" / "encoder" / "adapter_config.json").read_text())
    assert config["r"] == 4
    assert sorted(path.name for path in (tmp_path / "out" / "encoder").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    vectors = _vectors(before, corpus)
    np.testing.assert_allclose(_vectors(after, corpus), vectors, atol=1e-5)
    np.testing.assert_allclose(after.rerank("bread", vectors), before.rerank("bread", vectors), atol=1e-3)


@pytest.mark.parametrize(("dtype", "size"), [("float16", 0.5), ("bfloat16", 0.5), ("float32", 1.0)])
def test_smaller_weights(trained: Path, tmp_path: Path, dtype: str, size: float, corpus: tuple[str, ...]) -> None:
    before = ResRank.from_pretrained(trained, device="cpu", dtype="float32")
    after = export(trained, tmp_path / "out", dtype=dtype)
    for file in ("reranker/model.safetensors", "encoder/model.safetensors"):
        ratio = (tmp_path / "out" / file).stat().st_size / (trained / file).stat().st_size
        assert ratio == pytest.approx(size, abs=0.1)
    assert next(after.reranker.parameters()).dtype == torch.float32
    np.testing.assert_allclose(_vectors(after, corpus), _vectors(before, corpus), atol=2e-2)


def test_the_encoder_that_lists_were_mined_with_stays_as_it_is(
    trained: Path, mini_encoder_folder: Path, tmp_path: Path, randomise_head: Callable[..., ResRank]
) -> None:
    first = export(trained, tmp_path / "first", adapter_base=str(mini_encoder_folder), dtype="float16")
    randomise_head(first, seed=9).save_pretrained(tmp_path / "later")  # as `fit` writes it, with the encoder merged
    made = export(tmp_path / "later", tmp_path / "out", encoder_from=tmp_path / "first", dtype="float16")
    assert made.fingerprint == first.fingerprint
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "out" / "encoder" / file).read_bytes() == (
            tmp_path / "first" / "encoder" / file
        ).read_bytes()
    torch.testing.assert_close(made.head.query_out.weight, first.head.query_out.weight, atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match="expected a checkpoint whose encoder gives the same vectors as"):
        export(tmp_path / "later", tmp_path / "no", encoder_from=trained)
    assert not (tmp_path / "no").exists()


def test_a_smaller_rank_is_the_best_one_of_that_rank(trained: Path, tiny_mini: Callable[..., ResRank]) -> None:
    base = tiny_mini().encoder
    tuned = ResRank.from_pretrained(trained, device="cpu", dtype="float32").encoder
    name = "encoder.layer.0.attention.self.query"
    change = (tuned.backbone.get_submodule(name).weight - base.backbone.get_submodule(name).weight).detach()
    down, up = factorise(base, tuned, rank=2)[name]
    assert len(down) == 2
    singular = torch.linalg.svdvals(change)
    assert float((change - up @ down).norm()) == pytest.approx(float(singular[2:].norm()), rel=1e-3)


def test_what_is_no_update_is_refused(
    trained: Path, tiny_mini: Callable[..., ResRank], mini_encoder_folder: Path, tmp_path: Path
) -> None:
    base = tiny_mini().encoder
    with pytest.raises(ValueError, match="the encoder is the base itself"):
        factorise(base, tiny_mini().encoder)
    other = tiny_mini().encoder
    with torch.no_grad():
        other.backbone.embeddings.LayerNorm.bias += 1
    with pytest.raises(ValueError, match=r"embeddings\.LayerNorm\.bias changed, too; export it without adapter_base"):
        factorise(base, other)
    with pytest.raises(ValueError, match="name one of them"):
        export(trained, tmp_path / "out", encoder_from=trained, adapter_base="x")
    with pytest.raises(ValueError, match="dtype must be one of"):
        export(trained, tmp_path / "out", dtype="int3")
    export(trained, tmp_path / "out")
    with pytest.raises(FileExistsError, match="holds a checkpoint already"):
        export(trained, tmp_path / "out")


def test_the_card_tells_recipe_and_notes(trained: Path) -> None:
    stage = {"name": "one", "losses": {"info_nce": 1.0, "rank_net": 2.0}, "encoder": "lora", "reranker": "full"}
    report = {
        "stage": "one",
        "settings": {"stages": [stage]},
        "seed": 7,
        "steps": 1200,
        "lists_seen": 28_800,
        "minutes": 31.6,
        "data": {"squad-train": {"lists": 4000}},
    }
    write_model_card(trained, title="Tiny", stages=[report], notes="## Limits\n\nEnglish only.")
    card = (trained / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: resrank\n")
    assert "# Tiny\n" in card
    assert "English only." in card
    row = "| one | 28,800 | 1,200 | squad-train (4,000 lists) | lora | full | 1 info_nce, 2 rank_net | 32 |"
    assert row in card
    assert ResRank.from_pretrained(trained, device="cpu").fingerprint in card
