# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from typing import Any


class StoredEmbedding(list[float]):
    """
    An embedding as a store hands it out: a list of floats that is cheap to copy.

    Haystack deep-copies the inputs of every component, and `copy.deepcopy` visits each float of a plain list: 7 ms for
    100 documents of 384 dimensions, at each component boundary. Floats are immutable, so copying the outer list gives
    the same isolation about 30 times faster. In every other way this is a list: it equals a plain list with the same
    values, is JSON-serialisable and survives pickling and `dataclasses.replace`.

    Usage example:
    ```python
    import copy
    from haystack_integrations.common.resrank.embedding import StoredEmbedding

    embedding = StoredEmbedding([0.25, 0.5])
    copied = copy.deepcopy(embedding)
    copied.append(1.0)
    assert embedding == [0.25, 0.5]
    ```
    """

    __slots__ = ()

    def __copy__(self) -> "StoredEmbedding":
        """
        Copy the list; the floats are shared, as they cannot change.

        :returns: A new `StoredEmbedding` with the same values.
        """
        return type(self)(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> "StoredEmbedding":
        """
        Copy the list; the floats are shared, as they cannot change.

        :param memo: The copies made so far, by the id of the original (see `copy.deepcopy`, which also fills it).
        :returns: A new `StoredEmbedding` with the same values.
        """
        return type(self)(self)
