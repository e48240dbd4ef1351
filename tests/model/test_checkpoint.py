# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Checkpoints: complete, equal after a round trip, and refused when damaged."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from resrank import RerankerConfig, ResRank, ResRankConfig
from resrank.checkpoint import Checkpoint, read_config, reranker_from_encoder, shares_embeddings
from resrank.evidence import FEATURES, Evidence
from resrank.runtime import Runtime
from resrank.sources import resolve

Factory = Callable[..., ResRank]


def _open(folder: Path, **arguments: Any) -> ResRank:
    return ResRank.from_pretrained(folder, **{"device": "cpu", "dtype": "float32", **arguments})


def _evidence(count: int) -> Evidence:
    return Evidence("", np.random.default_rng(5).uniform(0.05, 1, (count, len(FEATURES))).astype(np.float32))


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def kind(request: pytest.FixtureRequest, tiny_mini: Factory, tiny_qwen: Factory, qwen_other_size_folder: Path) -> Any:
    """A function that makes one kind of model."""
    return {
        "shared": tiny_mini,
        "twins": tiny_qwen,
        "other size": lambda **changes: tiny_qwen(reranker=qwen_other_size_folder, **changes),
        "qwen from its encoder": lambda **changes: tiny_qwen(reranker=None, **changes),
    }[request.param]


KINDS = pytest.mark.parametrize("kind", ["shared", "twins", "other size", "qwen from its encoder"], indirect=True)


# ---------------------------------------------------------------------------------------------------------- round trip


@KINDS
@pytest.mark.parametrize("mode", ["evidence", "paper"])
def test_a_saved_model_ranks_as_before(
    kind: Factory, mode: str, randomise_head: Factory, corpus, tmp_path: Path
) -> None:
    model = randomise_head(kind(mode=mode))
    model.save_pretrained(tmp_path)
    again = _open(tmp_path)
    passages = model.encode_passages(corpus)
    np.testing.assert_array_equal(again.encode_passages(corpus), passages)
    for evidence in (None, _evidence(len(corpus))):
        np.testing.assert_allclose(
            again.rerank("bread", passages, evidence), model.rerank("bread", passages, evidence), atol=1e-6
        )
    assert again.fingerprint == model.fingerprint
    assert shares_embeddings(again.encoder, again.reranker) is shares_embeddings(model.encoder, model.reranker)


@KINDS
def test_a_second_round_trip_changes_nothing(kind: Factory, randomise_head: Factory, tmp_path: Path) -> None:
    randomise_head(kind()).save_pretrained(tmp_path / "one")
    _open(tmp_path / "one").save_pretrained(tmp_path / "two")
    assert _files(tmp_path / "one") == _files(tmp_path / "two")
    assert read_config(tmp_path / "one") == read_config(tmp_path / "two")
    for name in _files(tmp_path / "one"):
        if name.endswith(".safetensors"):
            first, second = load_file(tmp_path / "one" / name), load_file(tmp_path / "two" / name)
            assert first.keys() == second.keys()
            assert all(torch.equal(first[key], second[key]) for key in first), name


@KINDS
def test_a_checkpoint_needs_nothing_else(kind: Factory, tmp_path: Path) -> None:
    kind().save_pretrained(tmp_path)
    config = read_config(tmp_path)
    assert (config.encoder.source, config.reranker.source) == (None, None)
    assert config.encoder.pooling in ("mean", "last")


@KINDS
def test_only_safetensors_are_written(kind: Factory, tmp_path: Path) -> None:
    kind().save_pretrained(tmp_path)
    files = _files(tmp_path)
    assert {"config.json", "head.safetensors", "encoder/model.safetensors", "reranker/model.safetensors"} <= files
    assert {Path(name).suffix for name in files} <= {".json", ".safetensors", ".txt", ".jinja", ".md"}


def test_shared_embeddings_are_written_once(tiny_mini_checkpoint: Path) -> None:
    names = load_file(tiny_mini_checkpoint / "reranker" / "model.safetensors")
    assert "embeddings.position_embeddings.weight" in names
    assert "embeddings.word_embeddings.weight" not in names
    model = _open(tiny_mini_checkpoint).load()
    assert shares_embeddings(model.encoder, model.reranker)


def test_saving_over_the_folder_it_came_from(tiny_mini_checkpoint: Path, unit_vectors, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_mini_checkpoint, tmp_path / "model")
    model = _open(folder)
    model.save_pretrained(folder)
    np.testing.assert_array_equal(
        _open(folder).rerank("bread", unit_vectors(5)), _open(tiny_mini_checkpoint).rerank("bread", unit_vectors(5))
    )


def test_the_card_comes_along(tiny_mini_checkpoint: Path, tmp_path: Path) -> None:
    _open(tiny_mini_checkpoint).save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == (tiny_mini_checkpoint / "README.md").read_text()


def test_saved_in_bfloat16_has_the_same_fingerprint(tiny_mini_checkpoint: Path, tmp_path: Path) -> None:
    model = _open(tiny_mini_checkpoint, dtype="bfloat16")
    model.save_pretrained(tmp_path)
    assert _open(tmp_path).fingerprint == _open(tiny_mini_checkpoint).fingerprint


@pytest.mark.parametrize("mode", ["evidence", "paper"])
def test_the_mode_and_attention_are_saved(tiny_qwen: Factory, mode: str, tmp_path: Path) -> None:
    tiny_qwen(mode=mode, attention="order_free").save_pretrained(tmp_path)
    config = read_config(tmp_path)
    assert (config.mode, config.reranker.attention) == (mode, "order_free")
    assert config.reranker.max_query_length == 100


# ------------------------------------------------------------------------------------------------- from encoder layers


@pytest.mark.parametrize("layers", [(3,), (1, 2, 3), (0, 3), None])
def test_the_reranker_starts_from_the_encoders_layers(tiny_mini: Factory, layers: tuple[int, ...] | None) -> None:
    model = tiny_mini()
    config = RerankerConfig(encoder_layers=layers)
    reranker = reranker_from_encoder(model.encoder, config, model.runtime)
    chosen = layers if layers is not None else (1, 2, 3)
    assert reranker.backbone.config.num_hidden_layers == len(chosen)
    source = model.encoder.backbone.encoder.layer
    for new, old in enumerate(chosen):
        for name, weight in reranker.backbone.encoder.layer[new].named_parameters():
            original = source[old].get_parameter(name)
            assert torch.equal(weight, original)
            assert weight is not original  # copies: training one leaves the other alone
    assert reranker.backbone.get_input_embeddings() is model.encoder.backbone.get_input_embeddings()


@pytest.mark.parametrize("layers", [(4,), (-1,), (), (0, 9)])
def test_layers_that_are_not_there_are_refused(tiny_mini: Factory, layers: tuple[int, ...]) -> None:
    model = tiny_mini()
    message = f"reranker.encoder_layers must name layers 0 to 3 of the encoder, got {layers}"
    with pytest.raises(ValueError, match=re.escape(message)):
        reranker_from_encoder(model.encoder, RerankerConfig(encoder_layers=layers), model.runtime)


def test_a_qwen_reranker_from_layers_has_as_many_layer_types(tiny_qwen: Factory) -> None:
    reranker = tiny_qwen(reranker=None).reranker
    assert len(reranker.backbone.config.layer_types) == reranker.backbone.config.num_hidden_layers == 3


def test_flash_attention_that_nobody_asked_for_gives_way_to_order_free(tiny_qwen_checkpoint: Path) -> None:
    model = _open(tiny_qwen_checkpoint)
    config = model.config.with_reranker(attention="order_free")
    flash = Runtime(torch.device("cpu"), torch.float32, "flash_attention_2")
    reranker = Checkpoint(config, tiny_qwen_checkpoint, lambda *_: Path()).load_reranker(model.encoder, flash)
    assert reranker.backbone.config._attn_implementation == "sdpa"


# -------------------------------------------------------------------------------------------------- damaged, incomplete


@pytest.fixture(params=["mini", "qwen"])
def copied(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return shutil.copytree(request.getfixturevalue(f"tiny_{request.param}_checkpoint"), tmp_path / "copied")


@pytest.mark.parametrize("file", ["encoder/model.safetensors", "reranker/model.safetensors", "head.safetensors"])
@pytest.mark.parametrize("keep", [0, 4, 700, -1], ids=["empty", "header cut", "weights cut", "last byte missing"])
def test_truncated_weights_are_refused(copied: Path, file: str, keep: int) -> None:
    path = copied / file
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"cannot be read .*: .*damaged or incomplete, get it again"):
        _open(copied).load()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("encoder", "has no encoder/ folder, and its config names no encoder.source"),
        ("reranker", "has a head.safetensors but no reranker/ folder: get it again"),
        ("head.safetensors", "has a reranker/ folder but no head.safetensors: get it again"),
        ("encoder/model.safetensors", "cannot be read"),
        ("reranker/model.safetensors", "cannot be read"),
        ("reranker/config.json", "copied/reranker"),
        ("config.json", "is not a ResRank checkpoint: it has no config.json"),
    ],
)
def test_missing_parts_are_refused(copied: Path, name: str, message: str) -> None:
    path = copied / name
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    with pytest.raises(ValueError, match=re.escape(message)):
        _open(copied).load()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "config.json cannot be read (Expecting value"),
        ("{", "config.json cannot be read (Expecting property name"),
        ("[]", "config.json: "),
        ("null", "config.json: "),
        ('{"model_type": "bert"}', "config.json: expected a ResRank config.json (model_type 'resrank')"),
        ('{"model_type": "resrank", "format": 9}', "config.json: this version of resrank reads checkpoint format 1"),
        ('{"model_type": "resrank", "format": 1, "modes": 1}', "config.json: config: unknown modes; known are"),
        ('{"model_type": "resrank", "format": 1, "lexical": {"k": "a"}}', "config.json: "),
        ('{"model_type": "resrank", "format": 1, "reranker": {"query_template": 3}}', "config.json: "),
    ],
)
def test_damaged_configs_are_refused_on_opening(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / message))):
        _open(tmp_path)


def test_a_config_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "config.json"))):
        _open(tmp_path)


@pytest.mark.parametrize("change", ["drop", "add", "reshape"])
def test_a_head_that_does_not_fit_is_refused(copied: Path, change: str) -> None:
    path = copied / "head.safetensors"
    weights = load_file(path)
    if change == "drop":
        del weights["query_out.weight"]
    elif change == "add":
        weights["extra"] = torch.zeros(1)
    else:
        weights["query_out.weight"] = torch.zeros(3, 3)
    save_file(weights, path)
    with pytest.raises(ValueError, match=r"head\.safetensors does not fit the model that its config describes"):
        _open(copied).load()


@pytest.mark.parametrize("family", ["mini", "qwen"])
def test_a_reranker_that_lacks_a_weight_is_refused(family: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = shutil.copytree(request.getfixturevalue(f"tiny_{family}_checkpoint"), tmp_path / "copied")
    path = folder / "reranker" / "model.safetensors"
    weights = load_file(path)
    del weights[next(name for name in sorted(weights) if re.search(r"layers?\.1\.", name))]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"does not fit the model that its config describes|lacks 1 weights"):
        _open(folder).load()


def test_pickled_weights_are_never_read(copied: Path) -> None:
    torch.save(torch.load, copied / "head.safetensors")
    with pytest.raises(ValueError, match="cannot be read"):
        _open(copied).load()


def test_a_failed_load_leaves_no_half_loaded_model(copied: Path, tmp_path: Path, unit_vectors) -> None:
    hidden = tmp_path / "hidden.safetensors"
    (copied / "head.safetensors").rename(hidden)
    model = _open(copied)
    for _ in range(2):
        with pytest.raises(ValueError, match=re.escape("no head.safetensors")):
            model.rerank("bread", unit_vectors(2))
        assert model.loaded_parts == ("encoder",)
    hidden.rename(copied / "head.safetensors")
    assert model.rerank("bread", unit_vectors(2)).shape == (2,)


# ------------------------------------------------------------------------------------------------- sources, hub, upload


def test_parts_may_come_from_the_sources_that_the_config_names(
    mini_encoder_folder: Path, qwen_reranker_folder: Path, unit_vectors, tmp_path: Path
) -> None:
    config = (
        ResRankConfig()
        .with_encoder(source=str(mini_encoder_folder))
        .with_reranker(source=str(qwen_reranker_folder), max_query_length=20)
    )
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    model = _open(tmp_path)
    assert model.rerank("bread", unit_vectors(3)).shape == (3,)
    assert model.reranker.backbone.config.model_type == "qwen3"


def test_revisions_reach_the_resolver(mini_encoder_folder: Path, qwen_reranker_folder: Path) -> None:
    asked = []
    folders = {"org/encoder": mini_encoder_folder, "org/reranker": qwen_reranker_folder}

    def resolver(source: str, revision: str | None) -> Path:
        asked.append((source, revision))
        return folders[source]

    config = ResRankConfig().with_encoder(source="org/encoder", revision="e1")
    config = config.with_reranker(source="org/reranker", revision="r1")
    ResRank(Checkpoint(config, None, resolver), Runtime.resolve("cpu", "float32")).load()
    assert asked == [("org/encoder", "e1"), ("org/reranker", "r1")]


class _StubApi:
    """What `push_to_hub` needs of `HfApi`; keeps a copy of what is uploaded."""

    calls: list[tuple[str, dict]]
    target: Path

    def __init__(self, token: str | None = None) -> None:
        self.calls.append(("init", {"token": token}))

    def create_repo(self, repo_id: str, **arguments: Any) -> None:
        self.calls.append(("create_repo", {"repo_id": repo_id, **arguments}))

    def upload_folder(self, *, folder_path: str, **arguments: Any) -> str:
        self.calls.append(("upload_folder", arguments))
        shutil.copytree(folder_path, self.target)
        return "https://hub/commit/1"


def test_push_to_hub_uploads_a_complete_checkpoint(
    tiny_mini_checkpoint: Path, unit_vectors, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Api(_StubApi):
        calls: list = []  # noqa: RUF012 - one list for this test
        target = tmp_path / "uploaded"

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    model = _open(tiny_mini_checkpoint)
    url = model.push_to_hub("org/name", private=True, token="secret", commit_message="First")
    assert url == "https://hub/commit/1"
    assert Api.calls == [
        ("init", {"token": "secret"}),
        ("create_repo", {"repo_id": "org/name", "private": True, "exist_ok": True}),
        ("upload_folder", {"repo_id": "org/name", "commit_message": "First"}),
    ]
    assert _files(Api.target) == _files(tiny_mini_checkpoint)
    np.testing.assert_array_equal(
        _open(Api.target).rerank("bread", unit_vectors(4)), model.rerank("bread", unit_vectors(4))
    )


def test_from_backbones_replaces_sources_mode_and_attention_only(tiny_mini: Factory, mini_encoder_folder: Path) -> None:
    base = ResRankConfig(rrf_k=7).with_encoder(source="gone", max_length=30).with_reranker(source="gone")
    config = tiny_mini(config=base, mode="paper", attention="causal").config
    expected = base.with_encoder(source=str(mini_encoder_folder)).with_reranker(source=None, attention="causal")
    assert config == replace(expected, mode="paper")


def test_resolve_takes_a_checkpoint_folder(tiny_mini_checkpoint: Path) -> None:
    assert resolve(tiny_mini_checkpoint) == tiny_mini_checkpoint


def test_a_model_trained_from_safe_start_does_not_keep_the_card_that_says_so(tiny_mini, randomise_head, tmp_path):
    (tmp_path / "safe").mkdir()
    tiny_mini().save_pretrained(tmp_path / "safe")
    assert "fingerprint" in (tmp_path / "safe" / "README.md").read_text()
    (tmp_path / "safe" / "head.safetensors").unlink()
    (tmp_path / "safe" / "README.md").write_text("not trained yet")
    config = json.loads((tmp_path / "safe" / "config.json").read_text())
    config["reranker"]["encoder_layers"] = [1, 2, 3]
    (tmp_path / "safe" / "config.json").write_text(json.dumps(config))
    shutil.rmtree(tmp_path / "safe" / "reranker")
    _open(tmp_path / "safe").save_pretrained(tmp_path / "same")
    assert (tmp_path / "same" / "README.md").read_text() == "not trained yet"
    randomise_head(_open(tmp_path / "safe")).save_pretrained(tmp_path / "trained")
    assert "not trained" not in (tmp_path / "trained" / "README.md").read_text()


def test_attention_can_be_chosen_when_loading(tiny_mini_checkpoint):
    trained = ResRank.from_pretrained(tiny_mini_checkpoint, device="cpu", dtype="float32")
    other = ResRank.from_pretrained(tiny_mini_checkpoint, device="cpu", dtype="float32", attention="causal")
    assert (trained.reranker.config.attention, other.reranker.config.attention) == ("order_free", "causal")
    assert other.fingerprint == trained.fingerprint
    with pytest.raises(ValueError, match="attention"):
        ResRank.from_pretrained(tiny_mini_checkpoint, attention="sideways")


def test_the_checkpoint_hash_changes_with_what_decides_the_scores(tiny_mini_checkpoint, tiny_safe_checkpoint, tmp_path):
    def digest(folder, **options):
        return ResRank.from_pretrained(folder, device="cpu", dtype="float32", **options).checkpoint_hash

    same = shutil.copytree(tiny_mini_checkpoint, tmp_path / "same")
    assert digest(same) == digest(tiny_mini_checkpoint)
    assert len({digest(same), digest(same, attention="causal"), digest(tiny_safe_checkpoint)}) == 3
