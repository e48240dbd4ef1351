# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Made-up training lists: small enough for tiny random models, with an order that they can learn."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel

from resrank.evidence import evidence_from_meta, fuse
from resrank.lexical import LexicalEncoder
from resrank.matching import WordMatcher
from resrank_evals.collection import Passage
from resrank_training.lists import ListWriter, TrainingList

SUBJECTS = ("dates", "bread", "paris", "photosynthesis", "qdrant", "everest", "fusion", "nginx", "penicillin", "cats")
SAID = ("is old", "is new", "is large", "is small", "costs much", "costs little")


@pytest.fixture(scope="session")
def passages() -> dict[str, Passage]:
    """Sixty passages: what is said about a subject."""
    return {
        f"{subject}-{i}": Passage(f"{subject} {said}", subject) for subject in SUBJECTS for i, said in enumerate(SAID)
    }


@pytest.fixture(scope="session")
def make_lists(passages: dict[str, Passage]) -> Callable[..., list[TrainingList]]:
    """
    Return a function that makes lists: each query has one relevant passage, about its subject.

    Its words alone tell it apart, so they are not matched unless asked for: models are to learn from its vector.
    """
    matcher = WordMatcher(LexicalEncoder())

    def make(
        count: int = 24, candidates: int = 8, seed: int = 0, evidence: bool = True, matches: bool = False
    ) -> list[TrainingList]:
        rng = np.random.default_rng(seed)
        ids = list(passages)
        lists = []
        for i in range(count):
            subject, said = SUBJECTS[i % len(SUBJECTS)], int(rng.integers(len(SAID)))
            right = f"{subject}-{said}"
            others = [id_ for id_ in rng.permutation(ids) if id_ != right][: candidates - 1]
            place = int(rng.integers(candidates))
            pool = [*others[:place], right, *others[place:]]
            query = f"what about {subject} that {SAID[said]}"
            grades = tuple(1 if id_ == right else None for id_ in pool)
            ranking = (place, *(j for j in range(candidates) if j != place))
            rows = None
            if evidence:
                # The lexical list misses the last candidate, the dense one the first.
                bm25 = [(id_, 9.0 - j) for j, id_ in enumerate(pool[:-1])]
                dense = [(id_, 0.9 - 0.05 * j) for j, id_ in enumerate(pool[1:])]
                fused = {c.id: c.meta for c in fuse(query, bm25=bm25, dense=dense)}
                texts = [passages[id_].content if matches else None for id_ in pool]
                rows = evidence_from_meta(query, [fused[id_] for id_ in pool], matcher.matches(query, texts))[
                    0
                ].features
            lists.append(TrainingList(f"q{i}", query, tuple(pool), grades, rows, ranking))
        return lists

    return make


@pytest.fixture(scope="session")
def long_mini(mini_encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`mini` with 512 positions: the prompts of peers need them."""
    folder = tmp_path_factory.mktemp("bases") / "long-mini"
    shutil.copytree(mini_encoder_folder, folder)
    config = AutoConfig.from_pretrained(folder)
    config.max_position_embeddings, config.num_hidden_layers = 512, 2
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture
def list_folder(
    tmp_path: Path, make_lists: Callable[..., list[TrainingList]], passages: dict[str, Passage]
) -> Callable[..., Path]:
    """Return a function that writes a folder of training lists; takes the arguments of `make_lists`."""

    def write(name: str = "made", **arguments: Any) -> Path:
        with ListWriter(tmp_path / name, {"made": name}) as writer:
            writer.add(make_lists(**arguments))
            writer.finish(passages, {})
        return tmp_path / name

    return write
