# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The store itself: settings, round trips, duplicates, vectors, search, fingerprints."""

import dataclasses
import json
import logging
import math
import pickle
import random
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.components.writers import DocumentWriter
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack_integrations.document_stores.qdrant import converters as qdrant_converters
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from haystack_integrations.common.resrank.embedding import StoredEmbedding
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore, converters, engine_config
from haystack_integrations.document_stores.resrank.shard import QdrantEdgeStoreError

LOGGER = "haystack_integrations.document_stores.resrank.document_store"


def vector(*values: float) -> list[float]:
    return [*values, *[0.0] * (4 - len(values))]


def documents_on_axes(count: int = 4) -> list[Document]:
    return [
        Document(id=f"d{axis}", content=f"text {axis}", embedding=[float(axis == other) for other in range(4)])
        for axis in range(count)
    ]


# --- Settings ---------------------------------------------------------------------------------------------------------


def test_construction_is_light_and_serialisable(tmp_path):
    path = tmp_path / "store"
    store = QdrantEdgeDocumentStore(
        path=str(path),
        embedding_dim=8,
        similarity="cosine",
        use_sparse_embeddings=False,
        return_embedding=True,
        hnsw_config={"m": 8},
        search_params={"hnsw_ef": 64, "quantization": {"rescore": True, "oversampling": 2.0}},
        quantization_config={"scalar": {"type": "int8", "always_ram": True}},
        payload_fields_to_index=[{"field_name": "meta.year", "field_schema": "integer"}],
        write_batch_size=10,
        optimize_threshold=0,
        on_disk=True,
        on_disk_payload=False,
        optimize_in_background=False,
    )
    assert not path.exists()
    dumped = store.to_dict()
    assert QdrantEdgeDocumentStore.from_dict(dumped).to_dict() == dumped
    assert dumped["type"] == "haystack_integrations.document_stores.resrank.document_store.QdrantEdgeDocumentStore"
    assert json.loads(json.dumps(dumped)) == dumped
    copied = pickle.loads(pickle.dumps(store))
    assert copied.to_dict() == dumped
    assert not path.exists()


def test_defaults():
    assert QdrantEdgeDocumentStore().to_dict()["init_parameters"] == {
        "path": ".resrank/store",
        "embedding_dim": 384,
        "similarity": "dot_product",
        "use_sparse_embeddings": True,
        "return_embedding": False,
        "hnsw_config": None,
        "search_params": None,
        "quantization_config": None,
        "on_disk": None,
        "on_disk_payload": None,
        "payload_fields_to_index": None,
        "write_batch_size": 256,
        "optimize_threshold": 20_000,
        "optimize_in_background": True,
    }


def test_loads_from_yaml_without_an_allow_list(make_store):
    pipeline = Pipeline()
    pipeline.add_component("writer", DocumentWriter(document_store=make_store()))
    loaded = Pipeline.loads(pipeline.dumps())
    assert loaded.run({"writer": {"documents": documents_on_axes()}}) == {"writer": {"documents_written": 4}}
    loaded.get_component("writer").document_store.close()


@pytest.mark.parametrize(
    ("given_settings", "text"),
    [
        ({"path": ""}, "path must be the name of a folder"),
        ({"path": Path("a")}, "path must be the name of a folder, a str"),
        ({"embedding_dim": 0}, "embedding_dim must be an int of at least 1, got 0"),
        ({"embedding_dim": 3.0}, "embedding_dim must be an int"),
        ({"embedding_dim": True}, "embedding_dim must be an int"),
        ({"similarity": "dot"}, "similarity must be one of dot_product, cosine, l2; got 'dot'"),
        ({"write_batch_size": 0}, "write_batch_size must be an int of at least 1"),
        ({"optimize_threshold": -1}, "optimize_threshold must be an int of at least 0"),
        ({"hnsw_config": {"ef": 1}}, "hnsw_config does not know ef. It takes: ef_construct"),
        ({"hnsw_config": {"m": "many"}}, "hnsw_config holds a value that the engine does not take"),
        ({"hnsw_config": [1]}, "hnsw_config must be a dict, got list"),
        ({"hnsw_config": {"m": 1_000}}, r"hnsw_config\['m'\] must be an int from 0 to 512, got 1000"),
        ({"hnsw_config": {"ef_construct": 1}}, r"hnsw_config\['ef_construct'\] must be an int from 4 to 10000, got 1"),
        ({"search_params": {"hnsw_ef": 0}}, r"search_params\['hnsw_ef'\] must be an int of at least 1, got 0"),
        ({"search_params": {"quantization": {"oversampling": 0.5}}}, "must be a number of at least 1, got 0.5"),
        ({"quantization_config": "int4"}, "must be a dict or one of int8, none; got 'int4'"),
        ({"on_disk": "yes"}, "on_disk must be True, False or None, got 'yes'"),
        ({"on_disk_payload": 1}, "on_disk_payload must be True, False or None, got 1"),
        ({"search_params": {"ef": 1}}, "search_params does not know ef"),
        ({"search_params": {"quantization": {"x": 1}}}, r"search_params\['quantization'\] does not know x"),
        ({"quantization_config": {}}, "exactly one of scalar, binary and product"),
        ({"quantization_config": {"scalar": {"type": "int4"}}}, "'int8' only, got 'int4'"),
        ({"quantization_config": {"product": {}}}, "needs compression: one of x4"),
        ({"payload_fields_to_index": {"a": 1}}, "must be a list of dicts"),
        ({"payload_fields_to_index": [{"field_schema": "keyword"}]}, "needs field_name"),
        ({"payload_fields_to_index": [{"field_name": "meta.a", "field_schema": "geo"}]}, "needs field_schema"),
        (
            {"payload_fields_to_index": [{"field_name": "a", "field_schema": {"type": "bool", "is_tenant": True}}]},
            "does not know is_tenant",
        ),
    ],
)
def test_refuses_bad_settings(given_settings, text):
    with pytest.raises(ValueError, match=text):
        QdrantEdgeDocumentStore(**given_settings)


@pytest.mark.parametrize(
    "quantization",
    [
        {"scalar": {"type": "int8", "quantile": 0.99, "always_ram": True}},
        {"binary": {"always_ram": True}},
        {"product": {"compression": "x4"}},
        "int8",
    ],
)
def test_engine_settings_reach_the_engine(make_store, quantization):
    store = make_store(
        embedding_dim=64,
        hnsw_config={"m": 4, "ef_construct": 20, "full_scan_threshold": 10},
        quantization_config=quantization,
        search_params={"hnsw_ef": 128, "quantization": {"rescore": True, "oversampling": 3.0}},
    )
    vectors = np.random.default_rng(0).standard_normal((400, 64)).astype("f4")
    store.write_documents([Document(id=f"{i:03}", embedding=row.tolist()) for i, row in enumerate(vectors)])
    store.optimize()
    found = store._query_by_embedding(vectors[7].tolist(), top_k=1, return_embedding=True)
    assert found[0].id == "007"
    assert found[0].embedding == vectors[7].tolist()
    config = json.loads((Path(store.path) / "shard" / "edge_config.json").read_text())
    assert config["hnsw_config"]["m"] == 4
    assert ("scalar" if quantization == "int8" else next(iter(quantization))) in config["quantization_config"]


# --- Round trips ------------------------------------------------------------------------------------------------------

HARD_DOCUMENTS = [
    Document(id="no content", content=None),
    Document(id="empty", content="", meta={}),
    Document(id="id with 'quotes' \x00 \U0001f600", content="a\x00b\u202e\U0001f600 \ud7ff"),
    Document(id="blob", blob=ByteStream(b"\x00\xff", meta={"a": 0.1 + 0.2}, mime_type="image/png"), meta={"x": 1}),
    Document(id="blob without type", blob=ByteStream(b"")),
    Document(id="vectors", embedding=vector(0.5, -1.0), sparse_embedding=SparseEmbedding([0, 2**32 - 1], [1.5, -2.0])),
    Document(id="empty sparse", sparse_embedding=SparseEmbedding([], [])),
    Document(id="nested", meta={"a": {"": {"b.c": [1, [None, {}], []], 'q"\\': None}}, "content": "x", "id": "y"}),
    Document(id="integers", meta={"least": -(2**63), "most": 2**64 - 1, "zero": 0, "bool": True}),
    Document(
        id="floats", meta={"sum": 0.1 + 0.2, "most": sys.float_info.max, "least": 5e-324, "one": 1.0, "minus": -0.0}
    ),
    Document(id="reserved", meta={"meta_json": "{}", "score": 1, "blob": [1], "embedding": [1.0]}),
]


def test_documents_survive_a_round_trip(make_store):
    store = make_store()
    store.write_documents(HARD_DOCUMENTS)
    expected = sorted(HARD_DOCUMENTS, key=lambda document: document.id)
    for reopened in (False, True):
        if reopened:
            store.close()
        found = store.filter_documents()
        assert found == expected
        for left, right in zip(found, expected, strict=True):
            assert repr(left.meta) == repr(right.meta)  # 1 is not 1.0 is not True
    ids = [document.id for document in HARD_DOCUMENTS]
    assert store.get_documents_by_id(ids) == HARD_DOCUMENTS


def test_what_is_not_kept_as_it_is(make_store):
    store = make_store()
    document = Document(id="a", meta={"range": (1, 2)}, score=0.5, sparse_embedding=SparseEmbedding([3, 1], [1.0, 2.0]))
    store.write_documents([document])
    found = store.filter_documents()[0]
    assert found.meta == {"range": [1, 2]}
    assert found.score is None
    assert found.sparse_embedding == SparseEmbedding([1, 3], [2.0, 1.0])


def test_cosine_normalises(make_store):
    store = make_store(similarity="cosine")
    store.write_documents([Document(id="a", embedding=vector(3.0, 4.0))])
    assert store.filter_documents()[0].embedding == pytest.approx(vector(0.6, 0.8))
    assert store._query_by_embedding(vector(3.0, 4.0), scale_score=True)[0].score == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("meta", "text"),
    [
        ({"a": math.nan}, r"Document 'x': meta\['a'\] is nan, which JSON cannot hold"),
        ({"a": {"b": [1.0, -math.inf]}}, r"meta\['a'\]\['b'\]\[1\] is -inf"),
        ({"a": 2**64}, r"meta\['a'\] does not fit 64 bits; store it as a str"),
        ({"a": -(2**63) - 1}, "does not fit 64 bits"),
        ({"a": b"x"}, "has the type bytes"),
        ({"a": {1, 2}}, "has the type set"),
        ({"a": date(2026, 1, 1)}, r"has the type date.*isoformat"),
        ({"a": np.float32(1)}, r"has the type float32.*item"),
        ({"a": {1: 2}}, r"meta\['a'\] has the key 1; the store keeps keys of type str"),
        ({"a": "\ud800"}, "half of a surrogate pair"),
        ({"\udfff": 1}, "valid Unicode"),
    ],
)
def test_refuses_meta_that_would_be_lost(make_store, meta, text):
    store = make_store()
    good = Document(id="good", content="a")
    with pytest.raises(ValueError, match=text):
        store.write_documents([good, Document(id="x", meta=meta)])
    assert store.count_documents() == 0


def test_refuses_what_the_engine_could_not_read_back(make_store):
    store = make_store()
    deep: list = []
    for _ in range(99):
        deep = [deep]
    fits = Document(id="fits", meta={"a": deep[0]})
    store.write_documents([fits])
    assert store.filter_documents() == [fits]
    with pytest.raises(ValueError, match="deeper than 100 levels"):
        store.write_documents([Document(id="x", meta={"a": [deep]})])
    with pytest.raises(ValueError, match="content holds half of a surrogate pair"):
        store.write_documents([Document(id="x", content="\udc00")])
    with pytest.raises(ValueError, match="id holds half of a surrogate pair"):
        store.write_documents([Document(id="\udc00")])
    with pytest.raises(ValueError, match="id must be a str, got int"):
        store.write_documents([Document(id=5)])


@pytest.mark.parametrize(
    ("embedding", "text"),
    [
        ([1.0], r"Document 'x': embedding must have 4 dimensions \(embedding_dim of the store\), got 1"),
        ([], "got 0"),
        ([[1.0] * 4], r"got the shape \(1, 4\)"),
        (vector(math.nan), "must hold finite float32 values, got nan at position 0"),
        (vector(0.0, math.inf), "got inf at position 1"),
        (vector(0.0, 1e39), "got 1e[+]39 at position 1"),
        (["a", "b", "c", "d"], "must be a list of 4 floats"),
    ],
)
def test_refuses_bad_vectors(make_store, embedding, text):
    store = make_store()
    with pytest.raises(ValueError, match=text):
        store.write_documents([Document(id="x", embedding=embedding)])
    with pytest.raises(ValueError, match=text.replace("Document 'x': embedding", "query_embedding")):
        store._query_by_embedding(embedding)
    assert store.count_documents() == 0


@pytest.mark.parametrize(
    ("indices", "values", "text"),
    [
        ([1, 1], [1.0, 2.0], "holds an index more than once"),
        ([-1], [1.0], "indices from 0 to"),
        ([2**32], [1.0], "indices from 0 to"),
        ([2**70], [1.0], "must hold int indices"),
        ([1], [math.nan], "finite float32 values"),
        ([1], ["a"], "must hold int indices below 2.* and float values"),
    ],
)
def test_refuses_bad_sparse_vectors(make_store, indices, values, text):
    store = make_store()
    sparse = SparseEmbedding(indices, values)
    with pytest.raises(ValueError, match=f"Document 'x': sparse_embedding {text}|sparse_embedding.*{text}"):
        store.write_documents([Document(id="x", sparse_embedding=sparse)])
    with pytest.raises(ValueError, match=text):
        store._query_by_sparse(sparse)


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=8),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)
HOSTILE = st.one_of(
    JSON,
    st.integers(),
    st.floats(),
    st.binary(max_size=3),
    st.text(st.characters(exclude_categories=()), max_size=4),
    st.dictionaries(st.integers(), st.integers(), max_size=2),
    st.tuples(st.integers()),
)


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory):
    store = QdrantEdgeDocumentStore(path=str(tmp_path_factory.mktemp("shared") / "store"), embedding_dim=4)
    yield store
    store.close()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    contents=st.lists(st.one_of(st.none(), st.text()), min_size=1, max_size=4),
    metas=st.lists(st.dictionaries(st.text(max_size=6), JSON, max_size=4), min_size=4, max_size=4),
    vectors=st.lists(
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=4, max_size=4), min_size=4
    ),
)
def test_any_document_survives_a_round_trip(shared_store, contents, metas, vectors):
    documents = [
        Document(id=f"d{number}", content=content, meta=metas[number], embedding=vectors[number])
        for number, content in enumerate(contents)
    ]
    shared_store.write_documents(documents, DuplicatePolicy.OVERWRITE)
    found = shared_store.get_documents_by_id([document.id for document in documents])
    assert found == documents
    assert [repr(document.meta) for document in found] == [repr(document.meta) for document in documents]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    identifier=st.text(st.characters(exclude_categories=()), min_size=1),
    content=st.text(st.characters(exclude_categories=())),
    meta=st.dictionaries(st.text(st.characters(exclude_categories=()), max_size=4), HOSTILE, max_size=3),
    embedding=st.one_of(st.none(), st.lists(st.floats(), max_size=5)),
)
def test_hostile_documents_are_kept_or_refused(shared_store, identifier, content, meta, embedding):
    document = Document(id=identifier, content=content, meta=meta, embedding=embedding)
    try:
        shared_store.write_documents([document], DuplicatePolicy.OVERWRITE)
    except ValueError as error:
        assert repr(identifier) in str(error)
        return
    found = shared_store.get_documents_by_id([identifier])
    assert len(found) == 1
    # Tuples become lists, floats of vectors float32; nothing else changes.
    assert json.dumps(found[0].meta) == json.dumps(meta)
    assert (found[0].id, found[0].content) == (identifier, content)
    if embedding is not None:
        assert found[0].embedding == np.asarray(embedding, dtype=np.float32).tolist()


@settings(max_examples=300, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_taken_as_exact_are_exact_for_a_naive_parser(value):
    """The engine multiplies the digits by a power of ten, which is exact for what `_is_exact` lets through."""
    if converters._is_exact(value):
        digits, _, exponent = repr(abs(value)).partition("e")
        whole, _, fraction = digits.partition(".")
        power = int(exponent or 0) - len(fraction)
        number = float(int(whole + fraction))
        assert (number * 10.0**power if power >= 0 else number / 10.0**-power) == abs(value)


def test_points_have_the_ids_and_names_of_qdrant_haystack():
    for text in ("a", "", "日本", "x" * 1000):
        assert converters.point_id(text).hex == qdrant_converters.convert_id(text)
    assert converters.UUID_NAMESPACE == qdrant_converters.UUID_NAMESPACE
    assert qdrant_converters.DENSE_VECTORS_NAME == engine_config.DENSE_VECTORS_NAME
    assert qdrant_converters.SPARSE_VECTORS_NAME == engine_config.SPARSE_VECTORS_NAME


# --- Writing and deleting ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [DuplicatePolicy.NONE, DuplicatePolicy.FAIL])
def test_fail_writes_nothing(make_store, policy):
    store = make_store(write_batch_size=1)
    store.write_documents([Document(id="a", content="old")])
    with pytest.raises(DuplicateDocumentError, match="Already stored: 'a'"):
        store.write_documents([Document(id="b"), Document(id="a", content="new")], policy)
    with pytest.raises(DuplicateDocumentError, match="'c' is there twice"):
        store.write_documents([Document(id="c", content="1"), Document(id="c", content="2")], policy)
    assert [(document.id, document.content) for document in store.filter_documents()] == [("a", "old")]


def test_skip_keeps_the_first_and_overwrite_the_last(make_store):
    store = make_store()
    twice = [Document(id="a", content="1"), Document(id="b", content="1"), Document(id="a", content="2")]
    assert store.write_documents(twice, DuplicatePolicy.SKIP) == 2
    assert store.get_documents_by_id(["a"])[0].content == "1"
    assert store.write_documents([*twice, Document(id="c")], DuplicatePolicy.SKIP) == 1
    assert store.write_documents(twice, DuplicatePolicy.OVERWRITE) == 2
    assert store.get_documents_by_id(["a"])[0].content == "2"


def test_overwriting_replaces_vectors_and_meta(make_store):
    store = make_store()
    store.write_documents([Document(id="a", meta={"x": 0.1 + 0.2}, embedding=vector(1.0))])
    store.write_documents([Document(id="a", meta={"y": 1})], DuplicatePolicy.OVERWRITE)
    assert store.filter_documents() == [Document(id="a", meta={"y": 1})]


def test_write_many_and_delete(make_store):
    store = make_store(write_batch_size=7)
    documents = [Document(id=str(number), meta={"n": number}) for number in range(2500)]
    assert store.write_documents(documents) == 2500
    assert store.write_documents([]) == 0
    assert len(store.get_documents_by_id([document.id for document in documents])) == 2500
    store.delete_documents([])
    store.delete_documents([str(number) for number in range(1000)] + ["unknown"])
    assert store.count_documents() == 1500
    assert store.delete_by_filter({"field": "meta.n", "operator": "<", "value": 2000}) == 1000
    with pytest.raises(ValueError, match="filter is empty"):
        store.delete_by_filter({})
    with pytest.raises(ValueError, match="filter is empty"):
        store.update_by_filter({}, {"a": 1})
    assert store.count_documents() == 500


def test_update_by_filter_keeps_exact_floats_and_vectors(make_store):
    store = make_store()
    documents = [
        Document(id="a", content="x", meta={"f": 0.1 + 0.2, "keep": [1]}, embedding=vector(1.0)),
        Document(id="b", meta={"f": 0.5}, sparse_embedding=SparseEmbedding([1], [2.0])),
    ]
    store.write_documents(documents)
    everything = {"field": "id", "operator": "!=", "value": None}
    assert store.update_by_filter(everything, {"new": 1 / 3, "keep": None}) == 2
    expected = [
        dataclasses.replace(document, meta={**document.meta, "new": 1 / 3, "keep": None}) for document in documents
    ]
    assert store.filter_documents() == expected
    with pytest.raises(ValueError, match=r"update_by_filter: meta\['a'\] is nan"):
        store.update_by_filter(everything, {"a": math.nan})


def test_warns_of_documents_that_searches_cannot_find(make_store, caplog):
    with caplog.at_level(logging.WARNING, LOGGER):
        make_store().write_documents(
            [
                *documents_on_axes(1),
                Document(id="x", sparse_embedding=SparseEmbedding([1], [1.0])),
                Document(id="y"),
            ]
        )
        assert "2 of 3 documents were written without an embedding" in caplog.text
        assert "1 of them have no sparse embedding either" in caplog.text
        caplog.clear()
        store = make_store("dense", use_sparse_embeddings=False)
        store.write_documents([Document(embedding=vector(1.0), sparse_embedding=SparseEmbedding([1], [1.0]))])
        assert "sparse embeddings of 1 documents were not stored" in caplog.text
        caplog.clear()
        store.write_documents(documents_on_axes())
        assert not caplog.text


# --- Search -----------------------------------------------------------------------------------------------------------


def test_dense_search(make_store):
    store = make_store()
    store.write_documents(documents_on_axes())
    found = store._query_by_embedding(vector(0.5, 0.5, 0.9), top_k=3)
    assert [(document.id, document.score) for document in found] == [
        ("d2", pytest.approx(0.9)),
        ("d0", 0.5),
        ("d1", 0.5),
    ]
    assert all(type(document.score) is float and document.embedding is None for document in found)
    found = store._query_by_embedding(vector(0.5, 0.5, 0.9), score_threshold=0.6, return_embedding=True)
    assert [document.id for document in found] == ["d2"]
    assert isinstance(found[0].embedding, StoredEmbedding)
    scaled = store._query_by_embedding(vector(1.0), scale_score=True, top_k=1)[0].score
    assert scaled == pytest.approx(1 / (1 + math.exp(-0.01)))
    for top_k in (0, -1, 2.0):
        with pytest.raises(ValueError, match="top_k must be an int of at least 1"):
            store._query_by_embedding(vector(1.0), top_k=top_k)


def test_return_embedding_of_the_store(make_store):
    store = make_store(return_embedding=True)
    store.write_documents(documents_on_axes(1))
    assert store._query_by_embedding(vector(1.0))[0].embedding == vector(1.0)
    assert store._query_by_embedding(vector(1.0), return_embedding=False)[0].embedding is None


def test_l2_scores_are_higher_for_closer_documents(make_store):
    store = make_store(similarity="l2")
    store.write_documents([Document(id=name, embedding=vector(x)) for name, x in (("a", 1.0), ("b", 3.0), ("c", -1.0))])
    found = store._query_by_embedding(vector(0.0))
    assert [(document.id, document.score) for document in found] == [("a", -1.0), ("c", -1.0), ("b", -3.0)]
    assert len(store._query_by_embedding(vector(0.0), score_threshold=-1.0)) == 2
    assert len(store._query_by_embedding(vector(0.0), score_threshold=-0.99)) == 0
    dense, _ = store.search_ids(query_embedding=vector(0.0), query_sparse_embedding=None)
    assert dense == [("a", -1.0), ("c", -1.0), ("b", -3.0)]
    assert 0 < store._query_by_embedding(vector(0.0), scale_score=True)[0].score < 0.5


def test_sparse_search(make_store):
    store = make_store()
    store.write_documents(
        [
            Document(id=name, sparse_embedding=SparseEmbedding([1, index], [1.0, 1.0]))
            for name, index in zip("abc", (2, 3, 4), strict=True)
        ]
    )
    found = store._query_by_sparse(SparseEmbedding([3], [1.0]))
    assert [document.id for document in found] == ["b"]
    # Term 1 is in every document: ties are ordered by id, and term 3 is worth more.
    ids = [
        document.id for document in store._query_by_sparse(SparseEmbedding([1, 3], [1.0, 1.0]), return_embedding=True)
    ]
    assert ids == ["b", "a", "c"]
    assert store._query_by_sparse(SparseEmbedding([], [])) == []
    dense_only = make_store("dense", use_sparse_embeddings=False)
    with pytest.raises(QdrantEdgeStoreError, match="use_sparse_embeddings=False"):
        dense_only._query_by_sparse(SparseEmbedding([1], [1.0]))


def test_search_ids_agrees_with_the_single_searches(make_store):
    store = make_store()
    generator = random.Random(3)
    documents = [
        Document(
            id=f"{number:03}",
            meta={"n": number},
            embedding=[float(generator.randint(-2, 2)) for _ in range(4)],
            sparse_embedding=SparseEmbedding(sorted(generator.sample(range(20), 5)), [1.0] * 5),
        )
        for number in range(300)
    ]
    store.write_documents(documents)
    query, sparse = [1.0, -1.0, 2.0, 0.5], SparseEmbedding([1, 5, 7], [1.0, 2.0, 1.0])
    for filters in (
        None,
        {"field": "meta.n", "operator": ">", "value": 100},
        {"field": "n", "operator": "<", "value": 0},
    ):
        for _ in range(2):  # the second time ids come from the cache
            found = store.search_ids(query_embedding=query, query_sparse_embedding=sparse, filters=filters, top_k=300)
            dense = store._query_by_embedding(query, filters=filters, top_k=300)
            lexical = store._query_by_sparse(sparse, filters=filters, top_k=300)
            assert found == (
                [(document.id, document.score) for document in dense],
                [(document.id, document.score) for document in lexical],
            )
    assert store.search_ids(query_embedding=None, query_sparse_embedding=None) == (None, None)
    assert store.search_ids(query_embedding=None, query_sparse_embedding=SparseEmbedding([], [])) == (None, [])
    dense, lexical = store.search_ids(query_embedding=query, query_sparse_embedding=SparseEmbedding([], []), top_k=2)
    assert len(dense) == 2
    assert lexical == []
    with pytest.raises(ValueError, match="top_k must be"):
        store.search_ids(query_embedding=query, query_sparse_embedding=None, top_k=0)


def test_get_documents_by_id_keeps_the_order(make_store):
    store = make_store()
    store.write_documents(documents_on_axes())
    found = store.get_documents_by_id(["d2", "unknown", "d0", "d2"])
    assert [document.id for document in found] == ["d2", "d0", "d2"]
    assert isinstance(found[0].embedding, StoredEmbedding)
    assert store.get_documents_by_id(["d2"], return_embedding=False)[0].embedding is None
    assert store.get_documents_by_id([]) == []
    store.write_documents([Document(id="both", embedding=vector(1.0), sparse_embedding=SparseEmbedding([1], [1.0]))])
    dense_only = store.get_documents_by_id(["both"], return_sparse_embedding=False)[0]
    assert (dense_only.embedding, dense_only.sparse_embedding) == (vector(1.0), None)
    sparse_only = store.get_documents_by_id(["both"], return_embedding=False, return_sparse_embedding=True)[0]
    assert (sparse_only.embedding, sparse_only.sparse_embedding) == (None, SparseEmbedding([1], [1.0]))


# --- Fingerprints and existing folders --------------------------------------------------------------------------------


def stamped(identifier: str, fingerprint: str | None) -> Document:
    meta = {} if fingerprint is None else {"resrank": {"fingerprint": fingerprint}}
    return Document(id=identifier, meta=meta, embedding=vector(1.0))


def test_fingerprint_stamps_the_collection(make_store):
    store = make_store()
    assert store.fingerprint is None
    store.write_documents([stamped("a", None)])
    assert store.fingerprint is None
    store.write_documents([stamped("b", "one")])
    assert store.fingerprint == "one"
    store.write_documents([stamped("c", None), stamped("d", "one")])
    text = "Document 'e' has vectors of the model 'two'.*holds those of 'one'.*another folder.*resrank index"
    with pytest.raises(ValueError, match=text):
        store.write_documents([stamped("f", "one"), stamped("e", "two")])
    with pytest.raises(ValueError, match="model 'two'"):
        store.update_by_filter({"field": "id", "operator": "==", "value": "a"}, {"resrank": {"fingerprint": "two"}})
    assert store.count_documents() == 4
    store.close()
    assert make_store().fingerprint == "one"
    store.stamp("two")
    assert store.fingerprint == "two"
    store.write_documents([stamped("e", "two")])
    store.delete_all_documents()
    assert store.fingerprint is None
    store.write_documents([stamped("g", "three")])
    with pytest.raises(ValueError, match="fingerprint must be a str that is not empty"):
        store.stamp("")
    with pytest.raises(ValueError, match="must be a str, got int"):
        store.write_documents([Document(id="h", meta={"resrank": {"fingerprint": 1}})])


def test_two_models_in_one_call(make_store):
    store = make_store()
    with pytest.raises(ValueError, match="Document 'b' has vectors of the model 'two'"):
        store.write_documents([stamped("a", "one"), stamped("b", "two")])
    assert store.fingerprint is None
    assert store.count_documents() == 0


@pytest.mark.parametrize(
    ("name", "value"), [("embedding_dim", 5), ("similarity", "cosine"), ("use_sparse_embeddings", False)]
)
def test_refuses_a_folder_with_other_settings(make_store, name, value):
    first = make_store()
    first.write_documents([Document(id="a")])
    for closed in (False, True):
        if closed:
            first.close()
        with pytest.raises(ValueError, match=f"was created with {name}=.*but {name}={value!r} was given.*Nothing was"):
            make_store(**{name: value}).count_documents()
    assert first.count_documents() == 1


def test_refuses_foreign_folders_and_files(make_store, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="must be a folder, but there is a file"):
        make_store("file").count_documents()
    with pytest.raises(ValueError, match="a part of it is a file"):
        make_store("file/below").count_documents()
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("x")
    with pytest.raises(ValueError, match=r"holds other files, such as 'thesis.txt', and no resrank.json"):
        make_store("foreign").count_documents()
    assert [path.name for path in foreign.iterdir()] == ["thesis.txt"]
    (tmp_path / "empty").mkdir()
    assert make_store("empty").count_documents() == 0


@pytest.mark.parametrize(
    ("manifest", "text"),
    [
        ("{", "not a manifest"),
        ("[]", "not a manifest"),
        ('{"format": 2}', "has format 2"),
        ('{"format": 1, "traits": ["new"]}', "unknown traits"),
        ('{"format": 1, "traits": []}', "not a manifest"),
    ],
)
def test_refuses_a_manifest_that_it_cannot_read(make_store, tmp_path, manifest, text):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "resrank.json").write_text(manifest)
    with pytest.raises(ValueError, match=text):
        make_store().count_documents()
    assert (tmp_path / "store" / "resrank.json").read_text() == manifest


def test_optimises_when_enough_was_written(make_store):
    store = make_store(optimize_threshold=300, optimize_in_background=False)
    make = lambda start, count: [Document(id=str(start + i), embedding=vector(float(i))) for i in range(count)]  # noqa: E731
    store.write_documents(make(0, 299))
    shard = store._shard()
    assert shard.unoptimized == 299
    store.write_documents(make(299, 1))
    assert (shard.unoptimized, shard.optimized) == (0, 300)
    store.write_documents(make(300, 299))
    assert shard.unoptimized == 299
    assert store.optimize() in (True, False)
    assert (shard.unoptimized, shard.optimized) == (0, 599)
    # A large collection waits until it grew by half.
    shard.optimized = 1000
    store.write_documents(make(600, 400))
    assert shard.unoptimized == 400
    never = make_store("never", optimize_threshold=0)
    never.write_documents(make(0, 1000))
    assert never._shard().unoptimized == 1000


def test_unoptimised_documents_are_counted_when_opened(make_store):
    store = make_store()
    store.write_documents(
        [Document(id=str(i), embedding=vector(1.0), sparse_embedding=SparseEmbedding([1], [1.0])) for i in range(50)]
    )
    store.close()
    assert store.count_documents() == 50
    assert store._shard().unoptimized == 50


def test_metadata_summaries(make_store):
    store = make_store()
    metas = [
        {"a": 1, "b": "x", "c": True, "d": {"e": 1}, "f": None},
        {"a": 2.5, "b": 3, "d": {"e": 5}, "g": 0.1 + 0.2},
        {"a": None, "b": "x", "d": {"e": 3}},
    ]
    store.write_documents([Document(id=str(number), meta=meta) for number, meta in enumerate(metas)])
    assert store.get_metadata_fields_info() == {
        "a": {"type": "float"},
        "b": {"type": "keyword"},
        "c": {"type": "boolean"},
        "d": {"type": "keyword"},
        "g": {"type": "float"},
    }
    assert store.get_metadata_field_min_max("d.e") == {"min": 1, "max": 5}
    assert store.get_metadata_field_min_max("g") == {"min": 0.1 + 0.2, "max": 0.1 + 0.2}
    with pytest.raises(ValueError, match="'b' have no common order: int, str"):
        store.get_metadata_field_min_max("b")
    assert store.get_metadata_field_unique_values("meta.b") == ([3, "x"], 2)
    assert store.count_unique_metadata_by_filter({"field": "a", "operator": "==", "value": None}, ["b", "meta.f"]) == {
        "b": 1,
        "meta.f": 0,
    }


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_document_batches_read_everything_once(make_store, batch_size):
    store = make_store()
    assert list(store.document_batches()) == []
    sparse = SparseEmbedding(indices=[1, 5], values=[0.5, 0.25])
    store.write_documents([Document(id=f"{n}", embedding=[n, 0, 0, 1], sparse_embedding=sparse) for n in range(7)])
    batches = list(store.document_batches(batch_size))
    assert all(0 < len(batch) <= batch_size for batch in batches)
    documents = [document for batch in batches for document in batch]
    assert sorted(documents, key=lambda document: document.id) == store.filter_documents()


def test_document_batches_need_a_size(make_store):
    with pytest.raises(ValueError, match="batch_size"):
        make_store().document_batches(0)
