# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Haystack filters to filters of the engine, with the meaning of `haystack.utils.filters.document_matches_filter`.

The engine's conditions mean something else in places: `== "a"` also finds lists that hold "a", bools never equal
numbers, a date without a time zone is UTC, a missing value, `None` and `[]` are one. So each comparison is translated
into two conditions: `sure`, which only finds documents that match, and `possible`, which finds all that do. They are
mostly one and the same; then the filter is exact and runs in the engine alone. Where they differ, the documents between
the two (such as those within two days of a date) are fetched and decided by Haystack's own function, and the filter for
the engine becomes `sure` or one of the point ids found.

    AND: sure = AND of sure, possible = AND of possible;  OR alike;  NOT: sure = NOT possible, possible = NOT sure

A comparison that Haystack's function cannot decide for a document (a number with a text) does not match it.
"""

import math
import operator as python_operators
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import numpy as np
import qdrant_edge as edge
from haystack.dataclasses import ByteStream, Document, SparseEmbedding
from haystack.errors import FilterError
from haystack.utils.filters import COMPARISON_OPERATORS, LOGICAL_OPERATORS, document_matches_filter

from .converters import HAS_EMPTY_LISTS, HAS_LISTS, HAS_LONG_FLOATS, META_JSON, payload_meta, point_id
from .engine_config import DENSE_VECTORS_NAME, SPARSE_VECTORS_NAME

# What a condition of the engine can be here; `True` finds every document and `False` none.
Condition: TypeAlias = (
    bool
    | edge.FieldCondition
    | edge.IsEmptyCondition
    | edge.IsNullCondition
    | edge.HasIdCondition
    | edge.HasVectorCondition
    | edge.NestedCondition
    | edge.Filter
)
Path: TypeAlias = tuple[str, ...]
Indexes: TypeAlias = Mapping[Path, edge.PayloadSchemaType]

_DOCUMENT_FIELDS = {"id", "content", "blob", "meta", "score", "embedding", "sparse_embedding"}
_VECTORS = {"embedding": DENSE_VECTORS_NAME, "sparse_embedding": SPARSE_VECTORS_NAME}
_ORDERINGS: dict[str, Callable[[Any, Any], bool]] = {
    ">": python_operators.gt,
    ">=": python_operators.ge,
    "<": python_operators.lt,
    "<=": python_operators.le,
}
_RANGE_ARGUMENTS = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_PATH_PART = re.compile(r'"([^"]*)"|([^."]+)')
_DATE_PREFIX = re.compile(r"\d{4}-\d{2}-\d{2}(?:[Tt ].*)?", re.DOTALL)
_EXACT_INTEGERS = 2**53  # below, float64 tells integers apart
_LARGEST_FLOAT = 1.7976931348623157e308
_FLOAT_STEPS = 4  # the engine's number parser is off by two units in the last place at most
# Time zones are within a day of UTC, on either side of a comparison.
_ZONES = timedelta(days=2)
_FIRST_DATE, _LAST_DATE = "0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z"


@dataclass(frozen=True)
class _Match:
    """Bounds of what a filter finds. Without `possible` the engine decides alone."""

    sure: Condition
    possible: Condition | None = None

    @property
    def upper(self) -> Condition:
        return self.sure if self.possible is None else self.possible


def parse_path(path: str) -> Path:
    """
    Split a payload path of the engine.

    :param path: Such as `meta."my key".x`.
    :returns: The keys, such as `("meta", "my key", "x")`.
    """
    return tuple(quoted or bare for quoted, bare in _PATH_PART.findall(path))


def engine_path(path: Path) -> str | None:
    """
    Write a payload path for the engine.

    :param path: The keys.
    :returns: The path, or `None` if the engine's grammar has no way to name one of the keys.
    """
    if any('"' in key or "\\" in key or not _encodes(key) for key in path):
        return None
    return ".".join(key if _BARE_KEY.fullmatch(key) else f'"{key}"' for key in path)


def _encodes(key: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in key)


def field_path(field: str) -> Path | None:
    """
    Find where the payload holds a field of a filter.

    :param field: `id`, `content`, `meta`, `meta.<key>...`, or a key of meta without the prefix.
    :returns: The keys, or `None` if no document can have a value there.
    """
    first, *rest = field.split(".")
    if rest:
        return (first, *rest) if first == "meta" else None
    if field in _DOCUMENT_FIELDS:
        return None if field == "score" else (field,)
    return ("meta", field)


def _and(*conditions: Condition) -> Condition:
    if any(condition is False for condition in conditions):
        return False
    real = [condition for condition in conditions if not isinstance(condition, bool)]
    if len(real) <= 1:
        return real[0] if real else True
    return edge.Filter(must=real)


def _or(*conditions: Condition) -> Condition:
    if any(condition is True for condition in conditions):
        return True
    real = [condition for condition in conditions if not isinstance(condition, bool)]
    if len(real) <= 1:
        return real[0] if real else False
    return edge.Filter(should=real)


def _not(condition: Condition) -> Condition:
    return not condition if isinstance(condition, bool) else edge.Filter(must_not=[condition])


def _combine(combine: Callable[..., Condition], matches: Sequence[_Match]) -> _Match:
    sure = combine(*(match.sure for match in matches))
    if all(match.possible is None for match in matches):
        return _Match(sure)
    return _Match(sure, combine(*(match.upper for match in matches)))


def _negate(match: _Match) -> _Match:
    return _Match(_not(match.upper), None if match.possible is None else _not(match.sure))


def to_engine(condition: Condition) -> edge.Filter | None:
    """
    Wrap a condition.

    :param condition: The condition.
    :returns: A filter; `None` if every document matches.
    """
    if condition is True:
        return None
    if condition is False:
        return edge.Filter(must=[edge.HasIdCondition(set())])
    return condition if isinstance(condition, edge.Filter) else edge.Filter(must=[condition])


def _parse_date(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _may_be_date(text: str) -> bool:
    """Say whether Haystack's equality may read a text as a date."""
    return _DATE_PREFIX.fullmatch(text) is not None


def _orderable(operator: str, value: Any, name: str) -> float | datetime | None:
    """Check the value of an ordering comparison."""
    if value is None or isinstance(value, int | float | datetime):
        return value
    parsed = _parse_date(value) if isinstance(value, str) else None
    if parsed is not None:
        return parsed
    msg = (
        f"The operator {operator!r} orders numbers and ISO dates such as '2026-01-31T10:00:00+01:00'; the value "
        f"{value!r:.80} of {name!r} is neither."
    )
    raise FilterError(msg)


class _Field:
    """The conditions of the engine on one field of the payload."""

    def __init__(self, path: Path, *, traits: Set[str], indexes: Indexes) -> None:
        self.path = path
        self.name = ".".join(path)
        self.key = engine_path(path) or ""
        self.traits = traits
        index = indexes.get(path)
        # An index answers for the values of its own type only, and takes a range of another type for its own.
        self.ranges_numbers = index != edge.PayloadSchemaType.Datetime
        self.ranges_dates = index != edge.PayloadSchemaType.Float
        self.may_be_list = path[0] == "meta" and HAS_LISTS in traits

    def _where(self, **test: Any) -> Condition:
        """Test the value itself: the engine also applies a test to each element of a list."""
        condition: Condition = edge.FieldCondition(key=self.key, **test)
        if self.may_be_list:
            condition = _and(condition, _not(edge.FieldCondition(key=f"{self.key}[]", **test)))
        return condition

    def _is_empty(self) -> Condition:
        return edge.IsEmptyCondition(self.key)

    def _is_none(self) -> _Match:
        # Empty for the engine: missing, None or []. Null for the engine: None, or a list with None in it.
        empty = self._is_empty()
        if HAS_EMPTY_LISTS not in self.traits:
            return _Match(empty)
        return _Match(_and(empty, edge.IsNullCondition(self.key)), empty)

    def _is_any_text(self, texts: list[str]) -> Condition:
        texts = [text for text in texts if _encodes(text)]
        if not texts:
            return False
        if self.path == ("id",):
            return edge.HasIdCondition({point_id(text) for text in texts})
        return self._where(match=edge.MatchAny(texts) if len(texts) > 1 else edge.MatchValue(texts[0]))

    def _bools(self, test: Callable[[int], bool]) -> Condition:
        # The binding reads a Python bool as an integer, and would look for 1; it knows numpy's as a bool.
        return _or(*(self._where(match=edge.MatchValue(np.bool_(flag))) for flag in (False, True) if test(int(flag))))  # type: ignore[arg-type]

    def _range(self, **bounds: float) -> Condition:
        return self._where(range=edge.RangeFloat(**bounds))

    def _number(self, operator: str, value: float) -> _Match:
        """Compare numbers and bools, which Python orders as 0 and 1, with a number."""
        test = _ORDERINGS.get(operator, python_operators.eq)
        bools = self._bools(lambda flag: test(flag, value))
        if not self.ranges_numbers:
            return _Match(bools, _not(self._is_empty()))
        if not abs(value) <= _LARGEST_FLOAT:  # infinite, an enormous integer or NaN
            return _Match(_or(bools, self._range(gte=-_LARGEST_FLOAT) if test(0, value) else False))
        near_value = float(value)
        arguments = ("gte", "lte") if operator not in _ORDERINGS else (_RANGE_ARGUMENTS[operator],)
        exact = _or(bools, self._range(**dict.fromkeys(arguments, near_value)))
        is_small = abs(value) < _EXACT_INTEGERS
        if is_small and HAS_LONG_FLOATS not in self.traits:
            return _Match(exact)
        # The engine compares as float64, and may have rounded a long float of a document that has a `meta_json`.
        width = _FLOAT_STEPS * math.ulp(near_value)
        near = self._range(gte=max(near_value - width, -_LARGEST_FLOAT), lte=min(near_value + width, _LARGEST_FLOAT))
        if is_small:
            near = _and(near, _not(edge.IsEmptyCondition(META_JSON)))
        return _Match(_and(exact, _not(near)), _or(exact, near))

    def _date(self, operator: str, value: datetime) -> _Match:
        """
        Compare dates in ISO text with a date.

        Where one side has no time zone, Haystack takes that of the other; the engine takes UTC. It also reads fewer
        spellings than Python, so that any text that it does not read as a date is possible.
        """
        filled = _not(self._is_empty())
        if not self.ranges_dates:
            return _Match(False, filled)
        is_date = edge.FieldCondition(key=self.key, range=edge.RangeDateTime(gte=_FIRST_DATE))
        is_number = edge.FieldCondition(key=self.key, range=edge.RangeFloat(gte=-_LARGEST_FLOAT))
        other = _and(filled, _not(is_date), _not(is_number) if self.ranges_numbers else True)
        try:
            # In two steps: the shift to UTC may leave the range of years as well.
            instant = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
            earlier, later = (instant - _ZONES).isoformat(), (instant + _ZONES).isoformat()
        except OverflowError:
            return _Match(False, _or(is_date, other))
        if operator not in _ORDERINGS:
            return _Match(False, _or(self._where(range=edge.RangeDateTime(gte=earlier, lte=later)), other))
        if operator.startswith(">"):
            sure, possible = edge.RangeDateTime(gt=later, lt=_LAST_DATE), edge.RangeDateTime(gte=earlier)
        else:
            sure, possible = edge.RangeDateTime(gt=_FIRST_DATE, lt=earlier), edge.RangeDateTime(lte=later)
        return _Match(self._where(range=sure), _or(self._where(range=possible), other))

    def equals(self, value: Any) -> _Match:
        """Compare for equality with one value of any type."""
        if value is None:
            return self._is_none()
        if isinstance(value, str):
            same = _Match(self._is_any_text([value]))
            if not _may_be_date(value):
                return same
            parsed = _parse_date(value)  # None for what only other parsers read, such as 24:00
            dates = _Match(False, _not(self._is_empty())) if parsed is None else self._date("==", parsed)
            return _combine(_or, [same, dates])
        if isinstance(value, datetime):
            return self._date("==", value)
        if isinstance(value, int | float):
            return self._number("==", value)
        if isinstance(value, dict | list):
            return _Match(False, self._is_empty() if value == [] else _not(self._is_empty()))
        msg = (
            f"A filter can compare with str, int, float, bool, None, datetime, list or dict; the value {value!r:.80} "
            f"of {self.name!r} is a {type(value).__name__}."
        )
        raise FilterError(msg)

    def is_in(self, values: list[Any]) -> _Match:
        """Compare for equality with any of the values."""
        texts = [value for value in values if isinstance(value, str) and not _may_be_date(value)]
        others = [value for value in values if not isinstance(value, str) or _may_be_date(value)]
        return _combine(_or, [_Match(self._is_any_text(texts)), *(self.equals(value) for value in others)])

    def compare(self, operator: str, value: Any) -> _Match:
        """Order against a number or a date."""
        limit = _orderable(operator, value, self.name)
        if limit is None:
            return _Match(False)
        return self._date(operator, limit) if isinstance(limit, datetime) else self._number(operator, limit)


class _VectorOrBlob(_Field):
    """A field of which a filter can only ask whether it is there."""

    def equals(self, value: Any) -> _Match:
        """Compare with None."""
        if value is not None:
            msg = f"A filter can compare {self.name!r} with None only, got {value!r:.80}."
            raise FilterError(msg)
        if self.name == "blob":
            return _Match(self._is_empty())
        return _Match(_not(edge.HasVectorCondition(_VECTORS[self.name])))

    def is_in(self, values: list[Any]) -> _Match:
        """Compare with None, given in a list."""
        return _combine(_or, [self.equals(value) for value in values])

    def compare(self, operator: str, value: Any) -> _Match:  # noqa: ARG002
        """Refuse what has no order."""
        return _Match(False) if value is None else self.equals(value)


class _Missing(_Field):
    """A field that no stored document has: its value is None."""

    def equals(self, value: Any) -> _Match:
        """Compare None with the value."""
        return _Match(value is None)

    def is_in(self, values: list[Any]) -> _Match:
        """Look for None."""
        return _Match(any(value is None for value in values))

    def compare(self, operator: str, value: Any) -> _Match:
        """Order None, which has no order."""
        _orderable(operator, value, self.name)
        return _Match(False)


class _Unnamed(_Field):
    """A field whose key the engine cannot name: every document is possible."""

    def equals(self, value: Any) -> _Match:  # noqa: ARG002
        """Leave it open."""
        return _Match(False, True)

    def is_in(self, values: list[Any]) -> _Match:  # noqa: ARG002
        """Leave it open."""
        return _Match(False, True)

    def compare(self, operator: str, value: Any) -> _Match:
        """Leave it open."""
        _orderable(operator, value, self.name)
        return _Match(False, True)


class FilterPlan:
    """A Haystack filter, translated as far as the engine can express it."""

    def __init__(self, filters: Mapping[str, Any] | None, *, traits: Set[str], indexes: Indexes) -> None:
        """
        Translate a filter.

        :param filters: A Haystack filter; `None` and `{}` match every document.
        :param traits: The `TRAITS` that a document of the collection ever had.
        :param indexes: The payload indexes of the collection, by path.
        :raises FilterError: If the filter is malformed or compares with a value that has no such comparison.
        """
        self._traits = traits
        self._indexes = indexes
        self._filters = filters
        self._fields: set[Path] = set()
        self._vectors: set[str] = set()
        self._match = self._translate(filters) if filters else _Match(True)

    @property
    def is_exact(self) -> bool:
        """Whether the engine can decide for every document."""
        return self._match.possible is None

    @property
    def undecided(self) -> edge.Filter | None:
        """What finds the documents that the engine cannot decide."""
        return to_engine(_and(self._match.upper, _not(self._match.sure)))

    @property
    def payload_fields(self) -> list[str] | bool:
        """The parts of the payload that `decide` needs; `True` for all."""
        paths = [engine_path(path) for path in self._fields]
        named = [path for path in paths if path is not None]
        return ["id", META_JSON, *sorted(named)] if len(named) == len(paths) else True

    @property
    def vectors(self) -> list[str] | bool:
        """The vectors that `decide` needs; `False` for none."""
        return sorted(self._vectors) or False

    def decide(self, record: edge.Record) -> bool:
        """
        Decide for one document as Haystack does.

        :param record: Its point, with the payload named by `payload_fields` and the `vectors`.
        :returns: Whether the document matches.
        """
        payload: dict[str, Any] = record.payload or {}
        vectors: Any = record.vector or {}
        document = Document(
            id=payload["id"],
            content=payload.get("content"),
            blob=ByteStream(b"") if payload.get("blob") else None,
            meta=payload_meta(payload),
            embedding=[] if DENSE_VECTORS_NAME in vectors else None,
            sparse_embedding=SparseEmbedding([], []) if SPARSE_VECTORS_NAME in vectors else None,
        )
        return self._decide(self._filters or {}, document)

    def with_ids(self, identifiers: Set[Any]) -> edge.Filter | None:
        """
        Finish the filter.

        :param identifiers: The point ids of those `undecided` documents that `decide` accepted.
        :returns: A filter that finds exactly the documents that match.
        """
        decided: Condition = edge.HasIdCondition(set(identifiers)) if identifiers else False
        return to_engine(_or(self._match.sure, decided))

    def _translate(self, condition: Any) -> _Match:
        if not isinstance(condition, Mapping):
            msg = f"A filter must be a dict, got {type(condition).__name__}: {condition!r:.80}."
            raise FilterError(msg)
        if "field" in condition:
            return self._translate_comparison(condition)
        for key in ("operator", "conditions"):
            if key not in condition:
                msg = f"'{key}' is missing in the filter {dict(condition)!r}."
                raise FilterError(msg)
        operator, conditions = condition["operator"], condition["conditions"]
        if operator not in LOGICAL_OPERATORS:
            msg = f"Unknown logical operator {operator!r}. The operators are: {', '.join(sorted(LOGICAL_OPERATORS))}."
            raise FilterError(msg)
        if isinstance(conditions, str | Mapping) or not isinstance(conditions, Sequence):
            msg = f"'conditions' must be a list of filters, got {type(conditions).__name__}."
            raise FilterError(msg)
        matches = [self._translate(item) for item in conditions]
        match = _combine(_or if operator == "OR" else _and, matches)
        return _negate(match) if operator == "NOT" else match

    def _translate_comparison(self, condition: Mapping[str, Any]) -> _Match:
        for key in ("operator", "value"):
            if key not in condition:
                msg = f"'{key}' is missing in the filter {dict(condition)!r}."
                raise FilterError(msg)
        name, operator, value = condition["field"], condition["operator"], condition["value"]
        if operator not in COMPARISON_OPERATORS:
            known = ", ".join(sorted(COMPARISON_OPERATORS))
            msg = f"Unknown comparison operator {operator!r}. The operators are: {known}."
            raise FilterError(msg)
        if not isinstance(name, str):
            msg = f"'field' must be a str such as 'meta.year', got {name!r}."
            raise FilterError(msg)
        field = self._field(name)
        if operator in ("==", "!="):
            match = field.equals(value)
        elif operator in ("in", "not in"):
            if not isinstance(value, list):
                msg = f"The operator {operator!r} takes a list, got {value!r} for {name!r}."
                raise FilterError(msg)
            match = field.is_in(value)
        else:
            match = field.compare(operator, value)
        return _negate(match) if operator in ("!=", "not in") else match

    def _field(self, name: str) -> _Field:
        path = field_path(name)
        kind: type[_Field] = _Field
        if path is None:
            kind, path = _Missing, (name,)
        elif path[0] in _VECTORS:
            kind = _VectorOrBlob
            self._vectors.add(_VECTORS[path[0]])
        else:
            self._fields.add(path)
            if path[0] == "blob":
                kind = _VectorOrBlob
            elif engine_path(path) is None:
                kind = _Unnamed
        return kind(path, traits=self._traits, indexes=self._indexes)

    def _decide(self, condition: Mapping[str, Any], document: Document) -> bool:
        if "field" in condition:
            try:
                return document_matches_filter(dict(condition), document)
            except (FilterError, TypeError, ValueError, OverflowError):
                return False  # not comparable
        results = (self._decide(item, document) for item in condition["conditions"])
        operator = condition["operator"]
        return any(results) if operator == "OR" else all(results) is (operator == "AND")
