# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Checks of the store's settings, and their translation into the engine's own classes.

Everything here is pure: no file is touched, so that a bad setting fails when the store is constructed.
"""

import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import qdrant_edge as edge

PointId: TypeAlias = int | uuid.UUID | str
Quantization: TypeAlias = edge.ScalarQuantizationConfig | edge.BinaryQuantizationConfig | edge.ProductQuantizationConfig

DENSE_VECTORS_NAME = "text-dense"
SPARSE_VECTORS_NAME = "text-sparse"

DISTANCES = {
    "dot_product": edge.Distance.Dot,
    "cosine": edge.Distance.Cosine,
    "l2": edge.Distance.Euclid,
}

# Qdrant's defaults but for ef_construct and ef, whose recall is measured in docs/scale.md.
_HNSW_DEFAULTS: dict[str, Any] = {"m": 16, "ef_construct": 200, "full_scan_threshold": 10_000}
_SEARCH_DEFAULTS: dict[str, Any] = {"hnsw_ef": 512}
_RESCORING_DEFAULTS: dict[str, Any] = {"rescore": True, "oversampling": 2.0}  # the engine does not rescore int8 unasked
_HNSW_LIMITS = {"m": (0, 512), "ef_construct": (4, 10_000)}  # the engine takes more, and then builds for hours
_HNSW_KEYS = {*_HNSW_DEFAULTS, "max_indexing_threads", "on_disk", "payload_m", "inline_storage"}
QUANTIZATION_PRESETS: dict[str, dict[str, Any] | None] = {
    "int8": {"scalar": {"type": "int8", "quantile": 0.99, "always_ram": True}},
    "none": None,
}
_COMPRESSIONS = {name.lower(): getattr(edge.CompressionRatio, name) for name in ("X4", "X8", "X16", "X32", "X64")}

# The engine's integer index leaves out 1.5 and integers from 2**63, and its UUID index equates different spellings: a
# filter would mean something else with the index than without. The indexes given instead keep the meaning.
_INDEX_CLASSES: dict[str, tuple[Callable[..., Any], set[str]]] = {
    "keyword": (edge.KeywordIndexParams, {"is_tenant", "on_disk", "enable_hnsw"}),
    "uuid": (edge.KeywordIndexParams, {"is_tenant", "on_disk", "enable_hnsw"}),
    "integer": (edge.FloatIndexParams, {"is_principal", "on_disk", "enable_hnsw"}),
    "float": (edge.FloatIndexParams, {"is_principal", "on_disk", "enable_hnsw"}),
    "bool": (edge.BoolIndexParams, {"on_disk", "enable_hnsw"}),
    "datetime": (edge.DatetimeIndexParams, {"is_principal", "on_disk", "enable_hnsw"}),
}
_INDEX_TYPES = {
    edge.KeywordIndexParams: edge.PayloadSchemaType.Keyword,
    edge.FloatIndexParams: edge.PayloadSchemaType.Float,
    edge.BoolIndexParams: edge.PayloadSchemaType.Bool,
    edge.DatetimeIndexParams: edge.PayloadSchemaType.Datetime,
}
_IGNORED_INDEX_KEYS = {"type", "lookup", "range"}  # lookup and range belong to the integer index


def check_positive_int(name: str, value: Any, *, minimum: int = 1) -> None:
    """
    Check a whole number of the constructor.

    :param name: The parameter, for the error text.
    :param value: The value given.
    :param minimum: The smallest value allowed.
    :raises ValueError: If the value is no `int` or too small.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        msg = f"{name} must be an int of at least {minimum}, got {value!r}."
        raise ValueError(msg)


def check_flag(name: str, value: Any) -> None:
    """
    Check a switch of the constructor that may be left open.

    :param name: The parameter, for the error text.
    :param value: The value given.
    :raises ValueError: If the value is neither `None` nor a `bool`.
    """
    if value is not None and not isinstance(value, bool):
        msg = f"{name} must be True, False or None, got {value!r}."
        raise ValueError(msg)


def _check_keys(name: str, given: Any, allowed: set[str]) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        msg = f"{name} must be a dict, got {type(given).__name__}."
        raise ValueError(msg)
    unknown = sorted(map(str, set(given) - allowed))
    if unknown:
        msg = f"{name} does not know {', '.join(unknown)}. It takes: {', '.join(sorted(allowed))}."
        raise ValueError(msg)
    return dict(given)


def _build(name: str, factory: Callable[..., Any], **arguments: Any) -> Any:
    try:
        return factory(**arguments)
    except (TypeError, ValueError, OverflowError) as error:
        msg = f"{name} holds a value that the engine does not take: {arguments!r} ({error})."
        raise ValueError(msg) from error


def hnsw_index(hnsw_config: dict[str, Any] | None) -> edge.HnswIndexConfig | None:
    """
    Translate `hnsw_config`.

    :param hnsw_config: The constructor's value, or `None`.
    :returns: The engine's class, or `None`.
    :raises ValueError: If a key is unknown or a value has the wrong type.
    """
    if hnsw_config is None:
        return None
    given = {**_HNSW_DEFAULTS, **_check_keys("hnsw_config", hnsw_config, _HNSW_KEYS)}
    index = _build("hnsw_config", edge.HnswIndexConfig, **given)
    for name, (lowest, highest) in _HNSW_LIMITS.items():
        if not lowest <= given[name] <= highest:
            msg = f"hnsw_config[{name!r}] must be an int from {lowest} to {highest}, got {given[name]!r}."
            raise ValueError(msg)
    return index


def _quantization_preset(quantization_config: dict[str, Any] | str | None) -> dict[str, Any] | None:
    """Write a preset out."""
    if not isinstance(quantization_config, str):
        return quantization_config
    if quantization_config not in QUANTIZATION_PRESETS:
        msg = (
            f"quantization_config must be a dict or one of {', '.join(QUANTIZATION_PRESETS)}; "
            f"got {quantization_config!r}."
        )
        raise ValueError(msg)
    return QUANTIZATION_PRESETS[quantization_config]


def quantization(quantization_config: dict[str, Any] | str | None) -> Quantization | None:
    """
    Translate `quantization_config`, which has the shape of Qdrant's REST API as in `qdrant-haystack`.

    :param quantization_config: For example `{"scalar": {"type": "int8", "quantile": 0.99, "always_ram": True}}`,
        `{"binary": {"always_ram": True}}`, `{"product": {"compression": "x16"}}` or a name in `QUANTIZATION_PRESETS`;
        `None` for none.
    :returns: The engine's class, or `None`.
    :raises ValueError: If the kind or a key is unknown, or a value has the wrong type.
    """
    quantization_config = _quantization_preset(quantization_config)
    if quantization_config is None:
        return None
    name = "quantization_config"
    given = _check_keys(name, quantization_config, {"scalar", "binary", "product"})
    if len(given) != 1:
        msg = f"{name} must name exactly one of scalar, binary and product, got {sorted(given)}."
        raise ValueError(msg)
    ((kind, settings),) = given.items()
    label = f"{name}[{kind!r}]"
    if kind == "binary":
        return _build(label, edge.BinaryQuantizationConfig, **_check_keys(label, settings, {"always_ram"}))
    if kind == "product":
        settings = _check_keys(label, settings, {"compression", "always_ram"})
        compression = _COMPRESSIONS.get(str(settings.pop("compression", None)))
        if compression is None:
            msg = f"{label} needs compression: one of {', '.join(_COMPRESSIONS)}."
            raise ValueError(msg)
        return _build(label, edge.ProductQuantizationConfig, compression=compression, **settings)
    settings = _check_keys(label, settings, {"type", "quantile", "always_ram"})
    if settings.pop("type", "int8") != "int8":
        msg = f"{label} knows the type 'int8' only, got {quantization_config['scalar']['type']!r}."
        raise ValueError(msg)
    return _build(label, edge.ScalarQuantizationConfig, type=edge.ScalarType.Int8, **settings)


def search_parameters(search_params: dict[str, Any] | None) -> edge.SearchParams:
    """
    Translate `search_params`.

    :param search_params: For example `{"hnsw_ef": 256, "quantization": {"rescore": True, "oversampling": 3.0}}`.
    :returns: The engine's class.
    :raises ValueError: If a key is unknown or a value has the wrong type or is out of range.
    """
    keys = {"hnsw_ef", "exact", "indexed_only", "quantization"}
    given = {**_SEARCH_DEFAULTS, **_check_keys("search_params", {} if search_params is None else search_params, keys)}
    if given["hnsw_ef"] is not None:
        check_positive_int("search_params['hnsw_ef']", given["hnsw_ef"])
    if given.get("quantization", {}) is not None:
        label = "search_params['quantization']"
        asked = _check_keys(label, given.get("quantization", {}), {"ignore", "rescore", "oversampling"})
        settings = {**_RESCORING_DEFAULTS, **asked}
        oversampling = settings.get("oversampling")
        if isinstance(oversampling, int | float) and not oversampling >= 1:
            msg = f"{label}['oversampling'] must be a number of at least 1, got {oversampling!r}."
            raise ValueError(msg)
        given["quantization"] = _build(label, edge.QuantizationSearchParams, **settings)
    return _build("search_params", edge.SearchParams, **given)


def payload_indexes(payload_fields_to_index: list[dict[str, Any]] | None) -> list[tuple[str, Any]]:
    """
    Translate `payload_fields_to_index`.

    :param payload_fields_to_index: As in `qdrant-haystack`: dicts with `field_name` (such as `meta.year`) and
        `field_schema`, a type name or a dict with `type` and the type's settings.
    :returns: Pairs of field name and index parameters of the engine.
    :raises ValueError: If an entry, a type or a setting is unknown.
    """
    if payload_fields_to_index is None:
        return []
    name = "payload_fields_to_index"
    if not isinstance(payload_fields_to_index, list):
        msg = f"{name} must be a list of dicts, got {type(payload_fields_to_index).__name__}."
        raise ValueError(msg)
    indexes = []
    for position, entry in enumerate(payload_fields_to_index):
        label = f"{name}[{position}]"
        given = _check_keys(label, entry, {"field_name", "field_schema"})
        field_name, schema = given.get("field_name"), given.get("field_schema")
        if not isinstance(field_name, str) or not field_name:
            msg = f"{label} needs field_name, a str such as 'meta.year'; got {field_name!r}."
            raise ValueError(msg)
        settings = {"type": schema} if isinstance(schema, str) else schema
        if not isinstance(settings, Mapping) or settings.get("type") not in _INDEX_CLASSES:
            msg = (
                f"{label} needs field_schema, a str or a dict with 'type': one of {', '.join(_INDEX_CLASSES)}; "
                f"got {schema!r}."
            )
            raise ValueError(msg)
        factory, keys = _INDEX_CLASSES[settings["type"]]
        settings = _check_keys(f"{label}['field_schema']", settings, keys | _IGNORED_INDEX_KEYS)
        arguments = {key: value for key, value in settings.items() if key not in _IGNORED_INDEX_KEYS}
        indexes.append((field_name, _build(label, factory, **arguments)))
    return indexes


def index_type(parameters: Any) -> edge.PayloadSchemaType:
    """
    Say which of the engine's index types the parameters make.

    :param parameters: As returned by `payload_indexes`.
    :returns: The type that the engine reports for such an index.
    """
    return _INDEX_TYPES[type(parameters)]


def shard_config(
    *,
    embedding_dim: int,
    similarity: str,
    use_sparse_embeddings: bool,
    hnsw_config: dict[str, Any] | None = None,
    quantization_config: dict[str, Any] | str | None = None,
    on_disk: bool | None = None,
    on_disk_payload: bool | None = None,
) -> edge.EdgeConfig:
    """
    Build the engine's configuration of a collection.

    :param embedding_dim: Dimension of the dense vectors.
    :param similarity: A key of `DISTANCES`.
    :param use_sparse_embeddings: Whether there are sparse vectors; they get the IDF modifier, which BM25 needs.
    :param hnsw_config: See `hnsw_index`; `None` keeps what an existing collection has.
    :param quantization_config: See `quantization`; `None` keeps what an existing collection has.
    :param on_disk: Whether dense vectors are read from the disk when they are needed rather than loaded when the
        collection is opened; `None` keeps what an existing collection has.
    :param on_disk_payload: The same for ids, texts and meta.
    :returns: The configuration, with the write-ahead log on: it is what makes writes durable and locks the folder.
    """
    dense = edge.EdgeVectorParams(size=embedding_dim, distance=DISTANCES[similarity], memory=_memory(on_disk))
    sparse = {SPARSE_VECTORS_NAME: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)}
    return edge.EdgeConfig(
        vectors={DENSE_VECTORS_NAME: dense},
        sparse_vectors=sparse if use_sparse_embeddings else None,
        hnsw_config=hnsw_index(hnsw_config),
        quantization_config=quantization(quantization_config),
        optimizers=_optimizers(hnsw_config),
        payload_memory=_memory(on_disk_payload),
        wal_enabled=True,
    )


def _optimizers(hnsw_config: dict[str, Any] | None) -> edge.EdgeOptimizersConfig | None:
    """Have an index built from the size on from which it is searched; of its own accord the engine waits for 10 MB."""
    if hnsw_config is None:
        return None
    threshold = {**_HNSW_DEFAULTS, **hnsw_config}["full_scan_threshold"]
    return edge.EdgeOptimizersConfig(indexing_threshold=max(1, threshold))


def _memory(on_disk: bool | None) -> edge.Memory | None:
    return None if on_disk is None else edge.Memory.Cold if on_disk else edge.Memory.Cached


def for_new_collection(tuning: dict[str, Any]) -> dict[str, Any]:
    """
    Fill in what a new collection has where a store says nothing.

    :param tuning: The settings of a store, as `shard_config` takes them.
    :returns: The same with an index as we measured it, rather than the engine's default.
    """
    hnsw_config = tuning.get("hnsw_config")
    return {**tuning, "hnsw_config": {} if hnsw_config is None else hnsw_config}


def shard_settings(folder: str, former: dict[str, Any], tuning: dict[str, Any]) -> dict[str, Any]:
    """
    Say which settings are in force once a collection is opened.

    :param folder: Of the collection, for the error text.
    :param former: The settings that were in force before.
    :param tuning: The settings of a store, as `shard_config` takes them; `None` keeps what was in force.
    :returns: The settings by name, written out: two that mean the same are equal.
    :raises ValueError: If quantisation is to be taken off, which the engine cannot do.
    """
    asked = {name: value for name, value in tuning.items() if value is not None}
    if "hnsw_config" in asked:
        asked["hnsw_config"] = {**_HNSW_DEFAULTS, **asked["hnsw_config"]}
    if "quantization_config" in asked:
        preset = _quantization_preset(asked.pop("quantization_config"))
        if preset is not None:
            asked["quantization_config"] = preset
        elif "quantization_config" in former:
            msg = (
                f"The store in {folder!r} is quantised with {former['quantization_config']!r}, which the engine cannot "
                "take off again, but quantization_config='none' was given. Index into another folder, or search the "
                "original vectors with search_params={'quantization': {'ignore': True}}. Nothing was changed."
            )
            raise ValueError(msg)
    return {**former, **asked}


def is_rebuilt_by(settings: dict[str, Any], indexed: dict[str, Any]) -> bool:
    """
    Say whether a change of settings asks for another index.

    :param settings: Those in force, as returned by `shard_settings`.
    :param indexed: Those that the index was built with.
    :returns: Whether they differ once the engine's defaults are filled in.
    """
    defaults = {"hnsw_config": _HNSW_DEFAULTS, "on_disk": False, "on_disk_payload": True}
    return {**defaults, **settings} != {**defaults, **indexed}
