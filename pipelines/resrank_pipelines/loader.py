# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The shipped pipeline definitions, and loading them with another model, store or server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from haystack import Pipeline

DEFINITIONS = Path(__file__).parent / "definitions"

MODEL_TYPE = "haystack_integrations.common.resrank.model.ResRankModel"
EDGE_STORE_TYPE = "haystack_integrations.document_stores.resrank.document_store.QdrantEdgeDocumentStore"
_SERVER = "haystack_integrations.document_stores.qdrant.document_store.QdrantDocumentStore"


def definitions() -> list[str]:
    """
    Names of the shipped definitions.

    :returns: e.g. `search`, `search_server`.
    """
    return sorted(path.stem for path in DEFINITIONS.glob("*.yaml"))


def definition_path(name: str) -> Path:
    """
    The file of a shipped definition; plain `Pipeline.load` reads it.

    :param name: one of `definitions()`.
    :returns: its path.
    :raises ValueError: for another name.
    """
    path = DEFINITIONS / f"{name}.yaml"
    if name not in definitions():
        msg = f"no pipeline definition {name!r}: there are {', '.join(definitions())}"
        raise ValueError(msg)
    return path


def read_definition(
    name: str,
    *,
    model: dict[str, Any] | None = None,
    store: dict[str, Any] | None = None,
    components: dict[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """
    A definition with other values, as `Pipeline.from_dict` takes it.

    :param name: one of `definitions()`.
    :param model: init parameters of `ResRankModel` to set everywhere, e.g. `{"model": "my-checkpoint"}`.
    :param store: init parameters of the document store to set everywhere, e.g. `{"path": "my-store"}`.
    :param components: init parameters to set by component name, e.g. `{"ranker": {"top_k": 5}}`.
    :returns: the dictionary.
    :raises ValueError: for an unknown definition or component.
    """
    parsed = yaml.safe_load(definition_path(name).read_text(encoding="utf-8"))
    definition = point_at(parsed, model=model, store=store, store_types=(EDGE_STORE_TYPE, _SERVER))
    for component, values in (components or {}).items():
        if component not in definition["components"]:
            msg = f"pipeline {name!r} has no component {component!r}: it has {', '.join(definition['components'])}"
            raise ValueError(msg)
        definition["components"][component]["init_parameters"].update(values)
    return definition


def point_at(
    definition: dict[str, Any],
    *,
    model: dict[str, Any] | None = None,
    store: dict[str, Any] | None = None,
    store_types: tuple[str, ...] = (EDGE_STORE_TYPE,),
) -> dict[str, Any]:
    """
    Any pipeline's definition with another model and store.

    :param definition: as YAML holds it; not changed.
    :param model: init parameters to set on every `ResRankModel`; one given by its short form is not touched.
    :param store: init parameters to set on every document store.
    :param store_types: of these types.
    :returns: the changed definition, without sections that are there for their YAML anchors only (`x-…`).
    """
    changes = {MODEL_TYPE: model or {}, **{kind: store or {} for kind in store_types}}

    def change(node: dict[str, Any]) -> dict[str, Any]:
        extra = changes.get(node.get("type", ""))
        return node if extra is None else {**node, "init_parameters": {**node.get("init_parameters", {}), **extra}}

    changed: dict[str, Any] = _mapped({key: value for key, value in definition.items() if key[:2] != "x-"}, change)
    return changed


def load_pipeline(
    name: str,
    *,
    model: dict[str, Any] | None = None,
    store: dict[str, Any] | None = None,
    components: dict[str, dict[str, Any]] | None = None,
) -> Pipeline:
    """
    Load a shipped pipeline.

    ```python
    from resrank_pipelines import load_pipeline

    pipeline = load_pipeline("search", store={"path": "my-store"})
    documents = pipeline.run({"query": "how do I parse a date?"})["ranker"]["documents"]
    ```

    :param name: one of `definitions()`.
    :param model: init parameters of `ResRankModel` to set everywhere.
    :param store: init parameters of the document store to set everywhere.
    :param components: init parameters to set by component name.
    :returns: the pipeline; models load at its first run.
    :raises ValueError: for an unknown definition or component.
    """
    return Pipeline.from_dict(read_definition(name, model=model, store=store, components=components))


def _mapped(node: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """A deep copy with every dictionary passed through `change`; YAML anchors come apart."""
    if isinstance(node, dict):
        return change({key: _mapped(value, change) for key, value in node.items()})
    if isinstance(node, list):
        return [_mapped(value, change) for value in node]
    return node
