# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from haystack import Pipeline
from haystack.utils import ComponentDevice, Secret
from haystack.utils.device import Device, DeviceMap

from haystack_integrations.common.resrank import ResRankModel, loaded_models
from haystack_integrations.components.embedders.resrank import ResRankDocumentEmbedder, ResRankTextEmbedder
from haystack_integrations.components.preprocessors.resrank import NewPassageFilter
from haystack_integrations.components.rankers.resrank import ResRankRanker
from haystack_integrations.components.retrievers.resrank import ResRankRetriever

TYPE = "haystack_integrations.common.resrank.model.ResRankModel"
TOKEN = {"type": "env_var", "env_vars": ["HF_API_TOKEN", "HF_TOKEN"], "strict": False}


# ------------------------------------------------------------------------------------------------------ serialisation


def test_defaults_are_portable():
    assert ResRankModel().to_dict() == {
        "type": TYPE,
        "init_parameters": {
            "model": "resrank-mini",
            "device": None,
            "dtype": "auto",
            "attn_implementation": "auto",
            "attention": None,
            "revision": None,
            "token": TOKEN,
            "local_files_only": False,
        },
    }


def test_loading_does_not_resolve_what_is_serialised(tiny_mini_checkpoint: Path):
    model = ResRankModel(str(tiny_mini_checkpoint))
    before = model.to_dict()
    engine = model.load("encoder")
    assert engine.loaded_parts
    assert model.to_dict() == before
    assert (model.device, model.dtype) == (None, "auto")


@pytest.mark.parametrize(
    "parameters",
    [
        {"device": "cuda:1"},
        {"device": ComponentDevice.from_str("cpu")},
        {"dtype": "bfloat16", "attn_implementation": "sdpa"},
        {"revision": "abc", "token": None, "local_files_only": True},
        {"token": Secret.from_env_var("MY_TOKEN")},
    ],
)
def test_round_trip_is_stable(parameters: dict[str, Any]):
    first = ResRankModel("org/name", **parameters).to_dict()
    assert ResRankModel.from_dict(first).to_dict() == first


@pytest.mark.parametrize("device", ["cuda:1", ComponentDevice.from_str("cuda:1")])
def test_a_device_may_be_a_string(device: Any):
    assert ResRankModel(device=device).to_dict()["init_parameters"]["device"] == {"type": "single", "device": "cuda:1"}


def test_yaml_may_name_the_device_as_a_string():
    data = {"type": TYPE, "init_parameters": {"device": "cpu"}}
    assert ResRankModel.from_dict(data).device == ComponentDevice.from_str("cpu")


def test_a_token_in_clear_text_is_not_written():
    model = ResRankModel("org/name", token=Secret.from_token("hf_secret"))
    with pytest.raises(ValueError, match="Cannot serialize token-based secret"):
        model.to_dict()
    pipeline = Pipeline()
    pipeline.add_component("embedder", ResRankTextEmbedder(model=model))
    with pytest.raises(ValueError, match="Cannot serialize token-based secret"):
        pipeline.dumps()


def test_from_dict_does_not_change_its_input():
    data = ResRankModel("org/name", device="cpu").to_dict()
    before = repr(data)
    ResRankModel.from_dict(data)
    assert repr(data) == before


def test_unknown_parameters_are_refused():
    with pytest.raises(Exception, match="unexpected keyword argument 'quantize'"):
        ResRankModel.from_dict({"type": TYPE, "init_parameters": {"quantize": True}})


# ---------------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize("model", [None, 5, Path("a-folder"), {"type": TYPE}])
def test_a_model_that_is_no_string_is_refused(model: Any):
    with pytest.raises(TypeError, match=f"model must be a name, a folder or a hub id, got {type(model).__name__}"):
        ResRankModel(model)
    with pytest.raises(TypeError, match="model must be a name"):
        ResRankTextEmbedder(model=model)


def test_of_keeps_a_handle():
    model = ResRankModel("org/name")
    assert ResRankModel.of(model) is model


def test_a_missing_model_is_named_when_loading():
    with pytest.raises(FileNotFoundError, match="no model 'no-such-model': expected a folder that exists"):
        ResRankModel("no-such-model").load()


def test_a_hub_model_that_cannot_be_had_is_named():
    with pytest.raises(FileNotFoundError, match="cannot get 'org/no-such-model' from the Hugging Face hub"):
        ResRankModel("org/no-such-model", local_files_only=True).load()


def test_a_folder_that_is_no_checkpoint_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"is not a ResRank checkpoint: it has no config\.json"):
        ResRankModel(str(tmp_path)).load()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"dtype": "int8"}, "dtype must be auto or one of float32, bfloat16, float16, got 'int8'"),
        ({"attn_implementation": "best"}, "attn_implementation must be one of auto, sdpa"),
    ],
)
def test_values_that_cannot_run_are_named(parameters: dict[str, Any], message: str, tiny_mini_checkpoint: Path):
    with pytest.raises(ValueError, match=message):
        ResRankModel(str(tiny_mini_checkpoint), **parameters).load()


def test_several_devices_are_refused(tiny_mini_checkpoint: Path):
    devices = ComponentDevice.from_multiple(DeviceMap({"a": Device.cpu(), "b": Device.cpu()}))
    with pytest.raises(ValueError, match="device"):
        ResRankModel(str(tiny_mini_checkpoint), device=devices).load()


def test_unknown_parts_are_refused(tiny: ResRankModel):
    with pytest.raises(ValueError, match="parts are 'encoder' and 'reranker', got decoder"):
        tiny.load("decoder")


def test_token_is_resolved_when_loading(monkeypatch: pytest.MonkeyPatch, tiny_mini_checkpoint: Path, tmp_path: Path):
    monkeypatch.delenv("RESRANK_TEST_TOKEN", raising=False)
    checkpoint = shutil.copytree(tiny_mini_checkpoint, tmp_path / "copy")
    model = ResRankModel(str(checkpoint), token=Secret.from_env_var("RESRANK_TEST_TOKEN"))
    with pytest.raises(ValueError, match="RESRANK_TEST_TOKEN"):
        model.load()
    monkeypatch.setenv("RESRANK_TEST_TOKEN", "hf_x")
    assert model.load() is not None


# ----------------------------------------------------------------------------------------------------- one loaded model


def test_equal_handles_share_one_model(fresh_checkpoint: Path, handle: Callable[..., ResRankModel], loads: Any):
    first, second = handle(fresh_checkpoint).load("encoder"), handle(fresh_checkpoint).load("encoder", "reranker")
    assert first is second
    assert loads == {"encoder": 1, "reranker": 1}


def test_names_that_mean_the_same_folder_share_one_model(
    fresh_checkpoint: Path, handle: Callable[..., ResRankModel], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(fresh_checkpoint.parent)
    os.symlink(fresh_checkpoint, fresh_checkpoint.parent / "link")
    engines = [
        handle(name).load() for name in (fresh_checkpoint, fresh_checkpoint.name, f"./{fresh_checkpoint.name}", "link")
    ]
    assert len({id(engine) for engine in engines}) == 1


def test_choices_that_come_out_the_same_share_one_model(fresh_checkpoint: Path):
    from resrank.runtime import Runtime

    resolved = Runtime.resolve("cpu").dtype_name
    spelled = ResRankModel(str(fresh_checkpoint), device="cpu", dtype=resolved).load()
    assert ResRankModel(str(fresh_checkpoint), device="cpu").load() is spelled


@pytest.mark.parametrize("change", [{"dtype": "bfloat16"}, {"attn_implementation": "eager"}, {"attention": "causal"}])
def test_handles_that_run_differently_do_not_share(fresh_checkpoint: Path, change: dict[str, str]):
    base = {"device": "cpu", "dtype": "float32"}
    first = ResRankModel(str(fresh_checkpoint), **base).load()
    assert ResRankModel(str(fresh_checkpoint), **{**base, **change}).load() is not first


def all_components(model: ResRankModel, store: Any) -> list[Any]:
    return [
        ResRankTextEmbedder(model=model),
        ResRankDocumentEmbedder(model=model),
        ResRankRetriever(document_store=store, model=model),
        NewPassageFilter(document_store=store, model=model),
        ResRankRanker(model=model),
    ]


def test_all_components_of_all_pipelines_share_one_model(
    fresh_checkpoint: Path, handle: Callable[..., ResRankModel], loads: dict[str, int], open_store: Callable[..., Any]
):
    before, store = loaded_models(), open_store()
    pipelines = [Pipeline(), Pipeline(), Pipeline()]
    for pipeline in pipelines:
        for i, component in enumerate(all_components(handle(fresh_checkpoint), store)):
            pipeline.add_component(f"c{i}", component)
        pipeline.warm_up()
        pipeline.warm_up()
    assert loads == {"encoder": 1, "reranker": 1}
    assert loaded_models() == before + 1


def test_eight_threads_that_warm_up_at_once_load_once(
    fresh_checkpoint: Path, handle: Callable[..., ResRankModel], loads: dict[str, int], open_store: Callable[..., Any]
):
    store = open_store()
    components = [c for _ in range(8) for c in all_components(handle(fresh_checkpoint), store)]
    barrier = threading.Barrier(8)

    def warm_up(mine: list[Any]) -> None:
        barrier.wait(timeout=60)
        for component in mine:
            component.warm_up()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(warm_up, [components[i::8] for i in range(8)]))
    assert loads == {"encoder": 1, "reranker": 1}
    assert len({id(component._engine) for component in components}) == 1


def test_asynchronous_warm_up_loads_once_and_leaves_the_loop_free(
    fresh_checkpoint: Path, handle: Callable[..., ResRankModel], loads: dict[str, int], open_store: Callable[..., Any]
):
    components, threads = all_components(handle(fresh_checkpoint), open_store()), set()
    load = ResRankModel.load

    async def warm_up() -> None:
        await asyncio.gather(*(component.warm_up_async() for component in components))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ResRankModel, "load", lambda *a: threads.add(threading.current_thread().name) or load(*a))
        asyncio.run(warm_up())
    assert loads == {"encoder": 1, "reranker": 1}
    assert threads
    assert threading.main_thread().name not in threads


def test_the_reranker_is_added_to_a_loaded_encoder(
    fresh_checkpoint: Path, handle: Callable[..., ResRankModel], loads: dict[str, int]
):
    embedder, ranker = (
        ResRankTextEmbedder(model=handle(fresh_checkpoint)),
        ResRankRanker(model=handle(fresh_checkpoint)),
    )
    embedder.warm_up()
    assert loads == {"encoder": 1, "reranker": 0}
    ranker.warm_up()
    assert loads == {"encoder": 1, "reranker": 1}
    assert embedder._engine is ranker._engine


# ------------------------------------------------------------------------------------------------------------ release


def test_memory_is_released_after_the_last_close(
    fresh_checkpoint: Path, handle: Callable[..., ResRankModel], open_store: Callable[..., Any]
):
    before = loaded_models()
    components = all_components(handle(fresh_checkpoint), open_store())
    for component in components:
        component.warm_up()
    engine = weakref.ref(components[0]._engine)
    weights = weakref.ref(next(engine().encoder.backbone.parameters()))
    for component in components[:-1]:
        component.close()
    gc.collect()
    assert engine() is not None
    assert loaded_models() == before + 1
    components[-1].close()
    gc.collect()
    assert engine() is None
    assert weights() is None
    assert loaded_models() == before


def test_pipeline_close_releases_and_run_loads_again(
    fresh_checkpoint: Path, handle: Callable[..., ResRankModel], loads: dict[str, int]
):
    before = loaded_models()
    pipeline = Pipeline()
    pipeline.add_component("embedder", ResRankTextEmbedder(model=handle(fresh_checkpoint)))
    first = pipeline.run({"text": "bread"})
    pipeline.close()
    assert loaded_models() == before
    assert pipeline.run({"text": "bread"}) == first
    assert loads["encoder"] == 2


def test_asynchronous_close_releases(fresh_checkpoint: Path, handle: Callable[..., ResRankModel]):
    before = loaded_models()
    pipeline = Pipeline()
    pipeline.add_component("embedder", ResRankTextEmbedder(model=handle(fresh_checkpoint)))

    async def use() -> None:
        await pipeline.run_async({"text": "bread"})
        await pipeline.close_async()

    asyncio.run(use())
    assert loaded_models() == before


def test_closing_what_was_never_used_is_fine(open_store: Callable[..., Any]):
    for component in all_components(ResRankModel("no-such-model"), open_store()):
        component.close()


def test_a_failed_load_is_not_remembered(tmp_path: Path, tiny_mini_checkpoint: Path):
    before, folder = loaded_models(), tmp_path / "later"
    embedder = ResRankTextEmbedder(model=ResRankModel(str(folder), device="cpu"))
    with pytest.raises(FileNotFoundError):
        embedder.warm_up()
    assert loaded_models() == before
    shutil.copytree(tiny_mini_checkpoint, folder)
    assert len(embedder.run(text="bread")["embedding"]) == 32
