# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Haystack's own contract for document stores, sync and async, on all that ResRank runs on."""

import asyncio
import inspect
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import qdrant_client
from haystack import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.testing import document_store as contract
from haystack.testing import document_store_async as async_contract
from haystack.utils import Secret
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore

# What qdrant-haystack does otherwise.
_NO_NONE = "refuses filters with the value None"
_NOT_OF_QDRANT = {
    "test_comparison_equal_with_none": _NO_NONE,
    "test_comparison_not_equal_with_none": _NO_NONE,
    "test_comparison_greater_than_with_none": _NO_NONE,
    "test_comparison_greater_than_equal_with_none": _NO_NONE,
    "test_comparison_less_than_with_none": _NO_NONE,
    "test_comparison_less_than_equal_with_none": _NO_NONE,
    "test_not_operator": "NOT means none of the conditions, rather than not all of them",
    "test_missing_top_level_operator_key": "raises ValueError rather than FilterError",
    "test_delete_all_documents_with_recreate_index": "delete_all_documents(recreate_index=True) fails on named vectors",
}


@pytest.fixture(params=["edge", "local", "server"])
def any_store(request, make_store) -> Iterator[Any]:
    """The embedded store, then qdrant-haystack's in its local mode and on the server that QDRANT_URL names."""
    if request.param == "edge":
        yield make_store(embedding_dim=768)
        return
    name = request.node.callspec.params.get("name", request.node.originalname).removesuffix("_async")
    if name in _NOT_OF_QDRANT:
        pytest.skip(f"qdrant-haystack: {_NOT_OF_QDRANT[name]}")
    place: dict[str, Any] = {"location": ":memory:"}
    if request.param == "server":
        key = Secret.from_env_var("QDRANT_API_KEY", strict=False)
        url = request.getfixturevalue("qdrant_url")
        place = {"url": url, "api_key": key, "index": f"resrank-test-{uuid.uuid4().hex}", "timeout": 60}
    # As in the *_server definitions.
    store = QdrantDocumentStore(
        **place,
        embedding_dim=768,
        similarity="dot_product",
        use_sparse_embeddings=True,
        sparse_idf=True,
        progress_bar=False,
    )
    yield store
    store.close()
    if request.param == "server":
        client = qdrant_client.QdrantClient(url=place["url"], api_key=place["api_key"].resolve_value(), timeout=60)
        client.delete_collection(place["index"])
        client.close()


class _Equal:
    @pytest.fixture
    def document_store(self, any_store):
        return any_store

    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]):
        # The stores order by id or its hash, and keep vectors as float32.
        received, expected = (sorted(documents, key=lambda document: document.id) for documents in (received, expected))
        assert [document.id for document in received] == [document.id for document in expected]
        for left, right in zip(received, expected, strict=True):
            assert replace(left, embedding=None) == replace(right, embedding=None)
            assert (left.embedding is None) == (right.embedding is None)
            if left.embedding is not None:
                assert left.embedding == pytest.approx(right.embedding, rel=1e-6)


class TestContract(
    _Equal,
    contract.DocumentStoreBaseExtendedTests,
    contract.CountDocumentsByFilterTest,
    contract.CountUniqueMetadataByFilterTest,
    contract.GetMetadataFieldsInfoTest,
    contract.GetMetadataFieldMinMaxTest,
    contract.GetMetadataFieldUniqueValuesTest,
):
    def test_write_documents(self, document_store):
        document = Document(content="alpha")
        assert document_store.write_documents([document]) == 1
        # Without a policy the embedded store refuses too; qdrant-haystack writes over.
        edge = isinstance(document_store, QdrantEdgeDocumentStore)
        for policy in [DuplicatePolicy.FAIL, *([DuplicatePolicy.NONE] if edge else [])]:
            with pytest.raises(DuplicateDocumentError):
                document_store.write_documents([document], policy)
        assert document_store.count_documents() == 1

    def test_documents_come_sorted_by_id(self, make_store):
        store = make_store(embedding_dim=768)
        store.write_documents(contract.create_filterable_docs())
        names = [document.id for document in store.filter_documents()]
        assert names == sorted(names)


_ASYNC = (
    async_contract.CountDocumentsAsyncTest,
    async_contract.CountDocumentsByFilterAsyncTest,
    async_contract.CountUniqueMetadataByFilterAsyncTest,
    async_contract.DeleteAllAsyncTest,
    async_contract.DeleteByFilterAsyncTest,
    async_contract.DeleteDocumentsAsyncTest,
    async_contract.FilterDocumentsAsyncTest,
    async_contract.GetMetadataFieldMinMaxAsyncTest,
    async_contract.GetMetadataFieldUniqueValuesAsyncTest,
    async_contract.GetMetadataFieldsInfoAsyncTest,
    async_contract.UpdateByFilterAsyncTest,
    async_contract.WriteDocumentsAsyncTest,
)
_ASYNC_CASES = [
    (mixin, name)
    for mixin in _ASYNC
    for name, member in inspect.getmembers(mixin)
    # Without a default in the contract: see test_write_documents above.
    if name.startswith("test_") and inspect.iscoroutinefunction(member) and name != "test_write_documents_async"
]


@pytest.mark.parametrize(("mixin", "name"), _ASYNC_CASES, ids=[f"{m.__name__}.{n}" for m, n in _ASYNC_CASES])
def test_async_contract(mixin, name, any_store):
    # Run by hand: the project does without a pytest plugin for coroutines.
    instance = type("Case", (_Equal, mixin), {})()
    test = getattr(instance, name)
    arguments = {"document_store": any_store}
    if "filterable_docs" in inspect.signature(test).parameters:
        arguments["filterable_docs"] = contract.create_filterable_docs()

    async def run_and_close() -> None:
        try:
            await test(**arguments)
        finally:
            await any_store.close_async()

    asyncio.run(run_and_close())


def test_every_method_of_the_async_contract_is_covered():
    assert len(_ASYNC_CASES) >= 25
