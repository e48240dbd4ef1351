# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification
from typer.testing import CliRunner

from resrank_evals.collection import Passage
from resrank_training import cli, labelling
from resrank_training.labelling import Candidates, Grades, Order, fuse_rankings, label, make_teacher
from resrank_training.lists import ListSet, ListWriter, TrainingList, read_lists

EVIDENCE = np.array([[0.5, np.nan, 1.0, 0.25, 0.0, 0.5, 0.0, np.nan, 1.0, 0.25]], dtype=np.float32)


def silent(what: str, done: int, total: int) -> None:
    """No progress."""


def write_lists(folder: Path, lists: Sequence[TrainingList], passages: dict[str, Passage]) -> ListSet:
    with ListWriter(folder, {"step": "test"}) as writer:
        writer.add(lists)
        writer.finish(passages, {})
    return read_lists(folder)


def make_lists(count: int = 5, candidates: int = 4) -> tuple[list[TrainingList], dict[str, Passage]]:
    passages = {f"p{i}": Passage(f"text {i}", "" if i % 2 else f"title {i}") for i in range(candidates)}
    evidence = np.repeat(EVIDENCE, candidates, axis=0)
    grades = (None, 0, *[1] * (candidates - 2))
    lists = [TrainingList(f"q{n}", f"query {n}", tuple(passages), grades, evidence) for n in range(count)]
    return lists, passages


@pytest.fixture
def lists(tmp_path: Path) -> ListSet:
    return write_lists(tmp_path / "lists", *make_lists())


class Reversed:
    """Orders backwards, and remembers what it was asked; fails at a list when told to."""

    def __init__(self, name: str = "reversed", fail_at: str | None = None) -> None:
        self.name = name
        self.settings = {"kind": "test"}
        self.asked: list[Candidates] = []
        self.fail_at = fail_at

    def order(self, lists: Sequence[Candidates], progress: Any) -> list[Order]:
        if any(each.query_id == self.fail_at for each in lists):
            raise KeyboardInterrupt
        self.asked += lists
        return [
            Order(tuple(reversed(range(len(each.texts)))), {"answers": 1, "failed": 0, "read": len(each.texts)})
            for each in lists
        ]


class Failing(Reversed):
    def order(self, lists: Sequence[Candidates], progress: Any) -> list[Order]:
        self.asked += lists
        return [Order(tuple(range(len(each.texts))), {"answers": 2, "failed": 1}, ("nothing said",)) for each in lists]


# ------------------------------------------------------------------------------------------------------------ fusion


def test_fusion_by_hand():
    # candidate 0: 1/61 + 1/63 = .032266, 1: 1/62 + 1/61 = .032522, 2: 1/63 + 1/62 = .032002
    assert fuse_rankings([(0, 1, 2), (1, 2, 0)]) == (1, 0, 2)
    assert fuse_rankings([(0, 1), (1, 0)]) == (0, 1)  # a tie: by candidate
    assert fuse_rankings([(3, 1, 2)]) == (3, 1, 2)
    assert fuse_rankings([()]) == ()
    assert fuse_rankings([(0, 1, 2), (1, 2, 0)], k=1) == (1, 0, 2)


def test_ties_of_three_teachers_do_not_depend_on_their_order():
    rankings = [(0, 1, 2), (1, 2, 0), (2, 0, 1)]  # each candidate is first, second and third once
    assert {fuse_rankings(each) for each in permutations(rankings)} == {(0, 1, 2)}


def test_fusion_agrees_with_a_naive_one():
    rng = np.random.default_rng(0)
    for _ in range(20):
        rankings = [tuple(int(i) for i in rng.permutation(9)) for _ in range(3)]
        score = {c: sum(1 / (60 + ranking.index(c) + 1) for ranking in rankings) for c in range(9)}
        assert fuse_rankings(rankings) == tuple(sorted(range(9), key=lambda c: (-round(score[c], 12), c)))


# ------------------------------------------------------------------------------------------------------------ grades


def test_grades_order_positives_by_grade_then_the_pool():
    given = Candidates("q", "query", ("a", "b", "c", "d", "e", "f"), (None, 1, 0, 2, -1, 1))
    assert Grades().order([given], silent)[0].ranking == (3, 1, 5, 0, 2, 4)
    assert Grades().order([Candidates("q", "query", (), ())], silent)[0].ranking == ()


# -------------------------------------------------------------------------------------------------------------- step


def test_a_ranking_is_added_and_nothing_else_changes(lists, tmp_path):
    teacher = Reversed()
    report = label(lists, tmp_path / "out", [teacher], positives_first=False, progress=silent)
    labelled = read_lists(tmp_path / "out")
    assert labelled.has_rankings
    for before, after in zip(lists.lists, labelled.lists, strict=True):
        assert after.ranking == (3, 2, 1, 0)
        np.testing.assert_array_equal(after.evidence, before.evidence)
        assert (after.query_id, after.query, after.passages) == (before.query_id, before.query, before.passages)
        assert after.grades == before.grades
    assert labelled.passages == lists.passages
    assert labelled.info["source"]["digest"] == lists.digest
    assert labelled.info["labels"] == {"reversed": {"answers": 5, "failed": 0, "read": 20}}
    assert teacher.asked[0].texts == ("title 0\ntext 0", "text 1", "title 2\ntext 2", "text 3")
    assert teacher.asked[0].grades == (None, 0, 1, 1)
    assert (report.lists, report.kept, report.left_out, report.complete) == (5, 0, 0, True)


@pytest.mark.parametrize(
    ("depth", "positives_first", "ranking", "left_out"),
    [
        (None, True, (3, 1, 4, 2, 0), 0),
        (None, False, (4, 3, 2, 1, 0), 0),
        (2, True, (3, 1, 0), 2),  # the first two and the positive beyond them
        (2, False, (3, 1, 0), 2),
        (1, False, (3, 1, 0), 2),
        (9, True, (3, 1, 4, 2, 0), 0),
    ],
)
def test_depth_and_positives(tmp_path, depth, positives_first, ranking, left_out):
    passages = {f"p{i}": Passage(f"text {i}") for i in range(5)}
    source = write_lists(
        tmp_path / "lists", [TrainingList("q", "query", tuple(passages), (None, 1, 0, 2, None))], passages
    )
    report = label(
        source, tmp_path / "out", [Reversed()], depth=depth, positives_first=positives_first, progress=silent
    )
    assert read_lists(tmp_path / "out").lists[0].ranking == ranking
    assert report.left_out == left_out


def test_a_list_of_one_candidate(tmp_path):
    source = write_lists(tmp_path / "lists", [TrainingList("q", "query", ("p",), (None,))], {"p": Passage("text")})
    label(source, tmp_path / "out", [Reversed(), Grades()], progress=silent)
    assert read_lists(tmp_path / "out").lists[0].ranking == (0,)


def test_several_teachers_are_fused(lists, tmp_path):
    label(lists, tmp_path / "out", [Reversed(), Grades(), Reversed("again")], positives_first=False, progress=silent)
    # (3, 2, 1, 0) twice and (2, 3, 0, 1): ranks 3: 1 2 1, 2: 2 1 2, 1: 3 4 3, 0: 4 3 4
    assert read_lists(tmp_path / "out").lists[0].ranking == (3, 2, 1, 0)


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(labelling, "_LISTS_AT_ONCE", 2)
    source = write_lists(tmp_path / "lists", *make_lists(7))
    told: list[tuple[str, int, int]] = []
    with pytest.raises(KeyboardInterrupt):
        label(source, tmp_path / "out", [Reversed(fail_at="q4")], progress=lambda *each: told.append(each))
    assert told == [("Labelling", 0, 7), ("Labelling", 2, 7), ("Labelling", 4, 7)]
    with pytest.raises(FileNotFoundError, match="unfinished training lists"):
        read_lists(tmp_path / "out")
    for name in ("lists.jsonl", "labelling.jsonl"):  # as a kill leaves them
        with (tmp_path / "out" / name).open("a") as file:
            file.write('{"query_id": "q4", "que')
    second = Reversed()
    report = label(source, tmp_path / "out", [second], progress=silent)
    assert [each.query_id for each in second.asked] == ["q4", "q5", "q6"]
    assert (report.lists, report.kept) == (7, 4)
    assert report.counts == {"reversed": {"answers": 7, "failed": 0, "read": 28}}  # those before the kill too
    label(source, tmp_path / "whole", [Reversed()], progress=silent)
    for name in ("lists.jsonl", "passages.jsonl", "labelling.jsonl", "lists.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_list_whose_figures_were_kept_but_not_itself_is_counted_once(lists, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        label(lists, tmp_path / "out", [Reversed(fail_at="q0")], progress=silent)
    row = {"query_id": "q0", "teachers": {"reversed": {"answers": 9, "failures": []}}}
    (tmp_path / "out" / "labelling.jsonl").write_text(json.dumps(row) + "\n")
    report = label(lists, tmp_path / "out", [Reversed()], progress=silent)
    assert report.counts["reversed"]["answers"] == 5


def test_other_settings_and_complete_folders_are_refused(lists, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        label(lists, tmp_path / "out", [Reversed(fail_at="q0")], progress=silent)
    with pytest.raises(ValueError, match="begun with other settings"):
        label(lists, tmp_path / "out", [Reversed()], depth=3, progress=silent)
    label(lists, tmp_path / "out", [Reversed()], progress=silent)
    with pytest.raises(FileExistsError, match="complete training lists"):
        label(lists, tmp_path / "out", [Reversed()], progress=silent)


def test_too_many_failures_leave_the_folder_unfinished(lists, tmp_path):
    first = Failing("failing")
    report = label(lists, tmp_path / "out", [Reversed(), first], max_failures=0.49, progress=silent)
    assert (report.failed_share, report.complete) == (0.5, False)
    assert report.failures[0] == ("q0", "failing", "nothing said")
    assert len(report.failures) == 5
    assert not (tmp_path / "out" / "lists.json").exists()
    second = Failing("failing")
    report = label(lists, tmp_path / "out", [Reversed(), second], max_failures=0.5, progress=silent)
    assert report.complete
    assert (len(first.asked), second.asked) == (5, [])
    assert read_lists(tmp_path / "out").info["labels"]["failing"] == {"answers": 10, "failed": 5}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 0}, "--depth must be positive, got 0"),
        ({"max_failures": 1.5}, "--max-failures is a share between 0 and 1, got 1.5"),
        ({"teachers": []}, "name at least one teacher"),
        ({"teachers": [Grades(), Grades()]}, "each teacher counts once, got 'grades' again"),
    ],
)
def test_wrong_settings(lists, tmp_path, changes, message):
    teachers = changes.pop("teachers", [Grades()])
    with pytest.raises(ValueError, match=message):
        label(lists, tmp_path / "out", teachers, progress=silent, **changes)
    assert not (tmp_path / "out").exists()


def test_a_damaged_log_is_named(lists, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        label(lists, tmp_path / "out", [Reversed(fail_at="q0")], progress=silent)
    (tmp_path / "out" / "labelling.jsonl").write_text("not JSON\n")
    with pytest.raises(ValueError, match=r"labelling.jsonl:1: expected a JSON object"):
        label(lists, tmp_path / "out", [Reversed()], progress=silent)


# ----------------------------------------------------------------------------------------------------- cross-encoder


@pytest.fixture(scope="session")
def cross_encoder_folder(mini_encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that writes a tiny random cross-encoder: `cross_encoder_folder(labels=1, limit=48)`."""

    def write(labels: int = 1, limit: int = 48) -> Path:
        folder = tmp_path_factory.mktemp("models") / "reranker"
        tokenizer = AutoTokenizer.from_pretrained(mini_encoder_folder, model_max_length=limit)
        torch.manual_seed(4)
        model = BertForSequenceClassification(BertConfig.from_pretrained(mini_encoder_folder, num_labels=labels))
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.ndim == 2:
                    weight.mul_(10.0 if "embed" in name else 5.0)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return write


def cross_encoder(folder: Path, tmp_path: Path, **changes: Any) -> Any:
    options = {"answers": tmp_path / "answers.jsonl", "device": "cpu", "dtype": "float32", **changes}
    return make_teacher(f"cross-encoder:{folder}", **options)


def asked_of(corpus: Sequence[str], queries: Sequence[str]) -> list[Candidates]:
    return [Candidates(f"q{n}", query, tuple(corpus[n:]), (None,) * len(corpus[n:])) for n, query in enumerate(queries)]


def test_orders_by_the_score_of_each_pair_alone(cross_encoder_folder, corpus, queries, tmp_path):
    from sentence_transformers import CrossEncoder

    folder = cross_encoder_folder()
    asked = asked_of(corpus, queries)
    orders = cross_encoder(folder, tmp_path).order(asked, silent)
    model = CrossEncoder(str(folder), device="cpu", activation_fn=torch.nn.Identity())
    for each, order in zip(asked, orders, strict=True):
        scores = [float(model.predict([(each.query, text)])[0]) for text in each.texts]
        assert order.ranking == tuple(sorted(range(len(scores)), key=lambda i: -scores[i]))
        assert order.counts["pairs"] == len(scores)
    assert len({order.ranking[:3] for order in orders}) > 1
    for size in (1, 5):
        again = cross_encoder(folder, tmp_path, batch_size=size).order(asked, silent)
        assert [order.ranking for order in again] == [order.ranking for order in orders]


def test_ties_keep_the_order_of_the_pool_and_are_counted(cross_encoder_folder, corpus, queries, tmp_path):
    folder = shutil.copytree(cross_encoder_folder(), tmp_path / "tied")
    weights = load_file(folder / "model.safetensors")
    weights["classifier.weight"].zero_()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    order = cross_encoder(folder, tmp_path).order(asked_of(corpus, queries)[:1], silent)[0]
    assert order.ranking == tuple(range(12))
    assert order.counts["ties"] == 11


def test_scores_that_are_no_numbers_are_refused(cross_encoder_folder, corpus, queries, tmp_path):
    folder = shutil.copytree(cross_encoder_folder(), tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"].fill_(float("nan"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"not a number for query 'q0': try --dtype float32"):
        cross_encoder(folder, tmp_path).order(asked_of(corpus, queries), silent)


def test_cut_pairs_are_counted(cross_encoder_folder, corpus, tmp_path):
    folder = cross_encoder_folder(limit=12)
    texts = ("", "water", "water " * 3, *(f"{'water ' * 4}{'a ' * n}" for n in range(6)), *corpus)
    teacher = cross_encoder(folder, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    longer = [len(tokenizer("date", text, truncation=False)["input_ids"]) > 12 for text in texts]
    order = teacher.order([Candidates("q", "date", texts, (None,) * len(texts))], silent)[0]
    assert order.counts["cut"] == sum(longer)
    assert 0 < sum(longer) < len(texts)
    assert teacher.settings["max_length"] == 12


def test_name_and_settings_hold_no_path(cross_encoder_folder, tmp_path):
    folder = cross_encoder_folder()
    teacher = cross_encoder(folder, tmp_path)
    assert teacher.name.startswith("cross-encoder:reranker ")
    assert str(folder.parent) not in json.dumps(dict(teacher.settings))
    other = shutil.copytree(folder, tmp_path / "reranker")
    weights = load_file(other / "model.safetensors")
    weights["classifier.bias"].add_(1.0)
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    assert cross_encoder(other, tmp_path).name != teacher.name


def test_what_is_no_cross_encoder_is_refused(cross_encoder_folder, mini_encoder_folder, tmp_path):
    with pytest.raises(ValueError, match="expected a cross-encoder with a trained head, got a SentenceTransformer"):
        cross_encoder(mini_encoder_folder, tmp_path)
    bare = shutil.copytree(mini_encoder_folder, tmp_path / "bare")
    (bare / "modules.json").unlink()
    with pytest.raises(ValueError, match="trained head, got BertModel, which would be given a random one"):
        cross_encoder(bare, tmp_path)
    with pytest.raises(ValueError, match="with one score a pair, got 3; a classifier cannot rank"):
        cross_encoder(cross_encoder_folder(labels=3), tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="got no transformers model"):
        cross_encoder(tmp_path / "empty", tmp_path)
    pickled = shutil.copytree(cross_encoder_folder(), tmp_path / "pickled")
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="cannot be loaded as a cross-encoder"):
        cross_encoder(pickled, tmp_path)
    with pytest.raises(FileNotFoundError, match="no model"):
        cross_encoder(tmp_path / "missing", tmp_path)


@pytest.mark.parametrize("spec", ["", "bm25", "cross-encoder:", "llm:", "grades:x", "llm"])
def test_unknown_teachers(spec, tmp_path):
    with pytest.raises(ValueError, match="--teacher must be cross-encoder:NAME_OR_PATH, llm:MODEL, llm:MODEL@URL or"):
        make_teacher(spec, answers=tmp_path / "answers.jsonl")


# ----------------------------------------------------------------------------------------------------------- command


@pytest.fixture
def resrank_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(cli.app, [str(each) for each in arguments], catch_exceptions=False)


def test_command(resrank_train, lists, cross_encoder_folder, tmp_path):
    both = ("--teacher", "grades", "--teacher", f"cross-encoder:{cross_encoder_folder()}", "--device", "cpu")
    done = resrank_train("label", tmp_path / "lists", "--out", "out", *both, "--depth", 3)
    assert done.exit_code == 0, done.output
    assert "5 lists" in done.stdout
    assert "grades" in done.stdout
    assert "pairs" in done.stdout
    assert "Labelling: 5 of 5" in done.stderr
    labelled = read_lists(tmp_path / "out")
    assert all(set(each.ranking[:2]) == {2, 3} and set(each.ranking[2:]) == {0, 1} for each in labelled.lists)
    again = resrank_train("label", tmp_path / "lists", "--out", "out", *both)
    assert again.exit_code == 1
    assert "holds complete training lists" in again.stderr


def test_command_as_json(resrank_train, lists, tmp_path):
    done = resrank_train("label", tmp_path / "lists", "--out", "out", "-t", "grades", "--no-positives-first", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["lists"] == 5
    assert found["counts"] == {"grades": {}}
    assert found["complete"] is True
    assert read_lists(tmp_path / "out").lists[0].ranking == (2, 3, 0, 1)


def test_command_names_what_is_wrong(resrank_train, lists, tmp_path):
    missing = resrank_train("label", tmp_path / "nothing", "--out", "out", "--teacher", "grades")
    assert missing.exit_code == 1
    assert "expected a folder of training lists with lists.json" in missing.stderr
    unknown = resrank_train("label", tmp_path / "lists", "--out", "out", "--teacher", "oracle")
    assert unknown.exit_code == 1
    assert "--teacher must be" in unknown.stderr
    assert not (tmp_path / "out").exists()
