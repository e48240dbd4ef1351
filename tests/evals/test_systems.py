# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re

import pytest

from resrank_evals.systems import (
    CrossEncoderSystem,
    E2RankSystem,
    FirstStageSystem,
    PERankSystem,
    PipelineSystem,
    ResRankSystem,
    RunSystem,
    describe,
    parse_system,
)


@pytest.mark.parametrize(
    ("text", "system"),
    [
        ("bm25", FirstStageSystem("bm25")),
        ("dense", FirstStageSystem("dense")),
        ("rrf", FirstStageSystem("rrf")),
        ("dense:model=my/model", FirstStageSystem("dense", model="my/model")),
        ("resrank", ResRankSystem()),
        ("resrank:pool=bm25", ResRankSystem(pool="bm25")),
        (
            "resrank:pool=dense,evidence=off,attention=causal,order=shuffled,model=m",
            ResRankSystem(pool="dense", evidence=False, attention="causal", order="shuffled", model="m"),
        ),
        ("cross-encoder:org/name", CrossEncoderSystem("org/name")),
        ("cross-encoder:org/name,pool=bm25", CrossEncoderSystem("org/name", pool="bm25")),
        ("cross-encoder:org/name,pool=bm25,depth=30", CrossEncoderSystem("org/name", pool="bm25", depth=30)),
        ("pe-rank:folder", PERankSystem("folder")),
        ("pe-rank:folder,pool=dense,window=8", PERankSystem("folder", pool="dense", window=8)),
        ("pe-rank:folder,window=none", PERankSystem("folder", window=None)),
        ("e2rank:org/name", E2RankSystem("org/name")),
        ("e2rank:org/name,pool=bm25,k=5", E2RankSystem("org/name", pool="bm25", k=5)),
        ("e2rank:folder,k=10,length=36,query=64", E2RankSystem("folder", k=10, length=36, query=64)),
        (
            "e2rank:folder,depth=20,k=10,length=256,prompt=36",
            E2RankSystem("folder", depth=20, k=10, length=256, prompt=36),
        ),
        ("pe-rank:folder,depth=20,window=8", PERankSystem("folder", depth=20, window=8)),
    ],
)
def test_names_go_both_ways(text, system):
    assert parse_system(text) == system
    assert parse_system(f" {text} ") == system
    assert system.name == text
    assert describe(system)["kind"] == type(system).__name__


def test_defaults_are_not_part_of_a_name():
    assert parse_system("resrank:pool=rrf,evidence=on,order=given").name == "resrank"
    assert parse_system("cross-encoder:m,pool=rrf,depth=all").name == "cross-encoder:m"
    assert parse_system("pe-rank:m,pool=rrf,window=20").name == "pe-rank:m"
    assert parse_system("e2rank:m,pool=rrf,k=20,length=1024,prompt=length,depth=all,query=none").name == "e2rank:m"


def test_files(tmp_path):
    (tmp_path / "a.trec").write_text("")
    (tmp_path / "p.yaml").write_text("")
    run, pipeline = parse_system(f"run:{tmp_path}/a.trec"), parse_system(f"{tmp_path}/p.yaml")
    assert (run, run.name) == (RunSystem(f"{tmp_path}/a.trec"), f"run:{tmp_path}/a.trec")
    assert (pipeline, pipeline.name) == (PipelineSystem(f"{tmp_path}/p.yaml"), f"{tmp_path}/p.yaml")
    assert parse_system("run:{collection}.trec") == RunSystem("{collection}.trec")
    for text in (f"run:{tmp_path}/b.trec", f"{tmp_path}/b.yaml"):
        with pytest.raises(FileNotFoundError, match=re.escape(f"system {text!r}: there is no file")):
            parse_system(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "unknown system '': expected bm25, dense, rrf, resrank"),
        ("bm26", "unknown system 'bm26'"),
        ("run:", "unknown system 'run:'"),
        ("cross-encoder", "unknown system 'cross-encoder'"),
        ("bm25:pool=rrf", "expected options model=…, each once, got 'pool=rrf'"),
        ("resrank:bm25", "expected options pool=…, evidence=…, attention=…, order=…, model=…, each once, got 'bm25'"),
        ("resrank:pool=bm25,pool=rrf", "each once, got 'pool=rrf'"),
        ("resrank:pool=", "each once, got 'pool='"),
        ("resrank:pool=tfidf", "pool must be bm25 or dense or rrf, got 'tfidf'"),
        ("resrank:evidence=no", "evidence must be on or off, got 'no'"),
        ("resrank:attention=free", "attention must be causal or order_free, got 'free'"),
        ("resrank:order=random", "order must be given or shuffled, got 'random'"),
        ("cross-encoder:m,pool=x", "pool must be bm25 or dense or rrf, got 'x'"),
        ("cross-encoder:m,depth=0", "depth must be a number from 1 on, got '0'"),
        ("pe-rank:", "unknown system 'pe-rank:'"),
        ("pe-rank:m,k=3", "expected options pool=…, depth=…, window=…, each once, got 'k=3'"),
        ("pe-rank:m,window=1", "window must be a number from 2 on, got '1'"),
        ("pe-rank:m,window=all", "window must be a number from 2 on, got 'all'"),
        ("e2rank:m,k=0", "k must be a number from 1 on, got '0'"),
        ("e2rank:m,k=²", "k must be a number from 1 on, got '²'"),
        ("e2rank:m,length=long", "length must be a number from 1 on, got 'long'"),
        ("e2rank:m,query=0", "query must be a number from 1 on, got '0'"),
        (
            "e2rank:m,window=none",
            "expected options pool=…, depth=…, k=…, length=…, prompt=…, query=…, each once, got 'window=none'",
        ),
    ],
)
def test_what_is_wrong_is_said(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_system(text)
