# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from haystack import Document, Pipeline
from haystack.components.preprocessors import RecursiveDocumentSplitter
from haystack.components.writers import DocumentWriter
from haystack.core.serialization import component_from_dict, component_to_dict
from haystack.document_stores.types import DuplicatePolicy

from haystack_integrations.common.resrank import ResRankModel
from haystack_integrations.components.embedders.resrank import ResRankDocumentEmbedder
from haystack_integrations.components.preprocessors.resrank import NewPassageFilter
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore

TYPE = "haystack_integrations.components.preprocessors.resrank.new_passage_filter.NewPassageFilter"


def passage(text: str | None, *, path: str | None = "/docs/a.md", chunk: int | None = 0, **meta: Any) -> Document:
    where = {"file_path": path, "split_id": chunk}
    return Document(content=text, meta={**{key: value for key, value in where.items() if value is not None}, **meta})


def ids(documents: list[Document]) -> list[str]:
    return [document.id for document in documents]


@pytest.fixture
def new_passages(any_store: Any, tiny: ResRankModel) -> NewPassageFilter:
    return NewPassageFilter(document_store=any_store, model=tiny)


@pytest.fixture
def store_them(any_store: Any, tiny: ResRankModel) -> Callable[[list[Document]], None]:
    def store(documents: list[Document]) -> None:
        embedded = ResRankDocumentEmbedder(model=tiny, progress_bar=False).run(documents=documents)["documents"]
        any_store.write_documents(embedded, policy=DuplicatePolicy.OVERWRITE)

    return store


PASSAGES = [passage(f"text {i}", chunk=i) for i in range(5)]


@pytest.mark.parametrize("kind", ["edge", "server"])
def test_round_trip_keeps_every_parameter(kind: str, open_store: Callable[..., Any]):
    store = open_store(kind)
    first = component_to_dict(NewPassageFilter(document_store=store, model="org/name"), "filter")
    expected = {
        "document_store": store.to_dict(),
        "model": ResRankModel("org/name").to_dict(),
        "meta_fields_to_embed": None,
        "embedding_separator": "\n",
        "sparse": True,
        "ids": "content",
    }
    assert first == {"type": TYPE, "init_parameters": expected}
    assert component_to_dict(component_from_dict(NewPassageFilter, first, "filter"), "filter") == first


def test_construction_loads_and_opens_nothing(loads: dict[str, int], fresh_checkpoint: Any, tmp_path: Path):
    store = QdrantEdgeDocumentStore(path=str(tmp_path / "unopened"), embedding_dim=32)
    NewPassageFilter(document_store=store, model=str(fresh_checkpoint))
    assert loads == {"encoder": 0, "reranker": 0}
    assert not (tmp_path / "unopened").exists()


def test_all_are_new_in_an_empty_store(new_passages: NewPassageFilter):
    outcome = new_passages.run(documents=PASSAGES)
    assert [d.content for d in outcome["documents"]] == [d.content for d in PASSAGES]
    assert outcome["passage_ids"] == {"/docs/a.md": ids(outcome["documents"])}
    assert (outcome["unchanged"], outcome["blank"]) == (0, 0)


def test_a_second_run_lets_nothing_through(new_passages: NewPassageFilter, store_them: Callable[..., None]):
    first = new_passages.run(documents=PASSAGES)
    store_them(first["documents"])
    second = new_passages.run(documents=PASSAGES)
    assert second["documents"] == []
    assert second["unchanged"] == 5
    assert second["passage_ids"] == first["passage_ids"]


@pytest.mark.parametrize(
    "changed",
    [{"meta_fields_to_embed": ["title"]}, {"sparse": False}],
    ids=lambda changed: next(iter(changed)),
)
def test_changed_settings_of_the_embedder_let_everything_through_once(
    changed: dict[str, Any], any_store: Any, tiny: ResRankModel
):
    def settings_run(settings: dict[str, Any]) -> int:
        new = NewPassageFilter(document_store=any_store, model=tiny, **settings).run(documents=PASSAGES)["documents"]
        embedder = ResRankDocumentEmbedder(model=tiny, progress_bar=False, **settings)
        any_store.write_documents(embedder.run(documents=new)["documents"], policy=DuplicatePolicy.OVERWRITE)
        return len(new)

    # A separator without fields to separate changes nothing.
    runs = [{}, {}, {"embedding_separator": " "}, changed, changed, {}]
    assert [settings_run(settings) for settings in runs] == [5, 0, 0, 5, 0, 5]


def test_ids_do_not_change_between_releases(new_passages: NewPassageFilter):
    # Another id would embed every collection again.
    found = ids(new_passages.run(documents=[passage("text"), passage("text", path=None, chunk=None)])["documents"])
    assert found == [
        "9e67962ded532b15ba23b2fb28f5caaa58922b7c6162ee552c15118f8af5e307",
        "52627884b397544e8fb7ac0fc7a009bba7c31ff3b1119cc10fc827aff76bde99",
    ]


def test_an_id_is_of_path_chunk_and_content(new_passages: NewPassageFilter):
    variants = [
        passage("text"),
        passage("other"),
        passage("text", chunk=1),
        passage("text", path="/docs/b.md"),
        passage("text", path=None),
        passage("text", path=None, chunk=None),
    ]
    assert len(set(ids(new_passages.run(documents=variants)["documents"]))) == len(variants)


def test_other_meta_does_not_change_the_id(new_passages: NewPassageFilter):
    plain = new_passages.run(documents=[passage("text")])["documents"]
    annotated = new_passages.run(documents=[passage("text", page=3, source_id="x")])["documents"]
    assert ids(plain) == ids(annotated)
    assert annotated[0].meta["page"] == 3


def test_an_edit_lets_only_the_changed_chunk_through(new_passages: NewPassageFilter, store_them: Callable[..., None]):
    store_them(new_passages.run(documents=PASSAGES)["documents"])
    edited = [*PASSAGES[:2], passage("rewritten", chunk=2), *PASSAGES[3:]]
    outcome = new_passages.run(documents=edited)
    assert [document.content for document in outcome["documents"]] == ["rewritten"]
    assert outcome["unchanged"] == 4


def test_the_same_content_twice_in_a_file_has_two_ids(new_passages: NewPassageFilter):
    outcome = new_passages.run(documents=[passage("text", chunk=0), passage("text", chunk=7)])
    assert len(set(ids(outcome["documents"]))) == 2


def test_duplicates_within_a_call_go_through_once(new_passages: NewPassageFilter):
    outcome = new_passages.run(documents=[passage("text"), passage("text"), passage("other", chunk=1)])
    assert [document.content for document in outcome["documents"]] == ["text", "other"]
    assert len(outcome["passage_ids"]["/docs/a.md"]) == 2
    assert outcome["unchanged"] == 0


def test_order_stays(new_passages: NewPassageFilter):
    shuffled = random.Random(0).sample(PASSAGES, len(PASSAGES))
    assert [d.content for d in new_passages.run(documents=shuffled)["documents"]] == [d.content for d in shuffled]


def test_ids_are_listed_by_file(new_passages: NewPassageFilter):
    documents = [passage("a"), passage("b", path="/docs/b.md"), passage("c", path=None), passage("d", chunk=1)]
    outcome = new_passages.run(documents=documents)
    a, b, c, d = ids(outcome["documents"])
    assert outcome["passage_ids"] == {"/docs/a.md": [a, d], "/docs/b.md": [b], "": [c]}


def test_another_models_vectors_go_through_again(
    new_passages: NewPassageFilter, any_store: Any, store_them: Callable[..., None]
):
    new = new_passages.run(documents=PASSAGES)["documents"]
    embedded = new_passages.model.load("encoder").encode_passages([d.content for d in new]).tolist()
    foreign = {"resrank": {"fingerprint": "feedfeedfeedfeed"}}
    any_store.write_documents(
        [replace(d, embedding=e, meta={**d.meta, **foreign}) for d, e in zip(new, embedded, strict=True)]
    )
    outcome = new_passages.run(documents=PASSAGES)
    assert ids(outcome["documents"]) == ids(new)
    assert outcome["unchanged"] == 0


def test_passages_stored_without_a_stamp_go_through_again(new_passages: NewPassageFilter, any_store: Any):
    new = new_passages.run(documents=PASSAGES[:1])["documents"]
    any_store.write_documents([replace(new[0], embedding=[1.0] * 32)])
    assert ids(new_passages.run(documents=PASSAGES[:1])["documents"]) == ids(new)


def test_source_id_is_of_the_path_alone(new_passages: NewPassageFilter):
    # The splitter's hashes the whole file: an edit of one chunk would change them all.
    before, other = new_passages.run(
        documents=[passage("a", source_id="hash-of-file-1"), passage("b", path="/docs/b.md", source_id="x")]
    )["documents"]
    after = new_passages.run(documents=[passage("changed", source_id="hash-of-file-2")])["documents"][0]
    assert before.meta["source_id"] == after.meta["source_id"] != other.meta["source_id"]


def test_overlap_notes_of_the_splitter_are_left_out(new_passages: NewPassageFilter):
    document = passage("a", _split_overlap=[{"doc_id": "an id that no one has", "range": (0, 5)}])
    assert "_split_overlap" not in new_passages.run(documents=[document])["documents"][0].meta


def test_inputs_are_not_changed(new_passages: NewPassageFilter, unchanged: Callable[[Any], None]):
    documents = deepcopy([*PASSAGES, passage("a", _split_overlap=[], source_id="x", nested={"a": [1]})])
    unchanged(documents)
    new_passages.run(documents=documents)


def test_empty_input_loads_nothing(loads: dict[str, int], fresh_checkpoint: Any, any_store: Any):
    outcome = NewPassageFilter(document_store=any_store, model=str(fresh_checkpoint)).run(documents=[])
    assert outcome == {"documents": [], "passage_ids": {}, "unchanged": 0, "changed": 0, "blank": 0}
    assert loads["encoder"] == 0


@pytest.mark.parametrize("text", [None, "", " \n\t"])
def test_passages_without_text_are_left_out_and_counted(new_passages: NewPassageFilter, text: str | None):
    outcome = new_passages.run(documents=[passage(text), passage("text", chunk=1)])
    assert [document.content for document in outcome["documents"]] == ["text"]
    assert outcome["blank"] == 1


@pytest.mark.parametrize(
    ("wrong", "found"), [(None, "NoneType"), ("text", "str"), (["text"], "a list with str"), ((), "tuple")]
)
def test_wrong_type_is_refused(new_passages: NewPassageFilter, wrong: Any, found: str):
    with pytest.raises(TypeError, match=f"documents must be a list of haystack Documents, got {found}"):
        new_passages.run(documents=wrong)


def test_odd_paths_and_texts_have_ids(new_passages: NewPassageFilter, hostile_text: str):
    documents = [passage(f"x{hostile_text}", path="/tmp/\udcff odd"), passage(f"x{hostile_text}", path=None)]
    assert len(set(ids(new_passages.run(documents=documents)["documents"]))) == 2


def test_more_passages_than_one_look_up(any_store: Any, tiny: ResRankModel):
    documents = [passage(f"text {i}", chunk=i) for i in range(2_300)]
    new_passages = NewPassageFilter(document_store=any_store, model=tiny)
    new = new_passages.run(documents=documents)["documents"]
    stamp = {"resrank": new_passages.stamp()}
    any_store.write_documents([replace(d, embedding=[1.0] + [0.0] * 31, meta={**d.meta, **stamp}) for d in new[::2]])
    outcome = new_passages.run(documents=documents)
    assert ids(outcome["documents"]) == ids(new[1::2])
    assert outcome["unchanged"] == 1_150


def test_never_loads_the_reranker(loads: dict[str, int], fresh_checkpoint: Any, handle: Any, any_store: Any):
    NewPassageFilter(document_store=any_store, model=handle(fresh_checkpoint)).run(documents=PASSAGES)
    assert loads == {"encoder": 1, "reranker": 0}


def test_usable_again_after_close(open_store: Callable[..., Any], tiny: ResRankModel):
    new_passages = NewPassageFilter(document_store=open_store(), model=tiny)
    before = new_passages.run(documents=PASSAGES)
    new_passages.close()
    new_passages.close()
    assert new_passages.run(documents=PASSAGES) == before


def test_index_pipeline_embeds_only_what_an_edit_changed(any_store: Any, tiny: ResRankModel, unit_vectors: Any):
    pipeline = Pipeline()
    splitter = RecursiveDocumentSplitter(split_length=6, split_overlap=0, split_unit="word", separators=["\n"])
    pipeline.add_component("splitter", splitter)
    pipeline.add_component("new", NewPassageFilter(document_store=any_store, model=tiny))
    pipeline.add_component("embedder", ResRankDocumentEmbedder(model=tiny, progress_bar=False))
    pipeline.add_component("writer", DocumentWriter(document_store=any_store, policy=DuplicatePolicy.OVERWRITE))
    for sender, receiver in [("splitter", "new"), ("new", "embedder"), ("embedder", "writer")]:
        pipeline.connect(f"{sender}.documents", f"{receiver}.documents")
    lines = [f"line {i} of a longer text\n" for i in range(6)]

    def index(text: str) -> int:
        document = Document(content=text, meta={"file_path": "/docs/a.md"})
        return pipeline.run({"documents": [document]})["writer"]["documents_written"]

    assert index("".join(lines)) == 6
    assert index("".join(lines)) == 0
    assert index("".join([*lines[:3], "line three is now new\n", *lines[4:]])) == 1


def row(name: str, text: str, **meta: Any) -> Document:
    return Document(id=name, content=text, meta=meta)


@pytest.fixture
def given(any_store: Any, tiny: ResRankModel) -> NewPassageFilter:
    return NewPassageFilter(document_store=any_store, model=tiny, ids="given")


def test_given_ids_are_kept_and_a_second_run_lets_nothing_through(
    given: NewPassageFilter, store_them: Callable[..., None]
):
    rows = [row("a", "text", share=1 / 3, tags=("x",)), row("b", "text")]
    first = given.run(documents=rows)
    assert ids(first["documents"]) == ["a", "b"]
    assert (first["changed"], first["unchanged"]) == (0, 0)
    store_them(first["documents"])
    second = given.run(documents=rows)
    assert (second["documents"], second["changed"], second["unchanged"]) == ([], 0, 2)


@pytest.mark.parametrize("changed", [row("a", "other"), row("a", "text", year=1)], ids=["text", "meta"])
def test_with_given_ids_what_has_changed_goes_through_and_is_written_over(
    given: NewPassageFilter, store_them: Callable[..., None], any_store: Any, changed: Document
):
    store_them(given.run(documents=[row("a", "text"), row("b", "text")])["documents"])
    outcome = given.run(documents=[changed, row("b", "text")])
    assert (ids(outcome["documents"]), outcome["changed"], outcome["unchanged"]) == (["a"], 1, 1)
    store_them(outcome["documents"])
    stored = next(d for d in any_store.filter_documents() if d.id == "a")
    assert (stored.content, stored.meta.get("year")) == (changed.content, changed.meta.get("year"))
    assert any_store.count_documents() == 2


def test_ids_must_be_one_of_two(any_store: Any):
    with pytest.raises(ValueError, match="ids must be 'content' or 'given', got 'mine'"):
        NewPassageFilter(document_store=any_store, ids="mine")  # type: ignore[arg-type]


def test_without_the_model_the_stamp_is_still_known(given: NewPassageFilter, store_them: Callable[..., None]):
    rows = [row("a", "text")]
    store_them(given.run(documents=rows)["documents"])
    given.release_model()
    assert given._engine is None
    assert given.run(documents=rows)["unchanged"] == 1
    assert given._engine is None
