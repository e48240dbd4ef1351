# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Whole runs with tiny models: they learn, resume on the same curve, freeze what they should, and keep what they did."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resrank import ResRank
from resrank_evals.collection import Passage
from resrank_training import fitting
from resrank_training.drawing import Schedule
from resrank_training.fitting import fit, load_start
from resrank_training.lists import ListSet, ListWriter, TrainingList
from resrank_training.settings import Dev, EvidenceDropout, ListSource, Lora, ModelSettings, Settings, Stage

QUICK: dict[str, Any] = {"per_device_train_batch_size": 4, "logging_steps": 1, "save_steps": 4, "use_cpu": True}


@pytest.fixture
def settings(mini_encoder_folder: Path, list_folder: Callable[..., Path]) -> Callable[..., Settings]:
    """Return a function that makes the settings of a quick run; takes changes of its stage."""
    folder = list_folder("train", count=24)
    dev = list_folder("dev", count=6, seed=9)

    def make(**changes: Any) -> Settings:
        length = {} if "passes" in changes else {"max_steps": 8}
        arguments = {**QUICK, **length, **changes.pop("arguments", {})}
        stage = Stage(
            **{
                "name": "stage1",
                "lists": [ListSource(str(folder))],
                "list_length": 6,
                "lora": Lora(rank=4),
                "learning_rates": {"encoder": 2e-3, "reranker": 1e-3, "head": 2e-3},
                "dropout": 0.0,
                "arguments": arguments,
                **changes,
            }
        )
        model = ModelSettings(encoder=str(mini_encoder_folder), config={"reranker": {"max_query_length": 40}})
        return Settings(model, [stage], Dev([str(dev)], queries=6), seed=3)

    return make


def _losses(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    model = ResRank.from_pretrained(folder, device="cpu", dtype="float32").load()
    return {
        f"{part}.{name}": tensor
        for part, module in (("encoder", model.encoder), ("reranker", model.reranker), ("head", model.head))
        for name, tensor in module.state_dict().items()
    }


def _named(part: str, module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {f"{part}.{name}": tensor for name, tensor in module.state_dict().items()}


def test_a_run_learns_and_says_what_it_did(settings: Callable[..., Settings], tmp_path: Path) -> None:
    out = tmp_path / "run"
    (result,) = fit(settings(passes=10.0, arguments={"eval_steps": 20}), out)
    assert result.steps == 60  # 24 lists, 10 passes, 4 a step
    losses = _losses(out / "stage1")
    assert len(losses) == 60
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    report = json.loads((out / "stage1" / "training.json").read_text())
    assert report["seed"] == 3
    assert report["data"]["train"]["lists"] == 24
    assert len(report["data"]["train"]["digest"]) == 16
    assert report["environment"]["torch"] == torch.__version__
    assert report["settings"]["stages"][0]["lora"]["rank"] == 4
    assert report["dev"]["ndcg@10"] > report["first_stage"]["dev"] + 0.1
    assert (out / "stage1" / "curves.png").read_bytes().startswith(b"\x89PNG")
    measured = [json.loads(line) for line in (out / "stage1" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in measured if "eval_ndcg@10" in row] == [20, 40, 60, 60]
    assert {"info_nce", "rank_net"} <= set(measured[0])
    served = ResRank.from_pretrained(out / "model", device="cpu")
    assert served.fingerprint == report["fingerprint"]
    assert not served.head.is_safe_start


def test_started_again_it_keeps_what_is_complete(settings: Callable[..., Settings], tmp_path: Path) -> None:
    told: list[str] = []
    first = fit(settings(), tmp_path / "run")
    again = fit(settings(), tmp_path / "run", told.append)
    assert again == first
    assert told == ["Stage stage1 is complete"]
    with pytest.raises(ValueError, match="holds a run with other settings"):
        fit(replace(settings(), seed=4), tmp_path / "run")


@pytest.mark.parametrize("average_from", [1.0, 0.25])
def test_a_killed_run_resumes_on_the_same_curve(
    settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, average_from: float
) -> None:
    of = settings(average_from=average_from, dropout=0.1)
    fit(of, tmp_path / "whole")
    from resrank_training.trainer import JointTrainer

    steps = 0
    compute = JointTrainer.compute_loss

    def killed(self: JointTrainer, *arguments: Any, **keywords: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 7:  # after the checkpoint of step 4
            raise KeyboardInterrupt
        return compute(self, *arguments, **keywords)

    monkeypatch.setattr(JointTrainer, "compute_loss", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(of, tmp_path / "parts")
    assert not (tmp_path / "parts" / "stage1" / "training.json").exists()
    monkeypatch.setattr(JointTrainer, "compute_loss", compute)
    told: list[str] = []
    fit(of, tmp_path / "parts", told.append)
    assert "Stage stage1 goes on from checkpoint-4" in told
    np.testing.assert_allclose(
        _losses(tmp_path / "parts" / "stage1"), _losses(tmp_path / "whole" / "stage1"), rtol=1e-5
    )
    whole, parts = _weights(tmp_path / "whole" / "model"), _weights(tmp_path / "parts" / "model")
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("lost", ["trainer_state.json", "average.safetensors"])
def test_a_checkpoint_that_was_cut_off_is_not_used(
    settings: Callable[..., Settings], tmp_path: Path, lost: str
) -> None:
    of = settings(average_from=0.25, arguments={"save_total_limit": 5})
    fit(of, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    stage = tmp_path / "parts" / "stage1"
    (stage / "training.json").unlink()
    (stage / "checkpoints" / "checkpoint-8" / lost).unlink()
    told: list[str] = []
    fit(of, tmp_path / "parts", told.append)
    assert "Stage stage1 goes on from checkpoint-4" in told
    whole, parts = _weights(tmp_path / "whole" / "model"), _weights(tmp_path / "parts" / "model")
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, atol=1e-5, rtol=1e-4, msg=name)


def test_a_begun_stage_does_not_go_on_with_other_lists(
    settings: Callable[..., Settings], tmp_path: Path, list_folder: Callable[..., Path]
) -> None:
    of = settings()
    fit(of, tmp_path / "run")
    (tmp_path / "run" / "stage1" / "training.json").unlink()
    shutil.rmtree(tmp_path / "train")
    list_folder("train", count=20)
    with pytest.raises(ValueError, match="was begun with other lists"):
        fit(of, tmp_path / "run")


def test_without_what_was_added_lists_are_as_in_use(
    settings: Callable[..., Settings],
    tmp_path: Path,
    make_lists: Callable[..., list[TrainingList]],
    passages: dict[str, Passage],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lists whose only positive was added have nothing to learn from."""
    lists = make_lists(8)
    # From the positive on, or from behind it, all was added.
    places = [each.positives[0] + (i >= 3) for i, each in enumerate(lists)]
    made = [
        replace(each, pool=pool if i < 6 else None) for i, (each, pool) in enumerate(zip(lists, places, strict=True))
    ]
    with ListWriter(tmp_path / "added", {}) as writer:
        writer.add(made)
        writer.finish(passages, {})
    seen: list[ListSet] = []

    def schedule(sets: list[ListSet], *arguments: Any) -> Schedule:
        seen.extend(sets)
        return Schedule(sets, *arguments)

    monkeypatch.setattr(fitting, "Schedule", schedule)
    of = settings(lists=[ListSource(str(tmp_path / "added"))], added=False, arguments={"max_steps": 1})
    told: list[str] = []
    fit(of, tmp_path / "run", told.append)
    assert [len(each.passages) for each in seen[0].lists] == [*places[:6], 8, 8]
    left_out = 3 + sum(place < 2 for place in places[3:6])  # nor do lists of one
    assert f"Stage stage1: {left_out} lists have nothing to learn from and are left out" in told
    told.clear()
    fit(replace(of, stages=[replace(of.stages[0], added=True)]), tmp_path / "whole", told.append)
    assert {len(each.passages) for each in seen[1].lists} == {8}
    assert not any("left out" in line for line in told)


def test_mistakes_come_before_work(settings: Callable[..., Settings], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stage 'stage1': TrainingArguments has no learning_speed"):
        fit(settings(arguments={"learning_speed": 3}), tmp_path / "run")
    of = settings()
    twice = replace(of, dev=Dev([of.dev.lists[0], of.dev.lists[0]]))
    with pytest.raises(ValueError, match="list folders need different names, got dev more than once"):
        fit(twice, tmp_path / "run")


@pytest.mark.parametrize(
    ("encoder", "reranker", "changed"),
    [
        ("frozen", "full", {"reranker", "head"}),
        ("lora", "frozen", {"encoder", "head"}),
        ("full", "lora", {"encoder", "reranker", "head"}),
        ("lora", "full", {"encoder", "reranker", "head"}),
        ("lora", "not even run", {"encoder"}),
    ],
)
def test_only_what_is_trained_changes(
    settings: Callable[..., Settings], tmp_path: Path, encoder: Any, reranker: Any, changed: set[str]
) -> None:
    losses = {"rank_net": 1.0} if encoder == "frozen" else {"info_nce": 1.0, "rank_net": 1.0}
    if reranker == "not even run":
        losses, reranker = {"info_nce": 1.0}, "frozen"
    of = settings(encoder=encoder, reranker=reranker, losses=losses, arguments={"max_steps": 3})
    fit(of, tmp_path / "run")
    start = load_start(of.model)
    before = {
        f"{part}.{name}": tensor
        for part, module in (("encoder", start.encoder), ("reranker", start.reranker), ("head", start.head))
        for name, tensor in module.state_dict().items()
    }
    after = _weights(tmp_path / "run" / "model")
    shared = "reranker.backbone.embeddings.word_embeddings.weight"
    moved = {
        name.partition(".")[0]
        for name, tensor in before.items()
        if name != shared and not torch.allclose(after[name], tensor, atol=1e-7)
    }
    assert moved == changed
    if encoder == "frozen":
        assert ResRank.from_pretrained(tmp_path / "run" / "model", device="cpu").fingerprint == start.fingerprint


def test_keep_takes_a_share_of_the_change(settings: Callable[..., Settings], tmp_path: Path) -> None:
    whole = settings(arguments={"max_steps": 3})
    part = replace(whole, stages=[replace(whole.stages[0], keep=0.25)])
    fit(whole, tmp_path / "whole")
    fit(part, tmp_path / "part")
    model = load_start(whole.model)
    start = {**_named("encoder", model.encoder), **_named("reranker", model.reranker), **_named("head", model.head)}
    after, kept = _weights(tmp_path / "whole" / "model"), _weights(tmp_path / "part" / "model")
    for name, weight in start.items():
        if name.startswith(("head.prior", "head.text")):  # calibrated before the first step, and kept
            torch.testing.assert_close(kept[name], after[name], atol=0.05, rtol=0.05)
            assert not torch.equal(kept[name], weight)
        else:
            torch.testing.assert_close(kept[name], weight.lerp(after[name], 0.25), atol=1e-6, rtol=0)


def test_a_stage_trains_with_all_that_the_reranker_adds_and_leaves_a_share(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    """The weights are those of a stage that says nothing; only what counts of them is another."""
    whole = settings(arguments={"max_steps": 3})
    part = replace(whole, stages=[replace(whole.stages[0], evidence_share=0.25)])
    fit(whole, tmp_path / "whole")
    fit(part, tmp_path / "part")
    models = [ResRank.from_pretrained(tmp_path / name / "model").load() for name in ("whole", "part")]
    assert [model.config.evidence_share for model in models] == [1.0, 0.25]
    assert models[1].head.evidence_share == 0.25
    after, kept = _weights(tmp_path / "whole" / "model"), _weights(tmp_path / "part" / "model")
    assert all(torch.equal(kept[name], after[name]) for name in after)


def test_the_prior_is_calibrated_once(settings: Callable[..., Settings], tmp_path: Path) -> None:
    one = settings(arguments={"max_steps": 2})
    told: list[str] = []
    fit(replace(one, stages=[one.stages[0], replace(one.stages[0], name="stage2")]), tmp_path / "run", told.append)
    assert [line.partition(":")[0] for line in told if "the prior is" in line] == ["Stage stage1"]
    told.clear()
    fit(settings(calibrate=False, arguments={"max_steps": 1}), tmp_path / "plain", told.append)
    assert not any("prior" in line for line in told)


def test_a_second_stage_starts_from_the_first(settings: Callable[..., Settings], tmp_path: Path) -> None:
    one = settings(arguments={"max_steps": 4})
    second = replace(
        one.stages[0], name="stage2", encoder="frozen", losses={"list_softmax": 1.0}, reranker="lora", targets="grades"
    )
    results = fit(replace(one, stages=[one.stages[0], second]), tmp_path / "run")
    assert [result.name for result in results] == ["stage1", "stage2"]
    first, last = _weights(tmp_path / "run" / "stage1" / "model"), _weights(tmp_path / "run" / "model")
    assert all(torch.equal(last[name], tensor) for name, tensor in first.items() if name.startswith("encoder."))
    assert not torch.equal(last["head.passage_out.weight"], first["head.passage_out.weight"])
    assert list((tmp_path / "run" / "vectors").glob("train-passages-*.npy"))


@pytest.mark.parametrize("targets", ["grades", "ranking"])
@pytest.mark.parametrize("losses", [{"list_mle": 1.0}, {"info_nce": 1.0, "rank_net": 1.0, "list_softmax": 0.5}])
def test_every_loss_and_target_runs(
    settings: Callable[..., Settings], tmp_path: Path, losses: dict[str, float], targets: Any
) -> None:
    of = settings(losses=losses, targets=targets, arguments={"max_steps": 2})
    (result,) = fit(of, tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "stage1" / "log.jsonl").read_text().splitlines()]
    assert set(losses) <= set(rows[0])
    assert result.steps == 2


def test_qwen_twins_train_in_paper_mode(
    qwen_encoder_folder: Path, qwen_reranker_folder: Path, settings: Callable[..., Settings], tmp_path: Path
) -> None:
    of = settings(
        encoder="full",
        arguments={"max_steps": 12, "gradient_checkpointing": True},
        evidence_dropout=EvidenceDropout(0, 1, 0, 0, 0, 0),
    )
    model = ModelSettings(
        encoder=str(qwen_encoder_folder),
        reranker=str(qwen_reranker_folder),
        config={"mode": "paper", "reranker": {"attention": "causal"}},
    )
    fit(replace(of, model=model), tmp_path / "run")
    losses = _losses(tmp_path / "run" / "stage1")
    assert losses[-1] < losses[0]
    assert ResRank.from_pretrained(tmp_path / "run" / "model", device="cpu").config.mode == "paper"


def test_the_command_writes_only_json_to_stdout(
    settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml
    from typer.testing import CliRunner

    from resrank_training.cli import app
    from resrank_training.settings import to_dict

    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(to_dict(settings(arguments={"max_steps": 3}))))
    done = CliRunner().invoke(app, ["fit", str(path), "--out", str(tmp_path / "run"), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["model"] == str(tmp_path / "run" / "model")
    assert found["stages"][0]["steps"] == 3
    assert "stage1: step 3 of 3: loss" in done.stderr
    missing = CliRunner().invoke(app, ["fit", str(tmp_path / "no.yaml"), "--out", str(tmp_path / "other")])
    assert missing.exit_code == 1
    assert "expected a file with settings" in missing.stderr
