# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Ablations: each row trains or runs what its name says, beside the whole run, and goes on when started again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resrank_training.ablations import ROWS, TRAINED, WHOLE, Ablation, ablate, ablation_table
from resrank_training.settings import Dev, ListSource, Lora, ModelSettings, Settings, Stage


@pytest.fixture
def settings(mini_encoder_folder: Path, list_folder: Callable[..., Path]) -> Settings:
    train, dev = list_folder("train"), list_folder("dev", count=4, candidates=24, seed=4)
    arguments: dict[str, Any] = {"per_device_train_batch_size": 4, "max_steps": 50, "use_cpu": True}
    sources = [ListSource(str(train))]
    common: dict[str, Any] = {"lists": sources, "list_length": 5, "added": False, "lora": Lora(rank=2)}
    stages = [
        Stage(name="one", keep=0.5, arguments=arguments, **common),
        Stage(
            name="two",
            arguments=arguments,
            losses={"list_softmax": 1.0},
            encoder="frozen",
            evidence_share=0.5,
            **common,
        ),
    ]
    model = ModelSettings(encoder=str(mini_encoder_folder), config={"reranker": {"max_query_length": 40}})
    return Settings(model, stages, Dev([str(dev)], queries=None, candidates=24))


def test_rows_change_what_their_names_say(settings: Settings) -> None:
    changed = {name: change(settings) for name, change in TRAINED.items()}
    assert all(changed.values())
    assert changed[WHOLE] == settings
    assert [stage.keep for stage in changed["all of the change kept"].stages] == [1.0, 1.0]
    given = {"reranker": {"max_query_length": 40}}
    assert changed["without residual"].model.config == {**given, "residual": False}
    assert [stage.keep for stage in changed["without residual"].stages] == [1.0, 1.0]
    assert not any(stage.calibrate for stage in changed["without calibration"].stages)
    assert [stage.name for stage in changed["without stage 1"].stages] == ["two"]
    assert [stage.name for stage in changed["without stage 2"].stages] == ["one"]
    assert [(s.encoder, s.losses) for s in changed["frozen encoder"].stages] == [
        ("frozen", {"rank_net": 2.0}),
        ("frozen", {"list_softmax": 1.0}),
    ]
    assert [(s.encoder, s.losses) for s in changed["without encoder loss"].stages] == [
        ("lora", {"rank_net": 2.0}),
        ("frozen", {"list_softmax": 1.0}),
    ]
    assert [(s.encoder, s.reranker, s.losses) for s in changed["without ranking loss"].stages] == [
        ("lora", "frozen", {"info_nce": 1.0})
    ]
    nothing = {"whole_list": 1, "lexical_only": 0, "dense_only": 0, "first_stage": 0, "matches": 0}
    assert all(stage.evidence_dropout.of_lists == nothing for stage in changed["without evidence"].stages)
    reranker = {"max_query_length": 40, "attention": "causal"}
    assert changed["causal attention"].model.config == {**given, "reranker": reranker}
    assert [stage.evidence_share for stage in changed["all that the reranker adds"].stages] == [None, None]
    assert [stage.added for stage in changed["with passages that were added"].stages] == [True, True]


def test_rows_that_leave_nothing_to_train_say_so(settings: Settings, tmp_path: Path) -> None:
    alone = replace(settings, stages=settings.stages[1:])
    rows = ["without stage 1", "without stage 2", "without ranking loss", "frozen encoder"]
    found = ablate(alone, tmp_path / "ablations", rows=rows, max_steps=1, told=lambda _: None)
    assert [row.skipped for row in found] == [
        "",
        "no stage is left to train",
        "the settings are so already",
        "no stage is left to train",
        "the settings are so already",
    ]


@pytest.mark.slow
def test_all_rows_are_measured_and_kept(settings: Settings, tmp_path: Path) -> None:
    told: list[str] = []
    rows = ablate(settings, tmp_path / "ablations", seeds=(0, 1), max_steps=1, told=told.append)
    assert [row.name for row in rows] == list(ROWS)
    by_name = {row.name: row for row in rows}
    assert by_name["lists of 1,000"].skipped == "the dev lists hold 24 candidates: mine them with --candidates 1000"
    assert not any(row.skipped for row in rows if row.name != "lists of 1,000")
    assert all(len(row.dev["ndcg@10"]) == 2 for row in rows if not row.skipped)
    # Order-free scores do not depend on the order.
    assert by_name["shuffled at test time"].dev["ndcg@10"] == pytest.approx(by_name[WHOLE].dev["ndcg@10"])
    kept = json.loads((tmp_path / "ablations" / "ablations.json").read_text())
    assert [row["name"] for row in kept] == list(ROWS)
    again: list[str] = []
    assert ablate(settings, tmp_path / "ablations", seeds=(0, 1), max_steps=1, told=again.append) == rows
    assert not any("weights" in line for line in again)  # nothing was trained again
    assert ablation_table(rows).row_count == len(ROWS)


def test_wrong_use_is_explained(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected rows among whole, without residual"):
        ablate(settings, tmp_path, rows=["without luck"], told=lambda _: None)
    bare = Settings(settings.model, settings.stages)
    with pytest.raises(ValueError, match=r"the settings need `dev\.lists`"):
        ablate(bare, tmp_path, told=lambda _: None)


def test_means_and_spreads_by_hand() -> None:
    row = Ablation("x", {"ndcg@10": [0.5, 0.7], "ndcg@10_pure": [0.4]})
    assert row.mean() == pytest.approx(0.6)
    assert row.spread() == pytest.approx(0.1414214)
    assert row.spread("ndcg@10_pure") == 0
