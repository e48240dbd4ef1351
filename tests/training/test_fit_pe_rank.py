# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""A PE-Rank from a BERT-type encoder and from a language model: what it learns, where it goes on, what it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from haystack import Document
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from resrank_evals.peers.pe_rank import PERankRanker
from resrank_evals.peers.pe_rank_model import PERank, PERankConfig
from resrank_evals.systems import PERankSystem, parse_system
from resrank_training import cli
from resrank_training.lists import read_lists
from resrank_training.peers.causal import is_language_model, language_model_from_encoder
from resrank_training.peers.fit_pe_rank import PERankSettings, fit_pe_rank, pass_vectors_on, scale_projector
from resrank_training.peers.loop import Loop
from resrank_training.peers.pe_rank import align


def silent(what: str, done: int, total: int) -> None:
    """No progress."""


def stop_at(stage: str, step: int) -> Callable[[str, int, int], None]:
    def told(what: str, done: int, total: int) -> None:
        if (what, done) == (stage, step):
            raise KeyboardInterrupt

    return told


@pytest.fixture(scope="module")
def causal(long_mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("causal") / "model"
    language_model_from_encoder(long_mini, folder, seed=3)
    return folder


@pytest.fixture(scope="module")
def settings(long_mini: Path) -> PERankSettings:
    """Two steps, and ten of two lists of four."""
    return PERankSettings(
        base=str(long_mini),
        candidates=4,
        max_passage_length=2,
        max_query_length=6,
        align_length=8,
        align_steps=4,
        align_batch_size=4,
        align_learning_rate=1e-3,
        steps=10,
        batch_size=2,
        learning_rate=1e-3,
        save_steps=3,
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "projector.safetensors") | load_file(folder / "language_model" / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# ------------------------------------------------------------------------------------------- a language model of an encoder


def test_nothing_is_missing_and_the_layers_are_the_encoders(long_mini, causal):
    model, report = AutoModelForCausalLM.from_pretrained(causal, dtype=torch.float32, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    encoder = AutoModel.from_pretrained(long_mini, dtype=torch.float32).state_dict()
    for name, weight in model.base_model.state_dict().items():
        assert torch.equal(weight, encoder[name]), name
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    tokenizer = AutoTokenizer.from_pretrained(causal)
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("[CLS]", "[SEP]")
    assert is_language_model(causal)
    assert not is_language_model(long_mini)


def test_it_attends_to_earlier_tokens_alone_and_a_cache_changes_nothing(causal):
    model = AutoModelForCausalLM.from_pretrained(causal, dtype=torch.float32).eval()
    read = torch.randn(1, 9, model.config.hidden_size)
    with torch.inference_mode():
        whole = model.base_model(inputs_embeds=read, use_cache=False).last_hidden_state
        first = model.base_model(inputs_embeds=read[:, :6], use_cache=True)
        found, cache = [first.last_hidden_state], first.past_key_values
        for place in range(6, 9):
            step = model.base_model(inputs_embeds=read[:, place : place + 1], past_key_values=cache, use_cache=True)
            found.append(step.last_hidden_state)
            cache = step.past_key_values
    torch.testing.assert_close(torch.cat(found, dim=1), whole, atol=1e-5, rtol=1e-4)


def test_fresh_weights_are_those_of_the_seed_and_draws_go_on(long_mini, tmp_path):
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        language_model_from_encoder(long_mini, tmp_path / name, seed)
    assert torch.equal(torch.rand(3), expected)
    transforms = [
        load_file(tmp_path / name / "model.safetensors")["cls.predictions.transform.dense.weight"] for name in "abc"
    ]
    assert torch.equal(transforms[0], transforms[1])
    assert not torch.equal(transforms[0], transforms[2])


def test_other_bases_are_refused(qwen_encoder_folder, tmp_path):
    with pytest.raises(ValueError, match=r"expected a BERT-type encoder .* got qwen3 in .*: give a causal"):
        language_model_from_encoder(qwen_encoder_folder, tmp_path / "out")
    with pytest.raises(ValueError, match=r"is no model folder .*: give a Hugging Face model"):
        is_language_model(tmp_path)


def test_alignment_goes_through_the_whole_head(causal, unit_vectors):
    model = PERank.from_language_model(causal, PERankConfig(8, "a" * 16), device="cpu", dtype="float32")
    hidden = torch.randn(3, int(model.language_model.config.hidden_size))
    torch.testing.assert_close(model.token_logits(hidden), model.language_model.cls(hidden))
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    losses = align(model, unit_vectors(2, 8), ["a city", "two dates"], Loop(5e-3, batch_size=2, steps=30), whole=True)
    assert losses[-1] < 0.7 * losses[0]
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert "language_model.cls.predictions.transform.dense.weight" in moved
    assert "language_model.bert.encoder.layer.0.output.dense.weight" in moved


def test_slots_are_the_vectors_themselves(causal, unit_vectors):
    size = AutoConfig.from_pretrained(causal).hidden_size
    model = PERank.from_language_model(causal, PERankConfig(size, "a" * 16), device="cpu", dtype="float32")
    vectors = unit_vectors(5, size)
    pass_vectors_on(model)
    torch.testing.assert_close(model.project(vectors), torch.from_numpy(vectors), atol=2e-3, rtol=0)


def test_slots_are_as_long_as_token_embeddings(causal, unit_vectors):
    torch.manual_seed(0)
    model = PERank.from_language_model(causal, PERankConfig(24, "a" * 16), device="cpu", dtype="float32")
    vectors = unit_vectors(300, 24)
    scale_projector(model, vectors)
    slots = model.project(vectors)
    tokens = model.language_model.get_input_embeddings().weight.norm(dim=-1).mean()
    assert slots.norm(dim=-1).mean().item() == pytest.approx(tokens.item(), rel=0.1)
    assert torch.nn.functional.cosine_similarity(slots[:150], slots[150:]).mean().abs() < 0.1


# ------------------------------------------------------------------------------------------------------------ training


def test_what_is_trained_ranks_and_learns(list_folder, tiny_mini, settings, tmp_path):
    model, sets = tiny_mini(), [read_lists(list_folder("a", count=4, candidates=4))]
    told: list[Any] = []
    longer = replace(settings, steps=60, batch_size=4, learning_rate=5e-3, align_learning_rate=5e-3)
    report = fit_pe_rank(sets, model, tmp_path / "out", longer, lambda *each: told.append(each))
    assert report.steps == {"Aligning": 4, "Ranking": 60}
    assert report.last_loss < 0.7 * report.first_loss
    assert told[-1] == ("Ranking", 60, 60)
    ranker = PERankRanker.from_pretrained(tmp_path / "out", device="cpu", dtype="float32", top_k=None)
    right = 0
    for each in sets[0].lists:
        texts = [sets[0].passages[id_].content for id_ in each.passages]
        vectors = model.encode_passages(texts)
        documents = [
            Document(
                id=id_, content=text, embedding=vector.tolist(), meta={"resrank": {"fingerprint": model.fingerprint}}
            )
            for id_, text, vector in zip(each.passages, texts, vectors, strict=True)
        ]
        ranked = ranker.run(query=each.query, documents=documents)["documents"]
        right += ranked[0].id == each.passages[each.positives[0]]
    assert right >= 3


def test_what_is_written(list_folder, tiny_mini, settings, tmp_path):
    sets = [read_lists(list_folder("a", count=6))]
    fit_pe_rank(sets, tiny_mini(), tmp_path / "out", settings, silent)
    out = tmp_path / "out"
    done = json.loads((out / "training.json").read_text())
    assert done["lists"] == [{"name": "a", "digest": sets[0].digest, "lists": 6}]
    assert done["settings"]["base"] == "long-mini"
    assert done["made_of_an_encoder"] is True
    assert done["encoder"] == tiny_mini().fingerprint
    assert {"torch", "transformers", "resrank"} <= set(done["versions"])
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["step"]) for row in rows] == [
        ("Aligning", 1),
        ("Aligning", 4),
        ("Ranking", 1),
        ("Ranking", 10),
    ]
    assert math.isfinite(rows[2]["rank"])
    card = (out / "README.md").read_text()
    assert "**Adaptation: trained by ResRank's maintainers on long-mini, not the authors' model.**" in card
    assert "stage 1 trains this language model, too" in card
    assert sets[0].digest in card
    assert not {path.name for path in out.iterdir()} & {"checkpoints", "training.json.part"}
    for path in (*out.glob("*.json"), out / "README.md"):
        assert str(tmp_path) not in path.read_text()


@pytest.mark.parametrize("place", [("Aligning", 4), ("Ranking", 1), ("Ranking", 10)])
def test_an_interrupted_run_ends_with_the_same_weights(list_folder, tiny_mini, settings, tmp_path, place):
    sets = [read_lists(list_folder("a", count=6))]
    fit_pe_rank(sets, tiny_mini(), tmp_path / "whole", settings, silent)
    with pytest.raises(KeyboardInterrupt):
        fit_pe_rank(sets, tiny_mini(), tmp_path / "out", settings, stop_at(*place))
    assert not (tmp_path / "out" / "training.json").exists()
    told: list[Any] = []
    fit_pe_rank(sets, tiny_mini(), tmp_path / "out", settings, lambda *each: told.append(each))
    assert same(tmp_path / "out", tmp_path / "whole")
    assert (tmp_path / "out" / "log.jsonl").read_text() == (tmp_path / "whole" / "log.jsonl").read_text()
    assert ("Aligning", 1, 4) not in told  # there was a checkpoint after the third step


def test_a_language_model_is_trained_as_published(list_folder, tiny_qwen, qwen_language_model_folder, tmp_path):
    sets = [read_lists(list_folder("a", count=4))]
    settings = PERankSettings(
        base=str(qwen_language_model_folder),
        candidates=3,
        align_steps=2,
        steps=2,
        batch_size=2,
        lora_rank=2,
        save_steps=1,
    )
    fit_pe_rank(sets, tiny_qwen(), tmp_path / "out", settings, silent)
    assert json.loads((tmp_path / "out" / "training.json").read_text())["made_of_an_encoder"] is False
    assert "stage 1 trains this" not in (tmp_path / "out" / "README.md").read_text()
    before = load_file(qwen_language_model_folder / "model.safetensors")
    after = load_file(tmp_path / "out" / "language_model" / "model.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not any("embed" in name or "norm" in name for name in moved)  # adapters on linear layers alone


def test_the_first_stage_can_be_left_out(list_folder, tiny_mini, settings, tmp_path):
    sets = [read_lists(list_folder("a", count=6))]
    report = fit_pe_rank(sets, tiny_mini(), tmp_path / "out", replace(settings, align_steps=0, steps=1), silent)
    assert report.steps == {"Aligning": 0, "Ranking": 1}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "* stage 1 is left out;" in card
    assert "trains this language model" not in card


# ------------------------------------------------------------------------------------------------------------- refusals


def test_finished_and_other_folders_are_refused(list_folder, tiny_mini, settings, tmp_path):
    sets = [read_lists(list_folder("a", count=6))]
    with pytest.raises(KeyboardInterrupt):
        fit_pe_rank(sets, tiny_mini(), tmp_path / "out", settings, stop_at("Ranking", 1))
    with pytest.raises(ValueError, match="begun with other settings, lists or packages"):
        fit_pe_rank(sets, tiny_mini(), tmp_path / "out", replace(settings, seed=1), silent)
    fit_pe_rank(sets, tiny_mini(), tmp_path / "out", settings, silent)
    with pytest.raises(FileExistsError, match="holds a finished PE-Rank"):
        fit_pe_rank(sets, tiny_mini(), tmp_path / "out", settings, silent)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": 40}, r"40 passages take \d+ positions, the language model has 512: lower"),
        ({"max_passage_length": 200}, r"4 passages take \d+ positions, the language model has 512: lower"),
        ({"align_length": 600}, r"1 passages take \d+ positions, the language model has 512: lower"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_training(list_folder, tiny_mini, settings, changes, message):
    lists = list_folder("a", count=6)
    with pytest.raises(ValueError, match=message):
        fit_pe_rank([read_lists(lists)], tiny_mini(), lists.parent / "out", replace(settings, **changes), silent)
    assert not (lists.parent / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": 1}, "candidates must be at least 2, got 1"),
        ({"unjudged": "last"}, "unjudged must be one of tied, pool, got 'last'"),
        ({"lora_rank": -1}, "lora_rank must be positive, or 0 for all weights, got -1"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive, got nan"),
        ({"steps": 0}, "steps must be positive, got 0"),
        ({"align_steps": -1}, "align_steps must be 0 or more, got -1"),
    ],
)
def test_wrong_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        PERankSettings(**changes)


# ------------------------------------------------------------------------------------------------------------- command


def test_command(list_folder, tiny_mini_checkpoint, long_mini, tmp_path, monkeypatch):
    list_folder("lists", count=4)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    small = (
        *(
            "--base",
            str(long_mini),
            "--model",
            str(tiny_mini_checkpoint),
            "--candidates",
            "3",
            "--max-passage-length",
            "2",
        ),
        *("--align-length", "6", "--align-steps", "1", "--batch-size", "2"),
    )
    runner = CliRunner()
    done = runner.invoke(cli.app, ["peer", "pe-rank", "lists", "--out", "out", *small, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["steps"], found["lists"], found["out"]) == ({"Aligning": 1, "Ranking": 2}, 4, "out")
    assert parse_system(found["system"]) == PERankSystem("out")
    assert "Ranking: 2 of 2" in done.stderr
    again = runner.invoke(cli.app, ["peer", "pe-rank", "lists", "--out", "out", *small])
    assert again.exit_code == 1
    assert "error: out holds a finished PE-Rank: name another folder" in again.stderr
    bad = runner.invoke(cli.app, ["peer", "pe-rank", "nothing", "--out", "bad", *small])
    assert bad.exit_code == 1
    assert "expected a folder of training lists" in bad.stderr
    other = runner.invoke(cli.app, ["peer", "pe-rank", "lists", "--out", "bad", "--base", "nothing"])
    assert other.exit_code == 1
    assert "no model 'nothing'" in other.stderr
