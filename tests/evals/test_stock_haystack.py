# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The pipeline of Haystack's own components: loaded as it is shipped, and measured with tiny models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from haystack import Pipeline
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification
from typer.testing import CliRunner

from resrank_evals import cli
from resrank_evals.haystack_native import DEFINITION
from resrank_evals.results import RESULT, RUN, folder_name
from resrank_evals.trec import read_run

STOCK = DEFINITION.with_name("stock_haystack.yaml")

CHILD = """
import json, sys
from haystack import Pipeline
assert not any("resrank" in name for name in sys.modules)
with open(sys.argv[1]) as file:
    pipeline = Pipeline.load(file)
dump = pipeline.dumps()
again = Pipeline.loads(dump)
stable = again.dumps() == dump and Pipeline.loads(again.dumps()).to_dict() == again.to_dict()
print(json.dumps([dump, stable, pipeline.inputs(), pipeline.outputs()], default=str))
"""


def test_a_fresh_process_loads_it_and_it_goes_round():
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HAYSTACK")}
    environment["HAYSTACK_TELEMETRY_ENABLED"] = "false"
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(STOCK)], env=environment, capture_output=True, text=True, timeout=300, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    dump, stable, inputs, outputs = json.loads(done.stdout.splitlines()[-1])
    assert stable
    assert [name for name, sockets in inputs.items() if {"text", "query"} & set(sockets)] == ["embedder", "ranker"]
    assert [name for name, sockets in outputs.items() if "documents" in sockets] == ["ranker"]
    ours, theirs = yaml.safe_load(STOCK.read_text(encoding="utf-8")), yaml.safe_load(dump)
    for definition in (ours, theirs):
        definition["connections"].sort(key=lambda connection: connection["sender"])
    assert theirs["connections"] == ours["connections"]
    for name, component in ours["components"].items():
        loaded = theirs["components"][name]
        assert loaded["type"] == component["type"]
        for parameter, value in component["init_parameters"].items():
            if parameter == "document_store":
                assert (
                    value["init_parameters"].items() <= loaded["init_parameters"][parameter]["init_parameters"].items()
                )
            else:
                assert loaded["init_parameters"][parameter] == value


@pytest.fixture
def cross_encoder(mini_encoder_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "cross-encoder"
    tokenizer = AutoTokenizer.from_pretrained(mini_encoder_folder)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        num_labels=1, initializer_range=0.5,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def with_tiny_models(mini_encoder_folder: Path, cross_encoder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes the definition with the tiny models and `top_k` candidates."""

    def write(top_k: int) -> Path:
        definition = yaml.safe_load(STOCK.read_text(encoding="utf-8"))
        parts = {name: part["init_parameters"] for name, part in definition["components"].items()}
        parts["embedder"]["model"], parts["ranker"]["model"] = str(mini_encoder_folder), str(cross_encoder)
        for name in ("embedder", "ranker"):
            parts[name]["device"] = {"type": "single", "device": "cpu"}
        parts["retriever"]["top_k"] = top_k
        path = tmp_path / f"stock-{top_k}.yaml"
        path.write_text(yaml.safe_dump(definition), encoding="utf-8")
        return path

    return write


@pytest.fixture
def data(write_beir: Any, corpus: Any, queries: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small collection in the working folder."""
    monkeypatch.chdir(tmp_path)
    passages = {f"c{n:02}": text for n, text in enumerate(corpus)}
    judged = {f"q{n}": {f"c{n:02}": 1} for n in range(len(queries))}
    return write_beir(tmp_path / "small", passages, {f"q{n}": text for n, text in enumerate(queries)}, judged)


def test_it_is_measured_on_the_index_of_a_checkpoint_with_its_encoder(
    data, tiny_safe_checkpoint, cross_encoder, with_tiny_models, tmp_path
):
    everything, few, peer = (
        str(with_tiny_models(100)),
        str(with_tiny_models(3)),
        f"cross-encoder:{cross_encoder},pool=dense",
    )
    systems = [argument for name in ("dense", peer, everything, few) for argument in ("-s", name)]
    model = ("--model", str(tiny_safe_checkpoint), "--device", "cpu", "--dtype", "float32")
    done = CliRunner().invoke(cli.app, ["ir", str(data), *systems, *model], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    folder = tmp_path / ".resrank" / "results" / "small"
    runs = {name: read_run(folder / folder_name(name) / RUN) for name in ("dense", peer, everything, few)}
    assert set(runs[everything]) == {"q0", "q1", "q2", "q3"}
    for query_id, hits in runs[everything].items():
        assert len(hits) == 12
        assert dict(hits) == pytest.approx(dict(runs[peer][query_id]), abs=1e-4), "the cross-encoder's scores"
        first = {id_ for id_, _ in runs["dense"][query_id][:3]}
        assert {id_ for id_, _ in runs[few][query_id]} == first, "the embedder's vectors are those of the store"
        assert dict(runs[few][query_id]) == pytest.approx({id_: dict(hits)[id_] for id_ in first}, abs=1e-4)
    result = json.loads((folder / folder_name(everything) / RESULT).read_text(encoding="utf-8"))
    assert list(result["latency"]) == ["pipeline", "total"]
    assert not (tmp_path / ".resrank" / "store").exists(), "the place in the file is not used"


def test_without_the_harness_it_answers_from_a_store_of_its_own(
    with_tiny_models: Callable[..., Path], mini_encoder_folder: Path, corpus: Any, tmp_path: Path
):
    from haystack import Document
    from haystack_integrations.components.embedders.sentence_transformers import SentenceTransformersDocumentEmbedder

    from resrank_pipelines.loader import point_at

    definition = yaml.safe_load(with_tiny_models(5).read_text(encoding="utf-8"))
    place = {"path": str(tmp_path / "own"), "embedding_dim": 32}
    pipeline = Pipeline.from_dict(point_at(definition, store=place))
    embedder = SentenceTransformersDocumentEmbedder(model=str(mini_encoder_folder), progress_bar=False)
    documents = embedder.run([Document(id=str(n), content=text) for n, text in enumerate(corpus)])["documents"]
    pipeline.get_component("retriever").document_store.write_documents(documents)
    found = pipeline.run({"text": corpus[3], "query": corpus[3]})["ranker"]["documents"]
    pipeline.close()
    assert len(found) == 5
    assert "3" in {document.id for document in found}
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
