# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Training a span reader: examples, loss, and a reader that learns."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from resrank.reader import ReaderConfig, SpanReader, new_reader
from resrank_evals.collection import Collection, Passage
from resrank_training.lists import ListSet, TrainingList
from resrank_training.progress import TrainingProgress
from resrank_training.reader import Batches, ReaderSettings, collate, gold_passage_quality, span_loss, train_reader
from resrank_training.reader_examples import NO_ANSWER, make_examples, occurrences

NAMES = ("Paris", "London", "Kyoto", "Madrid", "Berlin", "Cairo", "Lima", "Oslo")


def silent(*_: object) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def base(mini_encoder_folder: Path) -> str:
    return str(mini_encoder_folder)


@pytest.fixture
def reader(base: str) -> SpanReader:
    return new_reader(base, ReaderConfig(max_length=48, stride=8, max_query_length=16, max_answer_length=8))


def _collection(questions: int = 8) -> tuple[Collection, dict[str, list[str]]]:
    passages = {f"p{i}": Passage(f"The city number {i} is {NAMES[i]} and it is old.") for i in range(questions)}
    collection = Collection(
        name="cities",
        split="train",
        passages=passages,
        queries={f"q{i}": f"which city has the number {i}?" for i in range(questions)},
        qrels={f"q{i}": {f"p{i}": 1} for i in range(questions)},
    )
    return collection, {f"q{i}": [NAMES[i]] for i in range(questions)}


def _list_set(collection: Collection) -> ListSet:
    ids = tuple(collection.passages)
    lists = tuple(
        TrainingList(query_id, query, ids, tuple(1 if collection.qrels[query_id].get(id_) else None for id_ in ids))
        for query_id, query in collection.queries.items()
    )
    return ListSet(collection.name, lists, collection.passages, {}, "0" * 16)


def test_answers_are_found_as_whole_words_whatever_the_case():
    text = "The cat sat; THE  CAT, concatenated."
    assert occurrences(text, ["the cat"]) == [(0, 7), (13, 21)]
    assert occurrences(text, ["cat", "sat"]) == [(4, 7), (8, 11), (18, 21)]
    assert occurrences(text, ["conc", "", " ", "dog"]) == []
    assert occurrences("It cost $4.50 (net).", ["$4.50"]) == [(8, 13)]


def test_examples_hold_the_tokens_of_every_occurrence(reader: SpanReader):
    collection, answers = _collection(1)
    text = "Paris is Paris, said the old man of paris."
    collection = replace(collection, passages={"p0": Passage(text)})
    found = make_examples(reader, [(collection, answers)])
    (example,) = found.windows
    for first, last in example.spans:
        start, end = example.window.offsets[first][0], example.window.offsets[last][1]
        assert text[start:end].lower() == "paris"
    assert len(example.spans) == 3
    assert found.counts["answered"] == found.counts["questions"] == 1


def test_what_teaches_nothing_is_counted(reader: SpanReader):
    collection, answers = _collection(4)
    answers["q0"] = []
    answers["q1"] = ["words of their own"]
    del answers["q2"]
    found = make_examples(reader, [(collection, answers)])
    counts = found.counts
    assert (counts["questions"], counts["answered"]) == (4, 1)
    assert (counts["without_answer"], counts["without_span"]) == (2, 1)
    assert [each.window.passage for each in found.windows] == [0]


def test_a_window_without_the_answer_teaches_that_it_is_not_there(reader: SpanReader):
    collection, answers = _collection(1)
    long = "bread needs flour and water. " * 30 + "Paris."
    collection = replace(collection, passages={"p0": Passage(long)})
    found = make_examples(reader, [(collection, answers)]).windows
    assert len(found) > 2
    assert [each.spans == NO_ANSWER for each in found] == [True] * (len(found) - 1) + [False]


def test_unanswerable_passages_come_from_the_lists_and_hold_no_answer(reader: SpanReader):
    collection, answers = _collection(8)
    lists = [_list_set(collection)]
    found = make_examples(reader, [(collection, answers)], lists, unanswerable=1.0)
    assert found.counts["unanswerable"] == 8
    assert sum(each.spans == NO_ANSWER for each in found.windows) == 8
    again = make_examples(reader, [(collection, answers)], lists, unanswerable=1.0)
    assert found.windows == again.windows
    assert found.windows != make_examples(reader, [(collection, answers)], lists, unanswerable=1.0, seed=1).windows
    assert make_examples(reader, [(collection, answers)], lists, unanswerable=0.0).counts["unanswerable"] == 0
    everywhere = {query_id: [*NAMES, "city"] for query_id in answers}  # each passage holds one of these
    assert make_examples(reader, [(collection, everywhere)], lists, unanswerable=1.0).counts["unanswerable"] == 0


def test_loss_is_the_marginal_likelihood_of_the_right_spans():
    generator = torch.Generator().manual_seed(0)
    start, end = torch.randn(2, 6, generator=generator), torch.randn(2, 6, generator=generator)
    readable = torch.tensor([[1, 0, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]], dtype=torch.bool)
    spans = torch.tensor([[[2, 3], [4, 4]], [[0, 0], [-1, -1]]])

    def naive(row: int, right: list[tuple[int, int]]) -> float:
        of = [i for i in range(6) if readable[row, i]]
        starts = {i: math.exp(start[row, i]) / sum(math.exp(start[row, j]) for j in of) for i in of}
        ends = {i: math.exp(end[row, i]) / sum(math.exp(end[row, j]) for j in of) for i in of}
        return -math.log(sum(starts[i] * ends[j] for i, j in right))

    found = span_loss(start, end, readable, spans)
    np.testing.assert_allclose(found, [naive(0, [(2, 3), (4, 4)]), naive(1, [(0, 0)])], rtol=1e-5)
    half = span_loss(start.bfloat16(), end.bfloat16(), readable, spans)
    assert half.dtype == torch.float32
    np.testing.assert_allclose(half, found, atol=0.05)


def test_loss_teaches_both_ends_and_nothing_where_nothing_is_read():
    start, end = torch.zeros(1, 4, requires_grad=True), torch.zeros(1, 4, requires_grad=True)
    readable = torch.tensor([[True, False, True, True]])
    span_loss(start, end, readable, torch.tensor([[[2, 3]]])).sum().backward()
    np.testing.assert_allclose(start.grad, [[1 / 3, 0, -2 / 3, 1 / 3]], rtol=1e-5)
    np.testing.assert_allclose(end.grad, [[1 / 3, 0, 1 / 3, -2 / 3]], rtol=1e-5)


def test_collated_windows_show_what_may_be_read(reader: SpanReader):
    collection, answers = _collection(3)
    windows = make_examples(reader, [(collection, answers)]).windows
    batch = collate(windows, pad_token_id=0)
    for row, each in enumerate(windows):
        expected = [i == 0 or place is not None for i, place in enumerate(each.window.offsets)]
        assert batch["readable"][row].tolist()[: len(expected)] == expected
        assert not batch["readable"][row, len(expected) :].any()
        assert [tuple(span) for span in batch["spans"][row].tolist() if span[0] >= 0] == list(each.spans)


def test_batches_hold_every_window_once_and_windows_of_like_length(reader: SpanReader):
    collection, answers = _collection(8)
    texts = {f"p{i}": Passage(f"{NAMES[i]}" + " is old" * (i % 4)) for i in range(8)}
    windows = make_examples(reader, [(replace(collection, passages=texts), answers)]).windows
    batches = Batches(windows, 3, seed=0)
    drawn = [each for place in range(len(batches)) for each in batches[place]]
    assert len(drawn) == len(windows) == 8
    assert all(any(each is other for other in drawn) for each in windows)
    lengths = [len(each.window.ids) for each in drawn]
    assert lengths == sorted(lengths)
    alike = [replace(windows[0], spans=((i, i),)) for i in range(6)]  # of one length: the seed decides
    assert [Batches(alike, 3, seed=0)[i] for i in (0, 1)] == [Batches(alike, 3, seed=0)[i] for i in (0, 1)]
    assert [Batches(alike, 3, seed=0)[i] for i in (0, 1)] != [Batches(alike, 3, seed=1)[i] for i in (0, 1)]


@pytest.mark.parametrize("rank", [0, 4])
def test_a_reader_learns_and_what_is_written_answers_alike(rank: int, base: str, tmp_path: Path):
    data = _collection(8)
    settings = ReaderSettings(
        base=base, max_length=48, rank=rank, epochs=60, batch_size=8, learning_rate=1e-2, save_steps=1000
    )
    report = train_reader([data], [_list_set(data[0])], tmp_path / "out", settings, silent, dev=[data])
    assert report["last_loss"] < 0.3 * report["first_loss"]
    assert report["dev"]["cities"]["EM"] >= 0.75
    assert report["counts"]["answered"] == 8
    folder = tmp_path / "out" / "reader"
    assert (folder / "adapter_config.json").exists() == bool(rank)
    loaded = SpanReader.from_pretrained(folder)
    assert gold_passage_quality(loaded, *data, silent) == report["dev"]["cities"]
    assert not (tmp_path / "out" / "checkpoints").exists()
    assert base not in (tmp_path / "out" / "reader.json").read_text()
    with pytest.raises(FileExistsError, match="finished reader"):
        train_reader([data], [], tmp_path / "out", settings, silent)


@pytest.mark.parametrize("at", [6, 12])
def test_a_killed_run_ends_as_one_that_was_not(at: int, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In the middle, and after the last step, when nothing but the reader's folder is missing."""
    data = _collection(8)
    settings = ReaderSettings(
        base=base, max_length=48, rank=4, epochs=6, batch_size=4, learning_rate=1e-2, save_steps=4
    )
    train_reader([data], [], tmp_path / "whole", settings, silent)

    class Killed(Exception):
        pass

    def killing(self: TrainingProgress, args, state, control, **rest):
        if state.global_step == at:
            raise Killed

    where = "on_train_end" if at == 12 else "on_step_end"
    with monkeypatch.context() as patched:
        patched.setattr(TrainingProgress, where, killing)
        with pytest.raises(Killed):
            train_reader([data], [], tmp_path / "killed", settings, silent)
    assert (tmp_path / "killed" / "reader.json.part").exists()
    (tmp_path / "killed" / "checkpoints" / "checkpoint-99").mkdir()  # the kill came while it was written
    with pytest.raises(ValueError, match="begun with other settings"):
        train_reader([data], [], tmp_path / "killed", replace(settings, seed=1), silent)
    other_answers = {**data[1], "q0": ["old"]}
    with pytest.raises(ValueError, match="begun with other settings or data"):
        train_reader([(data[0], other_answers)], [], tmp_path / "killed", settings, silent)
    train_reader([data], [], tmp_path / "killed", settings, silent)
    one, other = (
        SpanReader.from_pretrained(tmp_path / name / "reader", device="cpu", dtype="float32").model.state_dict()
        for name in ("whole", "killed")
    )
    for name, weight in one.items():
        torch.testing.assert_close(weight, other[name], rtol=1e-3, atol=1e-5, msg=name)


def test_a_lost_loss_ends_the_run(base: str, tmp_path: Path):
    settings = ReaderSettings(base=base, max_length=48, epochs=3, batch_size=4, learning_rate=1e30)
    with pytest.raises(RuntimeError, match=r"the loss is nan at step \d+: lower the learning rate"):
        train_reader([_collection(8)], [], tmp_path / "out", settings, silent)
    assert not (tmp_path / "out" / "reader.json").exists()


def test_an_adapter_knows_its_base(mini_encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    own = shutil.copytree(mini_encoder_folder, tmp_path / "own")
    monkeypatch.chdir(tmp_path)
    settings = ReaderSettings(base="own", max_length=48, rank=4, max_steps=1)
    train_reader([_collection(8)], [], tmp_path / "out", settings, silent)
    monkeypatch.chdir(tmp_path.parent)
    SpanReader.from_pretrained(tmp_path / "out" / "reader", device="cpu")
    weights = load_file(own / "model.safetensors")
    save_file({name: weight * 1.1 for name, weight in weights.items()}, own / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"updates another .*: expected weights of sha256"):
        SpanReader.from_pretrained(tmp_path / "out" / "reader", device="cpu")


def test_a_base_that_reads_less_makes_a_reader_that_loads(base: str, tmp_path: Path):
    train_reader([_collection(8)], [], tmp_path / "out", ReaderSettings(base=base, rank=4, max_steps=1), silent)
    loaded = SpanReader.from_pretrained(tmp_path / "out" / "reader", device="cpu")
    assert loaded.config.max_length == loaded.model.config.max_position_embeddings < ReaderSettings().max_length


def test_gold_passage_quality_by_hand(reader: SpanReader, monkeypatch: pytest.MonkeyPatch):
    collection, answers = _collection(3)
    answers["q0"] = ["The city number 0"]
    answers["q2"] = []

    class Fixed:
        def read(self, query, passages, report):
            from resrank.reader import Span

            return [Span(0, 0, 15, passages[0][:15], 1.0)]

    found = gold_passage_quality(Fixed(), collection, answers, silent)
    # "The city number" against "city number 0": tokens city, number of 2 and 3; against Kyoto and the like nothing.
    assert found == {"EM": 0.0, "F1": pytest.approx((2 * 2 / 5 + 0) / 2), "questions": 2}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs must be positive"),
        ({"batch_size": -1}, "batch_size must be positive"),
        ({"max_length": 10}, "leaves no room"),
        ({"rank": -1}, "rank must be positive, or 0"),
        ({"unanswerable": 1.5}, "share between 0 and 1"),
    ],
)
def test_bad_settings(values: dict, message: str):
    with pytest.raises(ValueError, match=message):
        assert ReaderSettings(**values).config


def test_data_without_examples(base: str, tmp_path: Path):
    collection, _ = _collection(2)
    with pytest.raises(ValueError, match="no answer stands in its passage"):
        train_reader([(collection, {})], [], tmp_path / "out", ReaderSettings(base=base, max_length=48), silent)
    assert not (tmp_path / "out").exists()


def test_the_command(base: str, tmp_path: Path):
    from typer.testing import CliRunner

    from resrank_training.cli import app

    collection, answers = _collection(8)
    folder = tmp_path / "cities"
    (folder / "qrels").mkdir(parents=True)

    def write(name: str, rows: list[dict]) -> None:
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    write("corpus.jsonl", [{"_id": id_, "text": passage.text} for id_, passage in collection.passages.items()])
    write("queries.jsonl", [{"_id": id_, "text": text} for id_, text in collection.queries.items()])
    judged = "".join(f"q{i}\tp{i}\t1\n" for i in range(8))
    for split in ("train", "dev"):
        (folder / "qrels" / f"{split}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    command = ["reader", str(folder), "--base", base, "--max-length", "48", "--max-steps", "2", "--batch-size", "4"]
    lacking = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "none")])
    assert lacking.exit_code == 1
    assert not (tmp_path / "none").exists()
    write("answers.jsonl", [{"_id": id_, "answers": found} for id_, found in answers.items()])
    made = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out"), "--dev", "dev", "--json"])
    assert made.exit_code == 0, made.output
    report = json.loads(made.stdout)
    assert (report["steps"], report["counts"]["answered"]) == (2, 8)
    assert report["dev"]["cities"]["questions"] == 8
    assert report["settings"]["rank"] == 16
    SpanReader.from_pretrained(report["out"], device="cpu")
    again = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out")])
    assert again.exit_code == 1
