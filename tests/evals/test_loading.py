# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest

from resrank_evals import loading
from resrank_evals.loading import FORMS, collection_sources
from resrank_evals.public_sets import PRESETS


def make(folder: Path, *splits: str) -> Path:
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text(json.dumps({"_id": "d1", "text": folder.name}), encoding="utf-8")
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q1", "text": "what"}), encoding="utf-8")
    for split in splits:
        text = "query-id\tcorpus-id\tscore\nq1\td1\t1\n"
        (folder / "qrels" / f"{split}.tsv").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "sets"
    make(root / "b", "dev", "train")
    make(root / "a", "test", "train")
    make(root / ".hidden", "test")
    (root / "notes").mkdir()
    (root / "README.md").write_text("x", encoding="utf-8")
    return root


def test_one_folder(root):
    (source,) = collection_sources(str(root / "a"))
    assert (source.name, source.split) == ("a", "test")
    collection = source.load()
    assert (collection.name, collection.split, collection.source) == ("a", "test", str(root / "a"))
    assert collection_sources(str(root / "a"), split="train")[0].load().split == "train"
    with pytest.raises(ValueError, match="expected one of the splits test, train, got 'dev'; ask for one of these"):
        collection_sources(str(root / "a"), split="dev")


def test_a_folder_relative_to_the_home_folder(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root))
    assert collection_sources("~/a")[0].load().name == "a"


def test_a_folder_of_folders_in_the_order_of_names(root):
    sources = collection_sources(str(root))
    assert [(source.name, source.split) for source in sources] == [("a", "test"), ("b", "dev")]
    assert [source.load().passages["d1"].text for source in sources] == ["a", "b"]


def test_folders_without_the_split_are_left_out_and_named(root, caplog):
    with caplog.at_level(logging.WARNING):
        sources = collection_sources(str(root), split="dev")
    assert [source.name for source in sources] == ["b"]
    assert caplog.messages == [f"{root / 'a'} is left out: it has no split dev, only test, train"]
    message = f"{root}: expected a collection with the split 'holdout', got none among 2; ask for another"
    with pytest.raises(ValueError, match=re.escape(message)):
        collection_sources(str(root), split="holdout")


def test_nothing_is_read_before_it_is_asked_for(root):
    (root / "a" / "corpus.jsonl").write_text("damaged", encoding="utf-8")
    first, second = collection_sources(str(root))
    assert second.load().name == "b"
    with pytest.raises(ValueError, match=r"corpus\.jsonl:1: expected a JSON object"):
        first.load()


def test_missing_passages_reach_the_loader(root):
    with (root / "a" / "qrels" / "test.tsv").open("a", encoding="utf-8") as file:
        file.write("q1\td9\t1\n")
    with pytest.raises(ValueError, match="--missing-passages keep"):
        collection_sources(str(root / "a"))[0].load()
    assert collection_sources(str(root / "a"), missing_passages="keep")[0].load().qrels == {"q1": {"d1": 1, "d9": 1}}
    with pytest.raises(ValueError, match="missing_passages: expected 'error' or 'keep', got 'drop'"):
        collection_sources(str(root / "a"), missing_passages="drop")


@pytest.mark.parametrize("spec", ["", "nowhere", "scifact", "msmarco-passage/trec-dl-2019/judged"])
def test_specs_of_no_form_list_the_forms(spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(f"expected {FORMS}; got {spec!r}; docs/data.md")):
        collection_sources(spec)
    for form in ("BEIR", "irds:<id>", "trec:topics=", *PRESETS):
        assert form in FORMS


def test_a_folder_without_collections(tmp_path):
    with pytest.raises(
        ValueError, match=re.escape(f"got the folder {tmp_path} without any corpus.jsonl; docs/data.md")
    ):
        collection_sources(str(tmp_path))


@pytest.fixture
def loaded(monkeypatch) -> list[tuple[str, str]]:
    calls: list[tuple[str, str]] = []
    monkeypatch.setattr(
        loading, "load_ir_dataset", lambda id_, *, missing_passages: calls.append((id_, missing_passages))
    )
    return calls


def test_an_id_of_ir_datasets(loaded):
    (source,) = collection_sources("irds:beir/nfcorpus/dev", split="dev", missing_passages="keep")
    assert (source.name, source.split) == ("nfcorpus", "dev")
    assert not loaded
    source.load()
    assert loaded == [("beir/nfcorpus/dev", "keep")]
    message = "irds:beir/nfcorpus/dev: expected no split, or dev, the split of beir/nfcorpus/dev, got 'test'; name the id of that"
    with pytest.raises(ValueError, match=re.escape(message)):
        collection_sources("irds:beir/nfcorpus/dev", split="test")


def test_presets(loaded, caplog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "dl19", "test")
    (source,) = collection_sources("dl19")
    assert (source.name, source.split) == ("dl19", "test")
    source.load()
    assert loaded == [("msmarco-passage/trec-dl-2019/judged", "error")]
    assert collection_sources("./dl19")[0].load().source == "dl19"  # the folder, not the preset
    assert not caplog.messages
    with caplog.at_level(logging.WARNING):
        names = [source.name for source in collection_sources("beir8")]
    assert names == ["trec-covid", "webis-touche2020-v2", "dbpedia-entity", "scifact", "nfcorpus"]
    assert [message.split(":")[0] for message in caplog.messages] == [
        f"beir8 without {name}" for name in ("signal1m", "trec-news", "robust04")
    ]
    assert all("BEIR layout" in message for message in caplog.messages)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "a,b"
    folder.mkdir()
    texts = {"topics": "1\twhat\n", "qrels": "1 0 d1 1\n", "corpus": "d1\tthis\n"}
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.txt" for name in texts}


def test_trec_files(files):
    spec = "trec:" + ",".join(f"{key}={path}" for key, path in files.items())
    (source,) = collection_sources(f"{spec},name=tiny", split="dev")
    assert (source.name, source.split) == ("tiny", "dev")
    collection = source.load()
    assert (collection.name, collection.split, collection.source) == ("tiny", "dev", f"{spec},name=tiny")
    assert collection.passages["d1"].text == "this"
    (source,) = collection_sources(f"trec:qrels={files['qrels']},topics={files['topics']}")
    assert (source.name, source.split) == ("qrels", "test")
    assert not source.load().passages
    assert source.load().name == "qrels"


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("", "expected topics=, qrels=, corpus= and name= once each, got ''; the form is"),
        ("topics={topics},run=x,qrels={qrels}", "expected a file as topics, got "),
        ("run=x", "expected topics=, qrels=, corpus= and name= once each, got 'run=x'; the form is"),
        ("topics=,qrels={qrels}", "expected topics=, qrels=, corpus= and name= once each, got 'topics='"),
        ("qrels=x,qrels=y", "expected topics=, qrels=, corpus= and name= once each, got 'qrels=y'"),
        ("name=x", "expected topics= and qrels=, got no topics and no qrels; name the file"),
        ("topics={topics}", "expected topics= and qrels=, got no qrels; name the file"),
        (
            "topics={topics},qrels=nowhere.txt",
            "expected a file as qrels, got nowhere.txt, which is none; name an existing",
        ),
    ],
)
def test_trec_specs_that_do_not_fit(files, rest, message):
    spec = "trec:" + rest.format(**files)
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(f"{spec}: {message}")):
        collection_sources(spec)
