# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Every file of a model folder damaged in every way: an error that names the place, or nothing that matters was lost."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resrank import ResRank
from resrank.adapter import save_adapter
from resrank.reader import ReaderConfig, SpanReader, new_reader

from .damage import damages

pytestmark = pytest.mark.slow

QUERY = "how do I parse a date?"
MODULE = "encoder.layer.0.attention.self.query"
# Of the wrong values in JSON one in so many is tried: there are dozens of keys, and transformers checks each alike.
ONE_OF = 6


def ranked(folder: Path, texts: tuple[str, ...]) -> np.ndarray:
    """Vectors and scores, one text longer than the encoder reads."""
    model = ResRank.from_pretrained(folder, device="cpu", dtype="float32")
    vectors = model.encode_passages([*texts[:3], "word " * 60])
    return np.concatenate([vectors.ravel(), model.rerank(QUERY, vectors), model.lexical.encode_query(QUERY)[1]])


def read(folder: Path, texts: tuple[str, ...]) -> np.ndarray:
    reader = SpanReader.from_pretrained(folder, device="cpu", dtype="float32")
    return np.array([(span.start, span.end, span.margin) for span in reader.read(QUERY, texts[:3])])


def adapter(folder: Path, base: Path) -> None:
    torch.manual_seed(0)
    save_adapter(folder, {MODULE: (torch.randn(2, 32), torch.randn(32, 2))}, str(base), torch.float32)


@pytest.fixture(params=["mini", "qwen", "adapter", "reader", "reader adapter"])
def model(request: pytest.FixtureRequest, tmp_path: Path, mini_encoder_folder: Path) -> tuple[Path, Callable[..., Any]]:
    """A folder of each kind, and what uses it."""
    kind = request.param
    if kind in ("mini", "qwen"):
        return request.getfixturevalue(f"tiny_{kind}_checkpoint"), ranked
    if kind == "reader":
        return request.getfixturevalue("tiny_reader_folder"), read
    folder = tmp_path / "whole"
    if kind == "adapter":
        shutil.copytree(request.getfixturevalue("tiny_mini_checkpoint"), folder)
        shutil.rmtree(folder / "encoder")
        adapter(folder / "encoder", mini_encoder_folder)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["encoder"]["source"] = str(mini_encoder_folder)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return folder, ranked
    new_reader(str(mini_encoder_folder), ReaderConfig(base=str(mini_encoder_folder))).save_head(folder)
    adapter(folder, mini_encoder_folder)
    return folder, read


def cases(folder: Path) -> Iterator[tuple[Path, str, Any]]:
    chance = random.Random(4)
    for file in sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file()):
        for name, damage in damages(folder / file):
            if ": " not in name or chance.randrange(ONE_OF) == 0:
                yield file, name, damage


def test_damage_is_told_or_does_not_matter(model, tmp_path, corpus):
    whole, use = model
    expected = use(whole, corpus)
    assert np.isfinite(expected).all()
    outcomes: Counter[str] = Counter()
    copied = shutil.copytree(whole, tmp_path / "copied")
    for file, name, damage in cases(whole):
        content = (whole / file).read_bytes()
        damaged = damage(content)
        if damaged is None:
            (copied / file).unlink()
        else:
            (copied / file).write_bytes(damaged)
        try:
            found = use(copied, corpus)
        except ValueError as error:  # the only kind: commands show it in one line
            said = str(error)
            assert str(copied) in said, (file, name, said)
            assert file.name in said or str(copied / file.parent) in said, (file, name, said)
            assert len(said) < 3_000, (file, name)
            outcomes["told"] += 1
        except Exception as error:
            pytest.fail(f"{file}, {name}: {type(error).__name__}: {error}")
        else:
            assert found.shape == expected.shape, (file, name)
            assert (found == expected).all(), (file, name)
            outcomes["of no consequence"] += 1
        (copied / file).write_bytes(content)
    assert outcomes["told"] > 40
    assert (use(copied, corpus) == expected).all()


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (["search", "a date", "--store", "{store}", "--model", "{model}"], "encoder/model.safetensors"),
        (["index", "{files}", "--store", "{store}", "--model", "{model}"], "encoder/tokenizer.json"),
        (["serve", "--port", "0", "--store", "{store}", "--model", "{model}"], "head.safetensors"),
        (["info", "--model", "{model}"], "config.json"),
    ],
    ids=["search", "index", "serve", "info"],
)
def test_commands_end_with_one_line(arguments, file, resrank, tiny_mini_checkpoint, tmp_path):
    model = shutil.copytree(tiny_mini_checkpoint, tmp_path / "model")
    content = (model / file).read_bytes()
    (model / file).write_bytes(content[: len(content) // 2])
    (tmp_path / "store").mkdir()
    (tmp_path / "a.txt").write_text("A date.", encoding="utf-8")
    names = {"store": tmp_path / "store", "model": model, "files": tmp_path / "a.txt"}
    process = resrank(*(argument.format(**names) for argument in arguments))
    assert process.ended() == 1, process.log
    assert "Traceback" not in process.log
    said = "".join(process.log.split())
    assert "error:" in said
    assert str(model / file) in said or str((model / file).parent) in said
