# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Haystack's own contract for document stores, sync and async."""

import asyncio
import inspect
from dataclasses import replace

import pytest
from haystack import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.testing import document_store as contract
from haystack.testing import document_store_async as async_contract


class _Equal:
    @pytest.fixture
    def document_store(self, make_store):
        return make_store(embedding_dim=768)

    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]):
        # The store orders by id, and keeps vectors as float32.
        expected = sorted(expected, key=lambda document: document.id)
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
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([document])


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
def test_async_contract(mixin, name, make_store):
    # Run by hand: the project does without a pytest plugin for coroutines.
    instance = type("Case", (_Equal, mixin), {})()
    test = getattr(instance, name)
    arguments = {"document_store": make_store(embedding_dim=768)}
    if "filterable_docs" in inspect.signature(test).parameters:
        arguments["filterable_docs"] = contract.create_filterable_docs()
    asyncio.run(test(**arguments))


def test_every_method_of_the_async_contract_is_covered():
    assert len(_ASYNC_CASES) >= 25
