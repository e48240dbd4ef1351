# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
PE-Rank against naive references: decoding without a KV cache, windows as a hand-written loop, prompts read back.

Pinned: each candidate once and the best allowed one next; costs; what is saved is what is loaded; refused inputs.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from haystack import Document
from safetensors.torch import load_file, save_file

from resrank_evals.peers.pe_rank import PERankRanker
from resrank_evals.peers.pe_rank_model import PERank, PERankConfig, PERankUsage

DIMENSION = 24  # not the language model's 32
QUERY = "capital of France"
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if not enable_thinking %}<think></think>{% endif %}{% endif %}"
)


def load(folder: Path, seed: int = 0, **changes) -> PERank:
    """Projector and layers are scaled so that slots are as long as token embeddings, and attention says something."""
    torch.manual_seed(seed)
    model = PERank.from_language_model(
        folder, PERankConfig(DIMENSION, "a" * 16), **{"device": "cpu", "dtype": "float32", **changes}
    )
    with torch.no_grad():
        model.projector[0].weight.mul_(20)
        model.projector[2].weight.mul_(0.4)
        model.projector[2].bias.zero_()
        for name, weight in model.backbone.named_parameters():
            if "self_attn" in name and weight.ndim == 2:
                weight.mul_(3)
    return model


@pytest.fixture(scope="module")
def model(qwen_language_model_folder: Path) -> PERank:
    return load(qwen_language_model_folder)


@pytest.fixture
def documents(unit_vectors: Callable[..., np.ndarray]) -> Callable[..., list[Document]]:
    def make(count: int, seed: int = 0) -> list[Document]:
        vectors = unit_vectors(count, DIMENSION, seed)
        return [Document(id=f"d{i}", content=f"text {i}", embedding=v.tolist()) for i, v in enumerate(vectors)]

    return make


def ids(ranker: PERankRanker, documents: list[Document], **options) -> list[str]:
    return [document.id for document in ranker.run(query=QUERY, documents=documents, **options)["documents"]]


@torch.no_grad()
def naive_order(model: PERank, query: str, vectors: np.ndarray) -> list[int]:
    """Each step reads the whole prompt and all that was decoded again; the allowed ones are compared one by one."""
    slots = model.project(vectors)
    order: list[int] = []
    while len(order) < len(slots):
        inputs = [model.inputs(model.prompt(query, len(slots)), slots), *(slots[i][None] for i in order)]
        output = model.language_model(inputs_embeds=torch.cat(inputs)[None], output_hidden_states=True)
        last = output.hidden_states[-1][0, -1]
        allowed = [i for i in range(len(slots)) if i not in order]
        order.append(max(allowed, key=lambda i: float(last @ slots[i])))
    return order


# --------------------------------------------------------------------------------------------------------- decoding
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_decoding_is_that_of_a_reference_without_cache(qwen_language_model_folder, unit_vectors, seed, attention):
    model = load(qwen_language_model_folder, seed, attn_implementation=attention)
    vectors = unit_vectors(9, DIMENSION, seed)
    order, _ = model.decode(QUERY, model.project(vectors))
    expected = naive_order(model, QUERY, vectors)
    assert order == expected
    assert sorted(order) == list(range(9))
    assert order != list(range(9))  # the model says something


def test_what_was_decoded_decides_what_comes_next(model, unit_vectors):
    slots = model.project(unit_vectors(8, DIMENSION))
    with torch.no_grad():
        first = model.backbone(inputs_embeds=model.inputs(model.prompt(QUERY, 8), slots)[None]).last_hidden_state[0, -1]
    at_once = model.scores(first, slots).argsort(descending=True).tolist()
    order, _ = model.decode(QUERY, slots)
    assert order[0] == at_once[0]
    assert order != at_once


def test_the_query_and_the_order_of_the_input_matter(model, unit_vectors, queries):
    slots = model.project(unit_vectors(16, DIMENSION))
    orders = {query: model.decode(query, slots)[0] for query in queries}
    assert len({tuple(order) for order in orders.values()}) > 1
    backwards = model.decode(queries[0], slots.flip(0))[0]
    assert [15 - i for i in backwards] != orders[queries[0]]


def test_of_equal_logits_the_first_passage_wins(model, unit_vectors):
    same = deepcopy(model)
    with torch.no_grad():
        same.projector[2].weight.zero_()  # every slot is the bias
    assert same.decode(QUERY, same.project(unit_vectors(6, DIMENSION)))[0] == [0, 1, 2, 3, 4, 5]


def test_logits_are_float32_inner_products(model):
    hidden, slots = torch.randn(2, 3, 32, dtype=torch.bfloat16), torch.randn(5, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.scores(hidden, slots)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.einsum("bsh,nh->bsn", hidden.double(), slots.double()).float())


def test_half_precision_ranks_every_passage_once(qwen_language_model_folder, unit_vectors):
    half = load(qwen_language_model_folder, dtype="bfloat16")
    slots = half.project(unit_vectors(7, DIMENSION))
    assert (half.backbone.dtype, slots.dtype) == (torch.bfloat16, torch.float32)
    assert sorted(half.decode(QUERY, slots)[0]) == list(range(7))


def test_rows_of_a_batch_do_not_see_each_other_or_padding(model, unit_vectors):
    slots = model.project(unit_vectors(6, DIMENSION)).detach()
    rows = [model.inputs(model.prompt(query, n), slots[:n]) for query, n in ((QUERY, 6), ("yeast", 2), ("cats", 4))]
    with torch.no_grad():
        together = model.hidden(rows)
        for row, found in zip(rows, together, strict=True):
            torch.testing.assert_close(found[: len(row)], model.hidden([row])[0], atol=1e-4, rtol=1e-4)


# ---------------------------------------------------------------------------------------------------------- prompts
def test_a_prompt_has_one_gap_a_passage_and_the_query_on_both_sides(model):
    segments = model.prompt(QUERY, 3)
    text = "<SLOT>".join(model.tokenizer.decode(segment) for segment in segments)
    assert len(segments) == 4
    assert re.search(rf"{QUERY}\n\nPassage 1: \[<SLOT>\]\n\nPassage 2: \[<SLOT>\]\n\nPassage 3: \[<SLOT>\]", text)
    assert text.count(QUERY) == 2
    assert text.index(QUERY) < text.index("<SLOT>") < text.rindex("<SLOT>") < text.rindex(QUERY)


def test_a_prompt_with_contents_puts_each_behind_its_slot(model, corpus):
    segments = model.prompt(QUERY, 2, [corpus[1], corpus[2]], max_passage_length=5)
    text = "<SLOT>".join(model.tokenizer.decode(segment) for segment in segments)
    cut = [model.tokenizer.decode(model.tokenizer(each)["input_ids"][:5]) for each in corpus[1:3]]
    assert f"Passage 1: [<SLOT>] {cut[0]}\n\nPassage 2: [<SLOT>] {cut[1]}\n\nThe query was: {QUERY}" in text
    assert corpus[1] not in text


def test_long_queries_are_cut(model):
    tokens = [sum(map(len, model.prompt("word " * n, 2))) for n in (300, 3_000)]
    assert tokens[0] == tokens[1]


def test_a_chat_template_frames_the_prompt(qwen_language_model_folder):
    model = load(qwen_language_model_folder)
    plain = model.prompt(QUERY, 2)
    model.tokenizer.chat_template = CHAT
    framed = PERank(model.language_model, model.tokenizer, model.config).prompt(QUERY, 2)
    assert model.tokenizer.decode(framed[0]) == "<|im_start|>user\n" + model.tokenizer.decode(plain[0])
    end = "<|im_end|>\n<|im_start|>assistant\n<think></think>"
    assert model.tokenizer.decode(framed[-1]) == model.tokenizer.decode(plain[-1]) + end
    assert framed[1] == plain[1]
    model.tokenizer.chat_template = "nothing"
    with pytest.raises(ValueError, match="chat template drops what the user says"):
        PERank(model.language_model, model.tokenizer, model.config)


def test_slots_stand_in_the_gaps(model, unit_vectors):
    slots = model.project(unit_vectors(2, DIMENSION))
    segments = model.prompt(QUERY, 2)
    inputs = model.inputs(segments, slots)
    first, second = len(segments[0]), len(segments[0]) + 1 + len(segments[1])
    torch.testing.assert_close(inputs[[first, second]], slots)
    embed = model.language_model.get_input_embeddings()
    torch.testing.assert_close(inputs[first + 1 : second], embed(torch.tensor(segments[1])))


def test_prompts_beyond_the_positions_are_refused(qwen_language_model_folder, documents):
    model = load(qwen_language_model_folder)
    needed = sum(map(len, model.prompt(QUERY, 5))) + 2 * 5
    model.language_model.config.max_position_embeddings = needed
    ranker = PERankRanker(model, window_size=None)
    assert len(ids(ranker, documents(5))) == 5
    model.language_model.config.max_position_embeddings = needed - 1
    with pytest.raises(ValueError, match=f"5 passages take {needed} positions, .* has {needed - 1}: lower window_size"):
        ranker.run(query=QUERY, documents=documents(5))


# ---------------------------------------------------------------------------------------------------------- windows
@pytest.mark.parametrize(("count", "size", "step"), [(11, 4, 2), (12, 5, 2), (4, 4, 1), (3, 8, 3), (7, 3, 2)])
def test_windows_are_a_loop_from_the_end_to_the_front(model, documents, count, size, step):
    given = documents(count)
    vectors = np.array([document.embedding for document in given], dtype=np.float32)
    order = list(range(count))
    end, prompts = count, 0
    while True:
        start = end - size if end > size else 0
        window = order[start:end]
        order[start:end] = [window[i] for i in naive_order(model, QUERY, vectors[window])]
        prompts += 1
        if start == 0:
            break
        end -= step
    ranker = PERankRanker(model, top_k=None, window_size=size, step=step)
    assert ids(ranker, given) == [f"d{i}" for i in order]
    assert ranker.last_usage.windows == prompts


def test_one_pass_over_all_candidates(model, documents):
    given = documents(12)
    vectors = np.array([document.embedding for document in given], dtype=np.float32)
    ranker = PERankRanker(model, top_k=None, window_size=None)
    assert ids(ranker, given) == [f"d{i}" for i in naive_order(model, QUERY, vectors)]
    length = sum(map(len, model.prompt(QUERY, 12))) + 12
    assert ranker.last_usage == PERankUsage(windows=1, prompt_tokens=length, generated_tokens=12)


def test_the_papers_windows_generate_180_tokens_for_100_candidates(model, documents):
    ranker = PERankRanker(model)
    ranker.run(query=QUERY, documents=documents(100))
    length = sum(map(len, model.prompt(QUERY, 20))) + 20
    assert ranker.last_usage == PERankUsage(windows=9, prompt_tokens=9 * length, generated_tokens=180)


# ------------------------------------------------------------------------------------------------------------ ranker
def test_documents_are_scored_copies(model, documents):
    given = documents(5)
    ranker = PERankRanker(model)
    ranked = ranker.run(query=QUERY, documents=given)["documents"]
    assert [document.score for document in ranked] == [1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
    assert all(type(document.score) is float for document in ranked)
    assert {document.id for document in ranked} == {f"d{i}" for i in range(5)}
    assert all(document.score is None for document in given)
    assert all(document.content == f"text {document.id[1:]}" for document in ranked)


def test_top_k(model, documents):
    given = documents(12)
    everything = ids(PERankRanker(model, top_k=None), given)
    assert len(everything) == 12
    assert ids(PERankRanker(model), given) == everything[:10]
    assert ids(PERankRanker(model, top_k=3), given) == everything[:3]
    assert ids(PERankRanker(model, top_k=3), given, top_k=5) == everything[:5]
    for bad in (0, -1, True):
        with pytest.raises(ValueError, match="top_k must be a positive integer or None"):
            PERankRanker(model, top_k=bad)
        with pytest.raises(ValueError, match="top_k must be a positive integer or None"):
            PERankRanker(model).run(query=QUERY, documents=given, top_k=bad)


def test_few_candidates(model, documents):
    ranker = PERankRanker(model)
    ranker.run(query=QUERY, documents=documents(2))
    assert ranker.last_usage.generated_tokens == 2
    assert ranker.run(query=QUERY, documents=[]) == {"documents": []}
    assert ranker.last_usage == PERankUsage()
    only = documents(1)
    assert ranker.run(query=QUERY, documents=only)["documents"] == [replace(only[0], score=1.0)]
    assert ranker.last_usage == PERankUsage()


def test_duplicates_are_ranked_once_and_the_higher_score_stays(model, documents):
    given = [replace(document, score=0.5 - i / 10) for i, document in enumerate(documents(4))]
    low, high = (
        Document(id="d1", content=c, embedding=given[1].embedding, score=s) for c, s in (("low", 0.1), ("high", 0.9))
    )
    ranked = PERankRanker(model).run(query=QUERY, documents=[*given, low, high])["documents"]
    assert [document.id for document in ranked] == ids(PERankRanker(model), given)
    assert [document.content for document in ranked if document.id == "d1"] == ["high"]


def test_the_same_vector_under_two_ids(model, documents):
    given = documents(4)
    twin = Document(id="twin", content="twin", embedding=given[2].embedding)
    assert sorted(ids(PERankRanker(model), [*given, twin])) == ["d0", "d1", "d2", "d3", "twin"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding": None}, r"1 of 3 documents have no embedding \(d1\): set return_embedding=True"),
        ({"embedding": [0.1] * 5}, r"vectors of another size \(document d1: expected 24, got 5\)"),
        ({"embedding": [0.0] * 24}, r"zero or hold NaN or infinite values \(d1\)"),
        ({"embedding": [float("nan")] * 24}, r"zero or hold NaN or infinite values \(d1\)"),
        ({"meta": {"resrank": {"fingerprint": "b" * 16}}}, r"another model \(document d1: expected fingerprint aaaa"),
    ],
)
def test_vectors_that_cannot_be_read_are_refused(model, documents, change, message):
    given = documents(3)
    given[1] = Document(**{"id": "d1", "content": "x", "embedding": given[1].embedding, **change})
    with pytest.raises(ValueError, match=message):
        PERankRanker(model).run(query=QUERY, documents=given)


def test_other_inputs_are_refused(model, documents):
    ranker = PERankRanker(model)
    with pytest.raises(ValueError, match="the query is blank"):
        ranker.run(query=" ", documents=documents(2))
    with pytest.raises(TypeError, match="documents must be a list of haystack Documents, got str"):
        ranker.run(query=QUERY, documents="text")


@pytest.mark.parametrize(("size", "step"), [(10, 10), (1, 1), (20, 0), (None, 0), (20.0, 10), (20, True)])
def test_windows_that_do_not_work_are_refused(model, size, step):
    with pytest.raises(ValueError, match="step must be a positive integer, and window_size an integer above it"):
        PERankRanker(model, window_size=size, step=step)


def test_hostile_queries_are_ranked(model, documents, hostile_text):
    assert sorted(
        d.id for d in PERankRanker(model).run(query=hostile_text + "?", documents=documents(3))["documents"]
    ) == [
        "d0",
        "d1",
        "d2",
    ]


# ----------------------------------------------------------------------------------------------------- load and save
def test_what_is_saved_is_what_is_loaded(model, documents, tmp_path):
    PERankRanker(model).save_pretrained(tmp_path / "saved")
    files = {str(path.relative_to(tmp_path / "saved")) for path in (tmp_path / "saved").rglob("*") if path.is_file()}
    assert {"config.json", "projector.safetensors", "language_model/model.safetensors"} <= files
    assert all(Path(file).suffix in {".json", ".safetensors", ".jinja"} for file in files)  # no pickle
    loaded = PERankRanker.from_pretrained(
        tmp_path / "saved", device="cpu", dtype="float32", top_k=7, window_size=5, step=2
    )
    assert loaded.model.config == model.config
    assert not loaded.model.training
    given = documents(9)
    same = PERankRanker(model, top_k=7, window_size=5, step=2)
    assert loaded.run(query=QUERY, documents=given) == same.run(query=QUERY, documents=given)
    slots = model.project([document.embedding for document in given])
    found = loaded.model.project([document.embedding for document in given])
    torch.testing.assert_close(found, slots, rtol=0, atol=0)
    inputs = model.inputs(model.prompt(QUERY, 9), slots)
    torch.testing.assert_close(loaded.model.hidden([inputs]), model.hidden([inputs]), rtol=0, atol=0)


def test_damaged_folders_are_refused(model, tmp_path):
    def attempt(message: str) -> None:
        with pytest.raises(ValueError, match=message):
            PERank.from_pretrained(tmp_path, device="cpu")

    attempt("holds no PE-Rank model")
    model.save_pretrained(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**described, "surprise": 1}))
    attempt("surprise")
    (tmp_path / "config.json").write_text(json.dumps({**described, "embedding_dim": 7}))
    attempt("projector.safetensors does not fit config.json")
    (tmp_path / "config.json").write_text(json.dumps(described))
    weights = tmp_path / "language_model" / "model.safetensors"
    state = load_file(weights)
    state.pop("model.norm.weight")
    save_file(state, weights, metadata={"format": "pt"})
    attempt("lacks 1 weights")
    weights.write_bytes(b"cut")
    attempt("language_model cannot be read")


def test_a_backbone_without_its_head_is_refused(qwen_reranker_folder):
    with pytest.raises(ValueError, match=r"lacks 1 weights \(lm_head.weight\)"):
        PERank.from_language_model(qwen_reranker_folder, PERankConfig(DIMENSION, "a" * 16), device="cpu")


def test_a_cut_query_is_counted_and_told_once(qwen_language_model_folder, documents, caplog):
    torch.manual_seed(0)
    config = PERankConfig(DIMENSION, "a" * 16, max_query_length=3)
    short = PERank.from_language_model(qwen_language_model_folder, config, device="cpu", dtype="float32")
    length = len(short.tokenizer(QUERY, add_special_tokens=False)["input_ids"])
    assert length > 3
    ranker = PERankRanker(short, top_k=None, window_size=4, step=2)
    with caplog.at_level(logging.WARNING):
        ranker.run(query=QUERY, documents=documents(6))
        ranker.run(query=QUERY, documents=documents(6))
    assert (ranker.last_usage.windows, ranker.last_usage.cut_query_tokens) == (2, length - 3)
    assert caplog.text.count("longer than max_query_length 3") == 1
    ranker.run(query="a", documents=documents(2))
    assert ranker.last_usage.cut_query_tokens == 0
