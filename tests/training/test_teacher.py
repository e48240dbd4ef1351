# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

pytest.importorskip("datasets")

from sentence_transformers import CrossEncoder

from resrank_evals.collection import Passage
from resrank_training import cli
from resrank_training import teacher as teacher_module
from resrank_training.labelling import Candidates, make_teacher
from resrank_training.lists import ListSet, ListWriter, TrainingList, read_lists
from resrank_training.teacher import TeacherReport, TeacherSettings, draw_examples, train_teacher

WORDS = ("date", "bread", "paris", "query", "water", "vectors", "error", "mountain")


def silent(what: str, done: int, total: int) -> None:
    """No progress."""


def write_lists(folder: Path, lists: list[TrainingList], passages: dict[str, Passage]) -> ListSet:
    with ListWriter(folder, {"step": "test"}) as writer:
        writer.add(lists)
        writer.finish(passages, {})
    return read_lists(folder)


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> ListSet:
    """The passage that repeats the word "yeast" is relevant, whatever is asked."""
    passages = {f"n{i}": Passage(f"{word} {WORDS[i - 1]} salt") for i, word in enumerate(WORDS)}
    passages |= {f"p{i}": Passage(f"yeast {word} yeast") for i, word in enumerate(WORDS)}
    lists = []
    for n, word in enumerate(WORDS):
        ids = (*(f"n{i}" for i in range(len(WORDS)) if i != n), f"p{n}")
        lists.append(TrainingList(f"q{n}", f"what is {word}", ids, (None,) * 6 + (0, 1)))
    return write_lists(tmp_path_factory.mktemp("lists") / "made-up", lists, passages)


@pytest.fixture(scope="module")
def settings(mini_encoder_folder: Path) -> TeacherSettings:
    """Two epochs of four steps of two examples, with a checkpoint every two steps."""
    return TeacherSettings(
        base=str(mini_encoder_folder),
        negatives=3,
        epochs=2,
        batch_size=2,
        learning_rate=1e-3,
        max_length=32,
        save_steps=2,
        seed=5,
    )


@pytest.fixture(scope="module")
def whole(made_up: ListSet, settings: TeacherSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted."""
    folder = tmp_path_factory.mktemp("teachers") / "whole"
    train_teacher([made_up], folder, settings, silent)
    return folder


@pytest.fixture(scope="module", params=["listwise", "binary"])
def learned(
    request: pytest.FixtureRequest,
    made_up: ListSet,
    settings: TeacherSettings,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, Path, TeacherReport, list[Any]]:
    """A run that is long enough to learn, with either loss: its loss, folder, report and progress."""
    folder = tmp_path_factory.mktemp("teachers") / "learned"
    told: list[Any] = []
    longer = replace(settings, loss=request.param, epochs=20, learning_rate=3e-3, save_steps=50)
    return request.param, folder, train_teacher([made_up], folder, longer, lambda *each: told.append(each)), told


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def stop_at(step: int) -> Any:
    def told(what: str, done: int, total: int) -> None:
        if done == step:
            raise KeyboardInterrupt

    return told


# ------------------------------------------------------------------------------------------------------------ examples


def test_examples_by_hand(tmp_path):
    passages = {id_: Passage(f"text {id_}", "title" if id_ == "a" else "") for id_ in "abcdefg"}
    passages["twin"] = Passage("text b")
    lists = [
        TrainingList("q0", "query 0", tuple("abcd"), (None, 2, 0, 1)),  # two positives, two negatives
        TrainingList("q1", "query 1", ("b", "twin", "e", "f", "g"), (1, None, None, -1, 0)),
        TrainingList("q2", "query 2", tuple("ab"), (None, 0)),
        TrainingList("q3", "query 3", ("b", "twin"), (1, None)),
    ]
    found = draw_examples([write_lists(tmp_path / "lists", lists, passages)], 3)
    assert found.queries == ["query 0", "query 0", "query 1"]
    assert [each[0] for each in found.passages] == ["text b", "text d", "text b"]
    assert [sorted(each[1:]) for each in found.passages] == [
        ["text c", "title\ntext a"],
        ["text c", "title\ntext a"],
        ["text e", "text f", "text g"],
    ]
    assert dict(found.counts) == {
        "lists": 2,
        "examples": 3,
        "without_positive": 1,
        "without_negative": 1,
        "short": 2,
        "same_text": 2,
    }


def test_the_draw_depends_on_seed_and_example_alone(made_up, tmp_path):
    alone = draw_examples([made_up], 3, seed=1)
    assert alone == draw_examples([made_up], 3, seed=1)
    assert alone != draw_examples([made_up], 3, seed=2)
    other = write_lists(tmp_path / "other", [replace(made_up.lists[0], query_id="x")], dict(made_up.passages))
    assert draw_examples([other, made_up], 3, seed=1).passages[1:] == alone.passages
    assert all(len(set(each)) == 4 for each in alone.passages)
    assert len({tuple(each[1:]) for each in alone.passages}) > 1


# ------------------------------------------------------------------------------------------------------------ training


def test_learns_a_made_up_task(learned, made_up):
    loss, folder, report, told = learned
    assert report.steps == 80
    assert report.resumed_from is None
    assert report.last_loss < 0.5 * report.first_loss
    assert told[-1] == ("Training", 80, 80)
    model = CrossEncoder(str(folder), device="cpu")
    assert model.max_seq_length == 32
    for each in made_up.lists:
        scores = model.predict([(each.query, made_up.passages[id_].content) for id_ in each.passages])
        assert scores.argmax() == 7
    # unseen queries and passages
    pairs = [("capital of france", "yeast cats yeast"), ("capital of france", "cats water cats")]
    assert model.predict(pairs).argmax() == 0
    assert type(model.activation_fn).__name__ == ("Identity" if loss == "listwise" else "Sigmoid")


def test_the_first_listwise_loss_is_softmax_cross_entropy(made_up, settings, tmp_path):
    report = train_teacher([made_up], tmp_path / "out", replace(settings, max_steps=1, batch_size=8), silent)
    # A fresh head scores every passage nearly alike: the cross-entropy over four of them is nearly log 4.
    assert report.first_loss == pytest.approx(math.log(4), abs=0.1)


def test_a_teacher_can_label(learned, tmp_path):
    teacher = make_teacher(f"cross-encoder:{learned[1]}", answers=tmp_path / "a", device="cpu", dtype="float32")
    given = Candidates("q", "what is bread", ("bread water salt", "yeast cats yeast"), (None, None))
    assert teacher.order([given], silent)[0].ranking == (1, 0)


def test_what_is_written(made_up, settings, tmp_path, mini_encoder_folder):
    report = train_teacher([made_up], tmp_path / "out", settings, silent)
    out = tmp_path / "out"
    done = json.loads((out / "teacher.json").read_text())
    assert done["lists"] == [{"name": "made-up", "digest": made_up.digest, "lists": 8}]
    assert done["settings"]["base"] == "mini-encoder"
    assert done["counts"]["examples"] == 8
    assert set(done["versions"]) >= {"torch", "transformers", "sentence-transformers"}
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 4, 6, 8]
    assert (rows[0]["loss"], rows[-1]["loss"]) == (report.first_loss, report.last_loss)
    card = (out / "README.md").read_text()
    assert made_up.digest in card
    assert "| learning_rate | 0.001 |" in card
    assert "yeast" not in card  # none of the data
    names = {path.name for path in out.iterdir()}
    assert not names & {"checkpoints", "teacher.json.part", "training_args.bin"}
    for path in out.rglob("*.json"):
        assert str(mini_encoder_folder) not in path.read_text(), path


@pytest.mark.parametrize("steps", [(1, None), (2, None), (4, 2), (6, 4)])
def test_an_interrupted_run_ends_with_the_same_weights(made_up, settings, whole, tmp_path, steps):
    """At steps 1 and 2 there is no checkpoint yet; that of step 2 is inside an epoch, that of step 4 ends one."""
    step, resumed_from = steps
    with pytest.raises(KeyboardInterrupt):
        train_teacher([made_up], tmp_path / "out", settings, stop_at(step))
    assert not (tmp_path / "out" / "teacher.json").exists()
    resumed = train_teacher([made_up], tmp_path / "out", settings, silent)
    assert same(weights(tmp_path / "out"), weights(whole))
    assert (resumed.steps, resumed.resumed_from) == (8, resumed_from)
    curves = [
        [{key: row[key] for key in ("step", "loss", "learning_rate")} for row in map(json.loads, path.open())]
        for path in (whole / "log.jsonl", tmp_path / "out" / "log.jsonl")
    ]
    assert curves[0] == curves[1]


def test_a_run_killed_after_its_last_step_trains_no_further(made_up, settings, tmp_path, monkeypatch):
    settings = replace(settings, max_steps=3)
    train_teacher([made_up], tmp_path / "whole", settings, silent)
    with monkeypatch.context() as patch:
        patch.setattr(CrossEncoder, "save_pretrained", _killed_outside_checkpoints)
        with pytest.raises(KeyboardInterrupt):
            train_teacher([made_up], tmp_path / "out", settings, silent)
    report = train_teacher([made_up], tmp_path / "out", settings, silent)
    assert (report.steps, report.resumed_from) == (3, 3)
    assert same(weights(tmp_path / "out"), weights(tmp_path / "whole"))


def _killed_outside_checkpoints(self: CrossEncoder, path: str, **options: Any) -> None:
    if "checkpoint-" not in path:
        raise KeyboardInterrupt
    self.save(path, **options)


def test_a_step_in_several_forward_passes_is_the_same_step(made_up, settings, tmp_path, monkeypatch):
    for loss in ("listwise", "binary"):
        for pairs in (100, 8):  # 100: one pass of 16 pairs; 8: two of 8
            monkeypatch.setattr(teacher_module, "_PAIRS", {"cpu": pairs, "cuda": pairs})
            changed = replace(settings, loss=loss, batch_size=4, max_steps=3, save_steps=1, dtype="float32")
            train_teacher([made_up], tmp_path / f"{loss}-{pairs}", changed, silent)
        # Not the weights: Adam makes much of the rounding in gradients that are 0, as those of a list's common bias.
        logs = [map(json.loads, (tmp_path / f"{loss}-{pairs}" / "log.jsonl").open()) for pairs in (100, 8)]
        for row, again in zip(*logs, strict=True):
            assert row["loss"] == pytest.approx(again["loss"], rel=1e-3)
            assert row["grad_norm"] == pytest.approx(again["grad_norm"], rel=1e-3)
    with pytest.raises(KeyboardInterrupt):
        train_teacher([made_up], tmp_path / "out", changed, stop_at(3))
    report = train_teacher([made_up], tmp_path / "out", changed, silent)
    assert report.resumed_from == 2
    assert same(weights(tmp_path / "out"), weights(tmp_path / "binary-8"))


def test_half_a_checkpoint_is_not_resumed_from(made_up, settings, whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train_teacher([made_up], tmp_path / "out", settings, stop_at(6))
    checkpoints = tmp_path / "out" / "checkpoints"
    half = shutil.copytree(checkpoints / "checkpoint-4", checkpoints / "checkpoint-1000")
    (half / "trainer_state.json").write_text('{"global_step": 10')
    report = train_teacher([made_up], tmp_path / "out", settings, silent)
    assert report.resumed_from == 4
    assert same(weights(tmp_path / "out"), weights(whole))


def test_the_seed_decides(made_up, settings, tmp_path):
    found = []
    for number, seed in enumerate((1, 1, 2)):
        train_teacher([made_up], tmp_path / str(number), replace(settings, seed=seed, max_steps=2), silent)
        found.append(weights(tmp_path / str(number)))
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


def test_epochs_differ_in_their_order(made_up):
    batches = teacher_module._SeededBatches(list(range(8)), batch_size=2, drop_last=False, seed=3)
    orders = []
    for epoch in (0, 1, 0):
        batches.set_epoch(epoch)
        orders.append(list(batches))
        assert sorted(i for batch in orders[-1] for i in batch) == list(range(8))
    assert orders[0] == orders[2] != orders[1]


def test_a_lost_loss_ends_the_run(made_up, settings, tmp_path):
    with pytest.raises(RuntimeError, match=r"the loss is nan at step \d+: try a lower --learning-rate"):
        train_teacher([made_up], tmp_path / "out", replace(settings, learning_rate=1e30), silent)


# ------------------------------------------------------------------------------------------------------------- refusals


def test_finished_and_other_folders_are_refused(made_up, settings, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train_teacher([made_up], tmp_path / "out", settings, stop_at(4))
    with pytest.raises(ValueError, match="begun with other settings, lists or packages"):
        train_teacher([made_up], tmp_path / "out", replace(settings, negatives=2), silent)
    train_teacher([made_up], tmp_path / "out", settings, silent)
    with pytest.raises(FileExistsError, match="holds a finished teacher"):
        train_teacher([made_up], tmp_path / "out", settings, silent)


def test_lists_without_examples(settings, tmp_path):
    lists = write_lists(tmp_path / "lists", [TrainingList("q", "query", ("p",), (None,))], {"p": Passage("text")})
    with pytest.raises(ValueError, match=r"no list has a judged positive and a negative .*'without_positive': 1"):
        train_teacher([lists], tmp_path / "out", settings, silent)
    assert not (tmp_path / "out").exists()


def test_bad_bases(made_up, settings, tmp_path, tiny_mini_checkpoint, mini_encoder_folder):
    def refused(error: type[Exception], message: str, **changes: Any) -> None:
        with pytest.raises(error, match=message):
            train_teacher([made_up], tmp_path / "out", replace(settings, **changes), silent)
        assert not (tmp_path / "out").exists()

    refused(FileNotFoundError, "no model 'nothing'", base="nothing")
    refused(ValueError, "cannot be trained as a cross-encoder of 32 tokens", base=str(tiny_mini_checkpoint))
    refused(ValueError, "of 200 tokens: it reads 128 tokens, lower --max-length", max_length=200)
    (tmp_path / "empty").mkdir()
    refused(ValueError, "cannot be trained as a cross-encoder", base=str(tmp_path / "empty"))
    wide = CrossEncoder(str(mini_encoder_folder), num_labels=3, device="cpu")
    wide.save_pretrained(str(tmp_path / "wide"), create_model_card=False)
    refused(ValueError, "cannot be trained as a cross-encoder", base=str(tmp_path / "wide"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "margin"}, "loss must be one of listwise, binary, got 'margin'"),
        ({"negatives": 0}, "negatives must be positive, got 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"dtype": "float16"}, "dtype must be one of auto, float32, bfloat16, got 'float16'"),
        ({"epochs": -1.0}, "epochs must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive, got nan"),
        ({"max_steps": 0}, "max_steps must be positive, got 0"),
        ({"save_steps": 0}, "save_steps must be positive"),
    ],
)
def test_wrong_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        TeacherSettings(**changes)


def test_default_base_is_the_backbone_of_mini(made_up, tmp_path):
    settings = TeacherSettings(max_steps=1, batch_size=2, negatives=1, max_length=16)
    report = train_teacher([made_up], tmp_path / "out", settings, silent)
    assert report.steps == 1
    assert json.loads((tmp_path / "out" / "teacher.json").read_text())["settings"]["base"] == "all-MiniLM-L6-v2"
    assert CrossEncoder(str(tmp_path / "out"), device="cpu").model.config.num_hidden_layers == 6


# ------------------------------------------------------------------------------------------------------------- command


def test_command(made_up, mini_encoder_folder, tmp_path, monkeypatch):
    write_lists(tmp_path / "lists", list(made_up.lists), dict(made_up.passages))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    small = ("--base", str(mini_encoder_folder), "--max-length", "32", "--batch-size", "4", "--negatives", "3")
    runner = CliRunner()
    done = runner.invoke(cli.app, ["teacher", "lists", "--out", "out", *small, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["steps"], found["counts"]["examples"], found["out"]) == (2, 8, "out")
    assert "Training: 2 of 2" in done.stderr
    plain = runner.invoke(cli.app, ["teacher", "lists", "--out", "again", *small], catch_exceptions=False)
    assert "2 steps on 8 examples of 8 lists; 0 lists without a positive" in plain.stdout
    (tmp_path / "empty").mkdir()
    bad = runner.invoke(cli.app, ["teacher", "lists", "--out", "bad", "--base", "empty"], catch_exceptions=False)
    assert bad.exit_code == 1
    assert "error: base 'empty' cannot be trained as a cross-encoder of 256 tokens: Unrecognized model" in bad.stderr
    again = runner.invoke(cli.app, ["teacher", "lists", "--out", "out", *small], catch_exceptions=False)
    assert again.exit_code == 1
    assert "holds a finished teacher" in again.stderr
