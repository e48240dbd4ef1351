# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Settings: the shipped files load, and each mistake is named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from resrank.checkpoint import read_config
from resrank.config import ResRankConfig
from resrank.sources import CHECKPOINTS
from resrank_training.configs import settings_file, shipped
from resrank_training.settings import Settings, expanded, read_settings, to_dict

MINIMAL = """
model: {start: resrank-mini}
stages:
  - {name: one, lists: [{path: somewhere}], passes: 1}
"""


def _read(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return read_settings(path)


@pytest.mark.parametrize("name", ["mini", "mini_encoder", "mini_ablations", "qwen3_0.6b", "qwen3_4b"])
def test_shipped_settings_load(name: str) -> None:
    settings = read_settings(settings_file(name))
    assert settings.stages
    text = settings_file(name).read_text()
    assert "resrank-train fit" in text or "resrank-train ablate" in text or "torchrun" in text


def test_the_large_ones_are_dual_stage_joint_and_in_paper_mode() -> None:
    for name in ("qwen3_0.6b", "qwen3_4b"):
        settings = read_settings(settings_file(name))
        assert [stage.name for stage in settings.stages] == ["stage1", "stage2"]
        assert settings.model.config["mode"] == "paper"
        for stage in settings.stages:
            assert stage.losses == {"info_nce": 1.0, "rank_net": 2.0}
            assert stage.temperatures == {"info_nce": 0.03, "rank_net": 0.1}
            assert (stage.encoder, stage.reranker, stage.targets) == ("full", "full", "ranking")
    assert shipped(settings.stages[0].arguments["deepspeed"], ".json") is not None


@pytest.mark.parametrize("name", ["mini_encoder", "mini_ablations"])
def test_the_recipes_make_the_shipped_reranker(name: str) -> None:
    made = ResRankConfig().with_reranker(**read_settings(settings_file(name)).model.config["reranker"])
    assert made.reranker == read_config(CHECKPOINTS / "resrank-mini").reranker


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    names = r"mini, mini_ablations, mini_encoder, qwen3_0\.6b, qwen3_4b"
    with pytest.raises(FileNotFoundError, match=f"expected a file with settings, or one of {names}"):
        settings_file("maxi")


def test_a_round_trip(tmp_path: Path) -> None:
    settings = _read(tmp_path, MINIMAL)
    assert _read(tmp_path, yaml.safe_dump(to_dict(settings))) == settings


def test_lists_are_whole_and_calibrate_unless_told_otherwise(tmp_path: Path) -> None:
    (stage,) = _read(tmp_path, MINIMAL).stages
    assert (stage.added, stage.lists[0].calibrate) == (True, True)
    text = MINIMAL.replace("path: somewhere", "path: somewhere, calibrate: false")
    settings = _read(tmp_path, text.replace("passes: 1", "passes: 1, added: false"))
    assert (settings.stages[0].added, settings.stages[0].lists[0].calibrate) == (False, False)
    assert _read(tmp_path, yaml.safe_dump(to_dict(settings))) == settings


def test_numbers_that_yaml_reads_as_text(tmp_path: Path) -> None:
    settings = _read(tmp_path, MINIMAL.replace("passes: 1", "passes: 1, learning_rates: {head: 1e-3}"))
    assert settings.stages[0].learning_rates == {"head": 0.001}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("passes: 1", "passes: 1, speed: 3"), r"stages\.0\.speed: Unexpected keyword argument"),
        (("passes: 1", "passes: fast"), r"stages\.0\.passes"),
        (("passes: 1", "list_length: 5"), "stage 'one': give either `passes` or `arguments.max_steps`"),
        (("passes: 1", "passes: 1, arguments: {max_steps: 3}"), "give either `passes` or `arguments.max_steps`"),
        (("passes: 1", "passes: -1"), "passes must be positive, got -1"),
        (("passes: 1", "passes: 1, losses: {ranknet: 1}"), "losses knows info_nce, rank_net.*, got ranknet"),
        (("passes: 1", "passes: 1, losses: {rank_net: 0}"), "every loss needs a positive weight"),
        (("passes: 1", "passes: 1, encoder: frozen"), "info_nce trains the encoder"),
        (("passes: 1", "passes: 1, losses: {info_nce: 1}"), "info_nce does not train the reranker"),
        (("passes: 1", "passes: 1, list_length: 3, positives: 3"), "room for others than its positives"),
        (("passes: 1", "passes: 1, hard_share: 1.5"), "hard_share must be between 0 and 1, got 1.5"),
        (("passes: 1", "passes: 1, encoder: half"), r"stages\.0\.encoder: Input should be 'full', 'lora' or 'frozen'"),
        (("passes: 1", "passes: 1, arguments: {seed: 3}"), "arguments must not set seed: the run decides them"),
        (("passes: 1", "passes: 1, evidence_dropout: {number: 2}"), "evidence_dropout.number must be between 0 and 1"),
        (
            ("passes: 1", "passes: 1, evidence_dropout: {whole_list: 0.7, lexical_only: 0.7}"),
            "together must not exceed 1",
        ),
        (
            ("passes: 1", "passes: 1, evidence_dropout: {first_stage: 0.6, matches: 0.5}"),
            "whole_list, lexical_only, dense_only, first_stage, matches together must not exceed 1",
        ),
        (
            ("passes: 1", "passes: 1, evidence_dropout: {matches: -0.1}"),
            "evidence_dropout.matches must be between 0 and 1",
        ),
        (("name: one", "name: a/b"), "expected a name that can be a folder"),
        (("lists: [{path: somewhere}]", "lists: []"), "expected at least one folder under `lists`"),
        (("{path: somewhere}", "{path: somewhere, share: 0}"), "share must be positive, got 0"),
        (
            ("{path: somewhere}", "{path: somewhere, calibrate: 2}"),
            r"stages\.0\.lists\.0\.calibrate: Input should be a",
        ),
        (("passes: 1", "passes: 1, added: some"), r"stages\.0\.added: Input should be a valid boolean"),
        (("start: resrank-mini", "start: resrank-mini, encoder: x"), "expected either `start`"),
        (("start: resrank-mini", "start: resrank-mini, config: {mode: paper}"), "a checkpoint brings its own config"),
        (("start: resrank-mini", "dtype: float32"), "expected either `start`"),
        (("stages:", "stage:"), "stage: Unexpected keyword argument"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        _read(tmp_path, MINIMAL.replace(*change))
    assert str(caught.value).startswith(f"{tmp_path / 'settings.yaml'}: ")


def test_damaged_yaml(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not YAML"):
        _read(tmp_path, "model: [")


def test_paths_take_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_LISTS", "/lists")
    assert expanded("$SOME_LISTS/squad") == Path("/lists/squad")
    monkeypatch.delenv("SOME_LISTS")
    with pytest.raises(ValueError, match=r"\$SOME_LISTS/squad: the environment variable is not set"):
        expanded("$SOME_LISTS/squad")
