# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Filters mean what Haystack's in-memory store means by them, on any value and with any payload index."""

import random
from datetime import UTC, datetime, timedelta, timezone

import pytest
from haystack import Document
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.errors import FilterError
from haystack.utils.filters import document_matches_filter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
from haystack_integrations.document_stores.resrank.filters import FilterPlan, engine_path, field_path, parse_path

SCALARS = [
    None, True, False, 0, 1, -1, 2, 5, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 0.0, -0.0, 1.0, 0.5, 1.5, 5.0,
    0.30000000000000004, 0.3, 5.000000000000001, 1e300, 1.7976931348623157e308, 5e-324, 9007199254740993.0, -2.5,
    "", "a", "A", "b", "1", "1.0", "true", "null", "é", "日本", "a\x00b", "x" * 300,
]  # fmt: skip
DATES = [
    "2020-01-01", "2020-01-01T10:00:00", "2020-01-01T10:00:00Z", "2020-01-01T12:00:00+02:00", "2020-01-01 10:00",
    "2020-01-01T10", "20200101T100000", "2020-W01-3", "2019-12-31T24:00", "Jan 1 2020 10:00", "2020-01-01T10:00:00.000001",
    "2020-01-01t10:00:00z", "0001-01-01", "9999-12-31T23:59:59", "2020-01-01T00:00:00-23:59", "2020-01-02T10:00:00+14:00",
    "2020-01-01T12:00:00+0200", "2020-13-01", "2020-01-01T10:00:00+00:00:30", "2020", "2021-06-01T00:00:00",
]  # fmt: skip
LISTS = [
    [], ["a"], ["a", "b"], [["a"]], [1], [1.0], [None], [1, None], [True], [{}], [{"b": 1}], [[]], ["2020-01-01"],
    {}, {"b": 1}, {"b": {"c": "a"}}, {"b": ["a"]}, {"b": None}, {"b": []}, {"b": "2020-01-01"}, {"b": 0.1 + 0.2},
]  # fmt: skip
MISSING = object()
FIELDS = ["meta.x", "x", "meta.y", "meta.x.b", "meta.sp ace", 'meta.qu"ote', "meta.nested.deep", "meta.none", "meta.é"]


def make_documents(values: list) -> list[Document]:
    """Spread the values over the fields, each one on its own and at random."""
    generator = random.Random(7)
    documents = []
    for number, value in enumerate([*values, *generator.choices([*values, MISSING], k=2 * len(values))]):
        meta = {"y": generator.choice(values), "sp ace": generator.choice(values), "é": generator.choice(values)}
        meta |= {'qu"ote': generator.choice(values), "nested": {"deep": generator.choice(values)}}
        if value is not MISSING:
            meta["x"] = value
        documents.append(
            Document(
                id=f"id-{number}" if number % 5 else f"2020-01-{1 + number % 28:02d}T00:00:00+{number:05d}",
                content=generator.choice([None, "", "a", "2020-01-01"]),
                blob=ByteStream(b"x") if number % 7 == 0 else None,
                meta=meta,
                embedding=[1.0, 0.0, 0.0, float(number)] if number % 3 else None,
                sparse_embedding=SparseEmbedding([number], [1.0]) if number % 4 else None,
            )
        )
    return documents


def matches(condition: dict, document: Document) -> bool:
    """Haystack's function, where a value that a comparison cannot order does not match it."""
    if "field" in condition:
        try:
            return document_matches_filter(condition, document)
        except (FilterError, TypeError):
            return False
    results = [matches(item, document) for item in condition["conditions"]]
    operator = condition["operator"]
    return any(results) if operator == "OR" else all(results) if operator == "AND" else not all(results)


ALL_VALUES = [*SCALARS, *DATES, *LISTS]
PLAIN_VALUES = [value for value in SCALARS if value not in (0.30000000000000004, 5.000000000000001)]
SCHEMAS = ["keyword", "integer", "datetime"]
STORES = {
    "any": (ALL_VALUES, None),
    "plain": (PLAIN_VALUES, None),
    "no lists": ([*SCALARS, *DATES], None),
    **{schema: (ALL_VALUES, schema) for schema in SCHEMAS},
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    made = {}
    for name, (values, schema) in STORES.items():
        fields = [field for field in FIELDS if '"' not in field and "none" not in field] if schema else []
        store = QdrantEdgeDocumentStore(
            path=str(tmp_path_factory.mktemp("filters") / "store"),
            embedding_dim=4,
            payload_fields_to_index=[{"field_name": field, "field_schema": schema} for field in fields],
        )
        documents = make_documents(values)
        store.write_documents(documents)
        made[name] = store, documents
    yield made
    for store, _ in made.values():
        store.close()


OPERAND = st.one_of(
    st.sampled_from(ALL_VALUES),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=3),
    st.datetimes().map(datetime.isoformat),
    st.datetimes(timezones=st.just(timezone(timedelta(hours=-11)))).map(datetime.isoformat),
    st.datetimes(timezones=st.sampled_from([None, UTC])),
)
ORDERED = st.one_of(
    st.sampled_from([value for value in SCALARS if not isinstance(value, str)]),
    st.sampled_from([date for date in DATES if date[-1] != "0" or len(date) > 16 or date == "2020-01-01 10:00"]),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.datetimes(timezones=st.sampled_from([None, UTC, timezone(timedelta(hours=14))])),
)
FIELD = st.sampled_from([*FIELDS, "id", "content", "content.x", "score", "foo.bar"])
COMPARISON = st.one_of(
    st.fixed_dictionaries({"field": FIELD, "operator": st.sampled_from(["==", "!="]), "value": OPERAND}),
    st.fixed_dictionaries(
        {"field": FIELD, "operator": st.sampled_from(["in", "not in"]), "value": st.lists(OPERAND, max_size=3)}
    ),
    st.fixed_dictionaries({"field": FIELD, "operator": st.sampled_from([">", ">=", "<", "<="]), "value": ORDERED}),
    st.fixed_dictionaries(
        {
            "field": st.sampled_from(["embedding", "sparse_embedding", "blob"]),
            "operator": st.sampled_from(["==", "!="]),
            "value": st.none(),
        }
    ),
)
FILTER = st.recursive(
    COMPARISON,
    lambda inner: st.fixed_dictionaries(
        {"operator": st.sampled_from(["AND", "OR", "NOT"]), "conditions": st.lists(inner, max_size=3)}
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("name", STORES)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(filters=FILTER)
def test_finds_what_haystack_finds(stores, name, filters):
    store, documents = stores[name]
    try:
        found = store.filter_documents(filters)
    except FilterError:
        # Only for a value that is no number and no date.
        assert any(operator in repr(filters) for operator in ("'>", "'<"))
        return
    expected = sorted(document.id for document in documents if matches(filters, document))
    assert [document.id for document in found] == expected
    assert store.count_documents_by_filter(filters) == len(expected)


@pytest.mark.parametrize(
    ("name", "operator"),
    [
        ("any", "=="),
        ("any", ">"),
        ("any", "<="),
        ("any", "in"),
        ("keyword", "!="),
        ("integer", ">="),
        ("datetime", "<"),
    ],
)
def test_every_value_against_every_value(stores, name, operator):
    store, documents = stores[name]
    values = [value for value in ALL_VALUES if _has_order(value)] if operator[0] in "<>" else ALL_VALUES
    for value in values:
        filters = {"field": "meta.x", "operator": operator, "value": [value, "b"] if operator == "in" else value}
        found = {document.id for document in store.filter_documents(filters)}
        assert found == {document.id for document in documents if matches(filters, document)}, filters


def _has_order(value) -> bool:
    if isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            return False
    return not isinstance(value, list | dict)


def test_search_applies_the_filter(stores):
    store, documents = stores["any"]
    filters = {"field": "meta.x", "operator": ">=", "value": "2020-01-01T10:00:00+02:00"}
    found = store._query_by_embedding([1.0, 0.0, 0.0, 1.0], filters=filters, top_k=1000)
    expected = {document.id for document in documents if document.embedding and matches(filters, document)}
    assert expected
    assert {document.id for document in found} == expected


@pytest.mark.parametrize(
    ("filters", "text"),
    [
        ({"conditions": []}, "'operator' is missing"),
        ({"operator": "AND"}, "'conditions' is missing"),
        ({"operator": "XOR", "conditions": []}, "Unknown logical operator 'XOR'"),
        ({"operator": "AND", "conditions": {"a": 1}}, "'conditions' must be a list"),
        ({"operator": "AND", "conditions": ["a"]}, "must be a dict"),
        ({"field": "meta.x", "value": 1}, "'operator' is missing"),
        ({"field": "meta.x", "operator": "=="}, "'value' is missing"),
        ({"field": "meta.x", "operator": "=", "value": 1}, "Unknown comparison operator '='"),
        ({"field": 1, "operator": "==", "value": 1}, "'field' must be a str"),
        ({"field": "meta.x", "operator": ">", "value": "tomorrow"}, "neither"),
        ({"field": "meta.x", "operator": ">", "value": [1]}, "neither"),
        ({"field": "score", "operator": ">", "value": "a"}, "neither"),
        ({"field": "meta.x", "operator": "in", "value": "a"}, "takes a list"),
        ({"field": "meta.x", "operator": "==", "value": object()}, "is a object"),
        ({"field": "embedding", "operator": "==", "value": [1.0]}, "with None only"),
        ({"field": "blob", "operator": ">", "value": 1}, "with None only"),
        ("meta.x == 1", "must be a dict"),
    ],
)
def test_refuses_malformed_filters(stores, filters, text):
    with pytest.raises(FilterError, match=text):
        stores["any"][0].filter_documents(filters)


def test_a_vector_or_blob_next_to_an_undecided_condition(stores):
    store, documents = stores["any"]
    for field in ("embedding", "sparse_embedding", "blob"):
        filters = {
            "operator": "AND",
            "conditions": [
                {"field": field, "operator": "!=", "value": None},
                {"field": "meta.x", "operator": "==", "value": "2020-01-01T10:00:00+00:00"},
            ],
        }
        expected = sorted(document.id for document in documents if matches(filters, document))
        assert [document.id for document in store.filter_documents(filters)] == expected
        assert expected


def test_plain_comparisons_are_left_to_the_engine():
    for field, operator, value in [
        ("meta.x", "==", "a"),
        ("meta.x", ">=", 3),
        ("meta.x", "in", ["a", "b", 1]),
        ("meta.x", "!=", None),
        ("id", "in", ["a", "b"]),
        ("embedding", "==", None),
    ]:
        plan = FilterPlan({"field": field, "operator": operator, "value": value}, traits=set(), indexes={})
        assert plan.is_exact


@pytest.mark.parametrize("path", [("meta", "a"), ("meta", "a b", "c.d"), ("meta", ""), ("meta", "é")])
def test_paths_round_trip(path):
    assert parse_path(engine_path(path)) == path


def test_field_paths():
    assert field_path("meta.a.b") == ("meta", "a", "b")
    assert field_path("year") == ("meta", "year")
    assert field_path("id") == ("id",)
    assert field_path("score") is None
    assert engine_path(("meta", 'a"b')) is None
    assert engine_path(("meta", "\ud800")) is None
