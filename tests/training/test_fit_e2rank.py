# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""E2Rank's losses against sums by hand, and runs from a BERT-type encoder and from a Qwen3-type embedder."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from haystack import Document
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer
from typer.testing import CliRunner

from resrank.runtime import Runtime
from resrank_evals.collection import Passage
from resrank_evals.peers.e2rank import E2RankRanker, load_embedder
from resrank_evals.systems import E2RankSystem, parse_system
from resrank_training import cli
from resrank_training.lists import ListSet, TrainingList, read_lists
from resrank_training.peers.e2rank import (
    Lengths,
    ListwiseExample,
    contrast,
    embedding_losses,
    listwise_examples,
    multi_task_losses,
    ranking,
)
from resrank_training.peers.embedder import embedder_from_encoder
from resrank_training.peers.fit_e2rank import E2RankSettings, fit_e2rank

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"


def silent(what: str, done: int, total: int) -> None:
    """No progress."""


def stop_at(stage: str, step: int) -> Callable[[str, int, int], None]:
    def told(what: str, done: int, total: int) -> None:
        if (what, done) == (stage, step):
            raise KeyboardInterrupt

    return told


@pytest.fixture(scope="module")
def settings(long_mini: Path) -> E2RankSettings:
    """Three steps of four queries, and ten of two lists of four."""
    return E2RankSettings(
        base=str(long_mini),
        candidates=4,
        max_length=8,
        max_query_length=12,
        embed_steps=3,
        embed_batch_size=4,
        steps=10,
        batch_size=2,
        learning_rate=1e-3,
        save_steps=2,
    )


@pytest.fixture
def encoder(long_mini: Path, tmp_path: Path) -> Any:
    embedder_from_encoder(long_mini, tmp_path / "embedder")
    return load_embedder(tmp_path / "embedder", Runtime.resolve("cpu", "float32", "sdpa"), "made")


@pytest.fixture
def examples(corpus, queries) -> list[ListwiseExample]:
    """Lists of three and two that share a passage; the second has a positive that is no candidate."""
    first = ListwiseExample(queries[0], corpus[:3], (0, 1, 1), frozenset(corpus[:1]))
    second = ListwiseExample(queries[1], (corpus[6], corpus[1]), (0, 1), frozenset({corpus[6], corpus[2]}))
    return [first, second]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# -------------------------------------------------------------------------------------------------------------- losses


def test_losses_by_hand():
    lists = [
        ListwiseExample("q0", ("a", "b", "c"), (0, 2, 1), frozenset("a")),
        ListwiseExample("q1", ("b", "d"), (0, 1), frozenset("bc")),  # c is judged relevant, so it is no negative
    ]
    texts = list("abcd")
    passages = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]])
    queries = torch.tensor([[0.8, 0.6], [0.0, 1.0]])
    # q0: cosines .8 .96 .6 -.8, a against b, c, d. q1: 0 .8 1 0, b and c each against a and d.
    first = -math.log(math.exp(0.8 / 0.03) / sum(math.exp(cosine / 0.03) for cosine in (0.8, 0.96, 0.6, -0.8)))
    second = -sum(math.log(math.exp(cosine / 0.03) / (math.exp(cosine / 0.03) + 2)) for cosine in (0.8, 1.0)) / 2
    assert contrast(queries, passages, lists, texts).item() == pytest.approx((first + second) / 2, rel=1e-4)
    # q0: a over c over b. q1: b over d.
    pairs = [(0.8, 0.6), (0.8, 0.96), (0.6, 0.96)]
    one = sum(math.log(1 + math.exp((worse - better) / 0.1)) for better, worse in pairs) / 3
    other = math.log(1 + math.exp((0.0 - 0.8) / 0.1))
    assert ranking(queries, passages, lists, texts).item() == pytest.approx((one + other) / 2, rel=1e-4)


def test_vectors_are_those_of_the_ranker(encoder, examples, tmp_path):
    """What is trained is what is used: the same passages, the same prompt."""
    found = {}

    def spy(queries: torch.Tensor, passages: torch.Tensor, *_: Any) -> torch.Tensor:
        found["passages"], found["scores"] = passages.detach().numpy(), queries.detach().numpy()
        return queries.sum()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resrank_training.peers.e2rank.ranking", spy)
        multi_task_losses(encoder, examples[:1], Lengths(5, 4))
    ranker = E2RankRanker(
        model=str(tmp_path / "embedder"), max_length=5, max_query_length=4, listwise_k=3, device="cpu", dtype="float32"
    )
    np.testing.assert_allclose(found["passages"], ranker.encode_passages(list(examples[0].texts)), atol=1e-5)
    documents = [Document(id=str(i), content=text) for i, text in enumerate(examples[0].texts)]
    scores = {d.id: d.score for d in ranker.run(query=examples[0].query, documents=documents)["documents"]}
    expected = found["passages"] @ found["scores"][0]
    assert [scores[str(i)] for i in range(3)] == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("lengths", [Lengths(8, 8, chunk=16), Lengths(8, 8, recompute=True)])
def test_chunks_and_recomputing_change_nothing(encoder, examples, lengths):
    def run(how: Lengths) -> tuple[dict[str, float], torch.Tensor]:
        encoder.zero_grad()
        losses = multi_task_losses(encoder, examples, how)
        sum(losses.values()).backward()
        gradient = encoder.backbone.encoder.layer[0].output.dense.weight.grad.clone()
        return {name: loss.item() for name, loss in losses.items()}, gradient

    (losses, gradient), (expected, other) = run(lengths), run(Lengths(8, 8, chunk=10_000))
    assert losses == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(gradient, other, atol=1e-5, rtol=1e-3)
    assert gradient.abs().sum() > 0


def test_the_first_stage_is_the_first_loss(encoder, examples):
    with torch.no_grad():
        alone, both = (loss(encoder, examples, Lengths(8, 8)) for loss in (embedding_losses, multi_task_losses))
    assert set(alone) == {"info_nce"}
    assert alone["info_nce"].item() == pytest.approx(both["info_nce"].item(), rel=1e-5)
    assert all(loss.dtype == torch.float32 for loss in both.values())


def test_examples_of_lists():
    passages = {id_: Passage(f"text {id_}") for id_ in "abcdef"} | {"twin": Passage("text b")}
    lists = (
        TrainingList("q0", "query 0", tuple("abcdef"), (None, None, None, 1, None, 2)),
        TrainingList("q1", "query 1", ("a", "b", "twin"), (None, None, 1)),
        TrainingList("q2", "query 2", tuple("ab"), (None, 0)),
        TrainingList("q3", "query 3", tuple("abc"), (None, None, None), ranking=(2, 0)),
        TrainingList("q4", "query 4", ("b", "twin"), (1, None)),
    )
    found = listwise_examples([ListSet("made", lists, passages, {}, "0" * 16)], candidates=4)
    assert [dict(zip(each.texts, each.ranks, strict=True)) for each in found] == [
        {"text f": 0, "text d": 1, "text a": 2, "text b": 2},
        {"text b": 0, "text a": 1},
        {"text c": 0, "text a": 1, "text b": 2},
    ]
    assert [each.positives for each in found] == [{"text d", "text f"}, {"text b"}, {"text c"}]


# ------------------------------------------------------------------------------------------------------------ embedder


def test_an_embedder_of_an_encoder(long_mini, encoder, tmp_path):
    tokenizer = encoder.tokenizer
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert end == len(AutoTokenizer.from_pretrained(long_mini))
    embeddings = encoder.backbone.get_input_embeddings().weight
    assert torch.equal(embeddings[end], embeddings[tokenizer.sep_token_id])
    old = AutoModel.from_pretrained(long_mini, dtype=torch.float32)
    assert torch.equal(embeddings[:end], old.get_input_embeddings().weight)
    written = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert written == "[CLS]hi"
    assert tokenizer("a<|endoftext|>", add_special_tokens=False)["input_ids"][-1] == end


def test_other_bases_are_refused(qwen_encoder_folder, tmp_path):
    with pytest.raises(ValueError, match=r"expected a BERT-type encoder .* got qwen3 in .*: give a Qwen3-type"):
        embedder_from_encoder(qwen_encoder_folder, tmp_path / "out")


# ------------------------------------------------------------------------------------------------------------ training


def test_what_is_trained_ranks_and_learns(list_folder, settings, tmp_path):
    sets = [read_lists(list_folder("a", count=6, candidates=4))]
    told: list[Any] = []
    longer = replace(settings, max_length=24, max_query_length=30, steps=40, batch_size=6, learning_rate=2e-3)
    report = fit_e2rank(sets, tmp_path / "out", longer, lambda *each: told.append(each))
    assert report.steps == {"Embedding": 3, "Ranking": 40}
    assert report.last_loss < 0.5 * report.first_loss
    assert told[-1] == ("Ranking", 40, 40)
    system = parse_system(f"e2rank:{tmp_path / 'out'}{longer.system}")
    assert system == E2RankSystem(str(tmp_path / "out"), k=4, length=24, query=30)
    ranker = E2RankRanker(
        model=system.model,
        listwise_k=system.k,
        max_length=system.length,
        max_query_length=system.query,
        device="cpu",
        dtype="float32",
    )
    right = 0
    for each in sets[0].lists:
        documents = [Document(id=id_, content=sets[0].passages[id_].content) for id_ in each.passages]
        ranked = ranker.run(query=each.query, documents=documents)["documents"]
        right += ranked[0].id == each.passages[each.positives[0]]
    assert right >= 5


def test_what_is_written(list_folder, settings, tmp_path):
    sets = [read_lists(list_folder("a", count=6))]
    fit_e2rank(sets, tmp_path / "out", settings, silent)
    out = tmp_path / "out"
    done = json.loads((out / "training.json").read_text())
    assert (done["method"], done["made_of_an_encoder"], done["settings"]["base"]) == ("E2Rank", True, "long-mini")
    assert done["lists"] == [{"name": "a", "digest": sets[0].digest, "lists": 6}]
    card = (out / "README.md").read_text()
    assert "**Adaptation: trained by ResRank's maintainers on long-mini, not the authors' model.**" in card
    assert "e2rank:FOLDER,k=4,length=8,query=12" in card
    assert not {path.name for path in out.iterdir()} & {"checkpoints", "training.json.part"}
    for path in (*out.glob("*.json"), out / "README.md"):
        assert str(tmp_path) not in path.read_text()


@pytest.mark.parametrize("place", [("Embedding", 3), ("Ranking", 10)])
def test_an_interrupted_run_ends_with_the_same_weights(list_folder, settings, tmp_path, place):
    sets = [read_lists(list_folder("a", count=6))]
    fit_e2rank(sets, tmp_path / "whole", settings, silent)
    with pytest.raises(KeyboardInterrupt):
        fit_e2rank(sets, tmp_path / "out", settings, stop_at(*place))
    assert not (tmp_path / "out" / "training.json").exists()
    told: list[Any] = []
    fit_e2rank(sets, tmp_path / "out", settings, lambda *each: told.append(each))
    assert ("Embedding", 1, 3) not in told  # there was a checkpoint after the second step
    assert same(tmp_path / "out", tmp_path / "whole")
    with pytest.raises(FileExistsError, match="holds a finished E2Rank"):
        fit_e2rank(sets, tmp_path / "out", settings, silent)


def test_a_qwen_type_embedder_is_trained_as_published(list_folder, qwen_encoder_folder, settings, tmp_path):
    folder = shutil.copytree(qwen_encoder_folder, tmp_path / "qwen")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    sets = [read_lists(list_folder("a", count=4))]
    report = fit_e2rank(sets, tmp_path / "out", replace(settings, base=str(folder), embed_steps=0, steps=2), silent)
    assert report.steps == {"Ranking": 2}
    assert json.loads((tmp_path / "out" / "training.json").read_text())["made_of_an_encoder"] is False
    assert "bidirectional" not in (tmp_path / "out" / "README.md").read_text()
    E2RankRanker(model=str(tmp_path / "out"), device="cpu").warm_up()


# ------------------------------------------------------------------------------------------------------------- refusals


def test_what_cannot_be_trained_is_refused_before(list_folder, settings, qwen_encoder_folder, tmp_path):
    sets = [read_lists(list_folder("a", count=4))]

    def refused(message: str, of: Any = sets, **changes: Any) -> None:
        with pytest.raises(ValueError, match=message):
            fit_e2rank(of, tmp_path / "out", replace(settings, **changes), silent)
        assert not (tmp_path / "out").exists()

    refused(r"the prompt of 4 candidates has up to \d+ tokens, more than the 512 .*: lower candidates", max_length=200)
    refused("is no E2Rank model: .* lacks a chat template", base=str(qwen_encoder_folder))
    refused("is no model folder", base=str(tmp_path))
    unjudged = tuple(replace(each, grades=(None,) * len(each.grades), ranking=None) for each in sets[0].lists)
    refused("no list has a judged positive or a teacher's ranking", [replace(sets[0], lists=unjudged)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": 1}, "candidates must be at least 2, got 1"),
        ({"embed_candidates": 1}, "embed_candidates must be at least 2, got 1"),
        ({"unjudged": "last"}, "unjudged must be one of tied, pool, got 'last'"),
        ({"embed_steps": -1}, "embed_steps must be 0 or more, got -1"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive, got nan"),
    ],
)
def test_wrong_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        E2RankSettings(**changes)


# ------------------------------------------------------------------------------------------------------------- command


def test_command(list_folder, long_mini, tmp_path, monkeypatch):
    list_folder("lists", count=4)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    small = (
        "--base",
        str(long_mini),
        "--candidates",
        "3",
        "--max-length",
        "8",
        "--embed-steps",
        "0",
        "--batch-size",
        "2",
    )
    runner = CliRunner()
    done = runner.invoke(cli.app, ["peer", "e2rank", "lists", "--out", "out", *small])
    assert done.exit_code == 0, done.output
    assert "Steps: Ranking 2; 4 lists. Loss" in done.stdout
    assert "-s e2rank:out,k=3,length=8,query=64" in done.stdout
    again = runner.invoke(cli.app, ["peer", "e2rank", "lists", "--out", "out", *small])
    assert again.exit_code == 1
    assert "error: out holds a finished E2Rank: name another folder" in again.stderr
    long = runner.invoke(
        cli.app, ["peer", "e2rank", "lists", "--out", "bad", "--base", str(long_mini), "--max-length", "99"]
    )
    assert long.exit_code == 1
    assert "error: the prompt of 10 candidates has up to" in long.stderr
