# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What the component tests share: handles on tiny models, embedded documents, counters of loads."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from haystack import Document
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

from haystack_integrations.common.resrank import ResRankModel
from haystack_integrations.components.embedders.resrank import ResRankDocumentEmbedder
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
from resrank.checkpoint import Checkpoint


@pytest.fixture(scope="session")
def handle() -> Callable[[Path | str], ResRankModel]:
    """Return a function that makes a float32 CPU handle on a checkpoint."""

    def make(checkpoint: Path | str) -> ResRankModel:
        return ResRankModel(str(checkpoint), device="cpu", dtype="float32")

    return make


@pytest.fixture(scope="session")
def tiny(tiny_mini_checkpoint: Path, handle: Callable[..., ResRankModel]) -> Iterator[ResRankModel]:
    """A handle on a tiny model with a random head, loaded for the whole session."""
    model = handle(tiny_mini_checkpoint)
    engine = model.load("encoder", "reranker")
    yield model
    del engine


@pytest.fixture(scope="session")
def safe(tiny_safe_checkpoint: Path, handle: Callable[..., ResRankModel]) -> Iterator[ResRankModel]:
    """A handle on a tiny model at safe start, of the same fingerprint as `tiny`, loaded for the whole session."""
    model = handle(tiny_safe_checkpoint)
    engine = model.load("encoder", "reranker")
    yield model
    del engine


@pytest.fixture(scope="session")
def tiny_paper(tiny_mini: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> ResRankModel:
    """A handle on a tiny model in `paper` mode."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-paper"
    tiny_mini(mode="paper").save_pretrained(folder)
    return ResRankModel(str(folder), device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def mini() -> Iterator[ResRankModel]:
    """A handle on `resrank-mini`, loaded for the whole session."""
    model = ResRankModel("resrank-mini", device="cpu", dtype="float32")
    engine = model.load("encoder", "reranker")
    yield model
    del engine


@pytest.fixture
def fresh_checkpoint(tiny_mini_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of a tiny checkpoint that nobody has loaded."""
    return Path(shutil.copytree(tiny_mini_checkpoint, tmp_path / "fresh-checkpoint"))


@pytest.fixture(scope="session")
def make_documents() -> Callable[..., list[Document]]:
    """Return a function that makes documents of texts, with ids that say their position."""

    def make(texts: Sequence[str | None], **meta: Any) -> list[Document]:
        return [Document(id=f"doc-{i:03}", content=text, meta=dict(meta)) for i, text in enumerate(texts)]

    return make


@pytest.fixture(scope="session")
def corpus_embedded(tiny: ResRankModel, corpus: tuple[str, ...], make_documents: Callable[..., Any]) -> list[Document]:
    """The corpus, embedded by `tiny`; shared, see `embedded`."""
    return ResRankDocumentEmbedder(model=tiny, progress_bar=False).run(documents=make_documents(corpus))["documents"]


@pytest.fixture
def embedded(corpus_embedded: list[Document]) -> list[Document]:
    """The corpus, embedded by `tiny`; a deep copy for each test."""
    return deepcopy(corpus_embedded)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Count how often weights are really loaded, by part."""
    counts = {"encoder": 0, "reranker": 0}

    def count(part: str) -> None:
        original = getattr(Checkpoint, f"load_{part}")

        def counting(self: Checkpoint, *args: Any, **kwargs: Any) -> Any:
            counts[part] += 1
            return original(self, *args, **kwargs)

        monkeypatch.setattr(Checkpoint, f"load_{part}", counting)

    count("encoder")
    count("reranker")
    return counts


@pytest.fixture
def unchanged() -> Iterator[Callable[[Any], None]]:
    """Return a function that remembers values; after the test they must be as they were."""
    remembered: list[tuple[Any, Any]] = []
    yield lambda value: remembered.append((value, deepcopy(value)))
    for value, before in remembered:
        assert _plain(value) == _plain(before), "an input was changed"


def _plain(value: Any) -> Any:
    """Documents as dictionaries: their equality leaves nothing out that way."""
    if isinstance(value, Document):
        return value.to_dict(flatten=False)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


@pytest.fixture(scope="session")
def make_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Return a function that makes a store of a kind (`edge` or `server`) with the vectors of the tiny models."""
    stores: list[Any] = []

    def make(kind: str = "edge", **settings: Any) -> Any:
        if kind == "edge":
            path = tmp_path_factory.mktemp("stores") / "store"
            defaults: dict[str, Any] = {"path": str(path), "embedding_dim": 32, "similarity": "dot_product"}
            store: Any = QdrantEdgeDocumentStore(**{**defaults, **settings})
        else:
            defaults = {
                "location": ":memory:", "embedding_dim": 32, "similarity": "dot_product", "use_sparse_embeddings": True,
                "sparse_idf": True, "progress_bar": False,
            }  # fmt: skip
            store = QdrantDocumentStore(**{**defaults, **settings})
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def open_store(make_store: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """As `make_store`; the stores are closed after the test."""
    stores: list[Any] = []

    def make(kind: str = "edge", **settings: Any) -> Any:
        stores.append(make_store(kind, **settings))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


@pytest.fixture(params=["edge", "server"])
def any_store(request: pytest.FixtureRequest, open_store: Callable[..., Any]) -> Any:
    """An empty store of each kind in turn."""
    return open_store(request.param)
