# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""E2Rank against a reference written from its definition: one text at a time, no batches, no padding."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from haystack import Document, Pipeline
from haystack.core.serialization import component_from_dict, component_to_dict
from transformers import AutoModel, AutoTokenizer

from resrank_evals.peers import e2rank
from resrank_evals.peers.e2rank import E2RankRanker, E2RankUsage

QUERY = "how do I parse a date?"
INSTRUCTION = "Given a web search query and some relevant documents, rerank the documents that answer the query"
# The form of Qwen3's own template, thinking switched off.
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def write_model(folder: Path, source: Path, template: str = TEMPLATE) -> Path:
    """`source` with a chat template."""
    shutil.copytree(source, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(qwen_encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "e2rank", qwen_encoder_folder)


@pytest.fixture(scope="module")
def make(folder: Path) -> Callable[..., E2RankRanker]:
    """Makes rankers that share one loaded model."""
    first = E2RankRanker(model=str(folder), device="cpu", dtype="float32")
    first.warm_up()

    def made(**parameters: Any) -> E2RankRanker:
        defaults = {"model": str(folder), "device": "cpu", "dtype": "float32", "top_k": None}
        ranker = E2RankRanker(**{**defaults, **parameters})
        ranker._encoder = first._encoder
        return ranker

    return made


@pytest.fixture(scope="module")
def embed(folder: Path) -> Callable[[str], torch.Tensor]:
    """The normalised last hidden state of exactly this text: no token is added."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32)

    @torch.inference_mode()
    def embedded(text: str) -> torch.Tensor:
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        embedded.tokens = ids.shape[1]
        return torch.nn.functional.normalize(model(input_ids=ids).last_hidden_state[0, -1], dim=0)

    return embedded


@pytest.fixture
def documents(corpus: tuple[str, ...]) -> list[Document]:
    return [Document(id=f"d{n:02}", content=text, score=1.0 - n / 100) for n, text in enumerate(corpus)]


def prompt(texts: list[str], query: str = QUERY, instruction: str = INSTRUCTION) -> str:
    """By hand, as the model reads it."""
    message = f"{instruction}:\nDocuments:\n"
    for rank, text in enumerate(texts, 1):
        message += f"[{rank}] {text}\n"
    message += f"Search Query: {query}"
    return f"<|im_start|>user\n{message}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def reference(embed: Any, texts: list[str], k: int = 20, **parts: str) -> list[float]:
    enriched = embed(prompt(texts[:k], **parts))
    return [float(enriched @ embed(text + "<|endoftext|>")) for text in texts]


def scores(ranker: E2RankRanker, documents: list[Document], query: str = QUERY) -> dict[str, float]:
    return {document.id: document.score for document in ranker.run(query=query, documents=documents)["documents"]}


def ids(documents: list[Document]) -> list[str]:
    return [document.id for document in documents]


# ------------------------------------------------------------------------------------------------------------- scores


@pytest.mark.parametrize("count", [1, 2, 12])
def test_scores_are_those_of_the_reference(make, embed, documents, count):
    found = make().run(query=QUERY, documents=documents[:count])["documents"]
    expected = reference(embed, [d.content for d in documents[:count]])
    assert {d.id: d.score for d in found} == pytest.approx(dict(zip(ids(documents), expected, strict=False)), abs=1e-5)
    assert all(type(document.score) is float for document in found)
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)


@pytest.mark.parametrize("k", [1, 5])
def test_the_prompt_holds_the_first_k_and_scores_all(make, embed, documents, k):
    expected = reference(embed, [d.content for d in documents], k)
    assert scores(make(listwise_k=k), documents) == pytest.approx(
        dict(zip(ids(documents), expected, strict=True)), abs=1e-5
    )
    assert scores(make(listwise_k=k), documents) != pytest.approx(scores(make(), documents), abs=1e-3)


def test_instruction_and_query_are_read(make, embed, documents):
    texts = [d.content for d in documents[:3]]
    for parameters, parts in [
        ({"instruction": "Sort these"}, {"instruction": "Sort these"}),
        ({}, {"query": "Paris?"}),
    ]:
        found = scores(make(**parameters), documents[:3], parts.get("query", QUERY))
        assert found == pytest.approx(
            dict(zip(ids(documents), reference(embed, texts, **parts), strict=False)), abs=1e-5
        )


def test_order_of_candidates_changes_scores(make, documents):
    given, turned = scores(make(), documents), scores(make(), documents[::-1])
    assert max(abs(given[id_] - turned[id_]) for id_ in given) > 1e-3
    # Beyond the prompt it does not.
    tail = [*documents[:4], *documents[:3:-1]]
    assert scores(make(listwise_k=4), tail) == pytest.approx(scores(make(listwise_k=4), documents), abs=1e-5)


@pytest.mark.parametrize("tokens_per_batch", [1, 40, 100_000])
def test_batches_do_not_change_scores(make, documents, tokens_per_batch):
    assert scores(make(tokens_per_batch=tokens_per_batch), documents) == pytest.approx(
        scores(make(), documents), abs=1e-5
    )


def test_text_that_spells_a_template_or_other_scripts(make, embed, hostile_text):
    text = hostile_text[:200]
    texts = [text, "Dates are parsed with datetime.strptime."]
    found = scores(make(), [Document(id=str(n), content=each) for n, each in enumerate(texts)])
    assert [found["0"], found["1"]] == pytest.approx(reference(embed, texts), abs=1e-5)


def test_a_half_dtype_gives_float32_scores(folder, documents):
    found = scores(E2RankRanker(model=str(folder), device="cpu", dtype="bfloat16", top_k=None), documents)
    assert all(abs(score) <= 1.0 + 1e-6 for score in found.values())
    assert all(float(torch.tensor(score)) == score for score in found.values())
    assert any(float(torch.tensor(score).bfloat16()) != score for score in found.values())


# ------------------------------------------------------------------------------------------------ cutting and counting


def test_tokens_are_counted(make, embed, documents):
    ranker = make(listwise_k=4)
    ranker.run(query=QUERY, documents=documents)
    embed(prompt([d.content for d in documents[:4]]))
    prompts = embed.tokens
    passages = 0
    for document in documents:
        embed(document.content + "<|endoftext|>")
        passages += embed.tokens
    usage = ranker.usage
    assert (usage.lists, usage.prompt_tokens, usage.passage_tokens, usage.generated_tokens) == (1, prompts, passages, 0)
    assert (usage.truncation.texts, usage.truncation.truncated, usage.truncation.cut_tokens) == (12, 0, 0)
    ranker.run(query=QUERY, documents=documents)
    assert (ranker.usage.lists, ranker.usage.prompt_tokens) == (2, 2 * prompts)
    ranker.usage = E2RankUsage()
    ranker.run(query=QUERY, documents=documents)
    assert ranker.usage.prompt_tokens == prompts


def test_long_passages_are_cut_in_both_places_counted_and_told(make, embed, folder, documents, caplog):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    read = [tokenizer(d.content, add_special_tokens=False)["input_ids"] for d in documents]
    texts = [tokenizer.decode(tokens[:10]) for tokens in read]
    ranker = make(max_length=10)
    with caplog.at_level(logging.WARNING):
        found = scores(ranker, documents)
        scores(ranker, documents)
    assert found == pytest.approx(dict(zip(ids(documents), reference(embed, texts), strict=True)), abs=1e-5)
    cut = [max(0, len(tokens) - 10) for tokens in read]
    truncation = ranker.usage.truncation
    assert truncation.cut_per_text == tuple(cut)
    assert (truncation.texts, truncation.truncated, truncation.cut_tokens) == (
        24,
        2 * sum(map(bool, cut)),
        2 * sum(cut),
    )
    told = [record.getMessage() for record in caplog.records if "max_length 10" in record.getMessage()]
    assert told == ["12 of 12 passages are longer than max_length 10 and are cut; `usage` counts all"]
    exact = make(max_length=max(map(len, read)))
    assert scores(exact, documents) == scores(make(), documents)
    assert exact.usage.truncation.truncated == 0


def test_passages_may_be_shorter_in_the_prompt_than_embedded(make, embed, folder, documents):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    read = [tokenizer(d.content, add_special_tokens=False)["input_ids"] for d in documents]
    ranker = make(listwise_k=4, max_prompt_length=5)
    found = scores(ranker, documents)
    lost = tuple(max(0, len(tokens) - 5) for tokens in read[:4])
    assert ranker.usage.prompt_truncation.cut_per_text == lost
    assert min(lost) > 0
    assert ranker.usage.truncation.truncated == 0
    short = [tokenizer.decode(tokens[:5]) for tokens in read[:4]]
    ranker.max_prompt_length = None
    query = ranker._enriched_query(ranker._loaded(), QUERY, short)  # nothing is left to cut
    vectors = ranker.encode_passages([d.content for d in documents])
    assert found == pytest.approx(dict(zip(ids(documents), (vectors @ query).tolist(), strict=True)), abs=1e-5)


def test_no_character_is_cut_in_two(make, embed):
    ranker = make(max_length=6)  # an emoji is four tokens of one byte
    found = scores(ranker, [Document(id="a", content="🚀🚀🚀")])
    assert found["a"] == pytest.approx(reference(embed, ["🚀"])[0], abs=1e-5)
    assert ranker.usage.truncation.cut_tokens == 6


def test_a_long_query_is_cut_when_asked(make, embed, documents, queries):
    ranker = make(max_query_length=4)
    long, tokens = queries[0], ranker._loaded().tokenizer(queries[0], add_special_tokens=False)
    short = ranker._loaded().tokenizer.decode(tokens["input_ids"][:4])
    found = scores(ranker, documents, query=long)
    assert ranker.usage.cut_query_tokens == len(tokens["input_ids"]) - 4 > 0
    expected = reference(embed, [d.content for d in documents], query=short)
    assert found == pytest.approx(dict(zip(ids(documents), expected, strict=True)), abs=1e-5)
    assert ranker.usage.truncation.truncated == 0


def test_a_prompt_that_does_not_fit_is_refused(make):
    long = [Document(id=str(n), content="word " * 300) for n in range(20)]
    ranker = make()
    with pytest.raises(
        ValueError, match=r"prompt of 20 candidates has \d+ tokens, more than the 4096 .*: lower listwise_k"
    ):
        ranker.run(query=QUERY, documents=long)
    assert make(max_length=20).run(query=QUERY, documents=long)["documents"]


# ---------------------------------------------------------------------------------------------------------- documents


def test_documents_are_copies_in_order(make, documents):
    documents = [replace(document, meta={"n": n}, embedding=[1.0, 2.0]) for n, document in enumerate(documents)]
    before = [document.to_dict() for document in documents]
    ranked = make().run(query=QUERY, documents=documents)["documents"]
    assert [document.to_dict() for document in documents] == before
    by_id = {document.id: document for document in documents}
    for document in ranked:
        assert document is not by_id[document.id]
        assert replace(document, score=by_id[document.id].score) == by_id[document.id]


def test_top_k(make, documents):
    ranked = make().run(query=QUERY, documents=documents)["documents"]
    assert make(top_k=3).run(query=QUERY, documents=documents)["documents"] == ranked[:3]
    assert make(top_k=3).run(query=QUERY, documents=documents, top_k=5)["documents"] == ranked[:5]
    assert len(make(top_k=99).run(query=QUERY, documents=documents)["documents"]) == 12
    assert len(make(**{"top_k": E2RankRanker().top_k}).run(query=QUERY, documents=documents)["documents"]) == 10


def test_no_documents_need_no_model():
    assert E2RankRanker(model="nowhere").run(query=QUERY, documents=[]) == {"documents": []}


def test_duplicates_are_ranked_once_where_they_first_are(make, documents):
    worse = replace(documents[2], content="another text", score=-5.0)
    expected = make().run(query=QUERY, documents=documents)["documents"]
    assert make().run(query=QUERY, documents=[*documents, worse, documents[0]])["documents"] == expected
    unscored = [replace(documents[0], score=None), *documents]
    assert ids(make().run(query=QUERY, documents=unscored)["documents"]) == ids(expected)


@pytest.mark.parametrize("tokens_per_batch", [1, None])
def test_ties_go_by_the_score_they_came_with_then_by_id(make, documents, tokens_per_batch):
    text = documents[0].content
    given = [("c", None), ("b", 0.5), ("a", 0.5), ("d", 0.7), ("e", float("nan"))]
    tied = [Document(id=id_, content=text, score=score) for id_, score in given]
    ranked = make(tokens_per_batch=tokens_per_batch).run(query=QUERY, documents=[*tied, *documents[1:]])["documents"]
    assert [id_ for id_ in ids(ranked) if len(id_) == 1] == ["d", "a", "b", "c", "e"]
    assert len({document.score for document in ranked if len(document.id) == 1}) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "document x has no content"), (" \n", "document x has blank content"), ("\ud83d", "lone surrogate")],
)
def test_documents_without_text_are_refused(make, documents, content, message):
    with pytest.raises(ValueError, match=message):
        make().run(query=QUERY, documents=[*documents, Document(id="x", content=content)])


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({"query": " "}, ValueError, "the query is blank"),
        ({"query": None}, TypeError, "the query must be a string, got NoneType"),
        ({"documents": ["text"]}, TypeError, "documents must be a list of haystack Documents, got a list with str"),
        ({"top_k": 0}, ValueError, "top_k must be a positive integer or None, got 0"),
        ({"top_k": True}, ValueError, "top_k must be a positive integer or None, got True"),
    ],
)
def test_bad_inputs_are_refused(make, documents, inputs, error, message):
    with pytest.raises(error, match=message):
        make().run(**{"query": QUERY, "documents": documents, **inputs})


def test_scores_that_are_not_finite_are_refused(make, documents, monkeypatch):
    ranker = make()
    monkeypatch.setattr(ranker, "_enriched_query", lambda *_: torch.full((32,), float("nan")).numpy())
    with pytest.raises(ValueError, match="not finite in float32: use dtype float32 or bfloat16"):
        ranker.run(query=QUERY, documents=documents)


# ----------------------------------------------------------------------------------------------------- stored vectors


def test_stored_vectors_give_the_same_scores_for_fewer_tokens(make, documents):
    ranker = make(use_stored_embeddings=True, listwise_k=4)
    vectors = ranker.encode_passages([document.content for document in documents])
    assert vectors.shape == (12, 32)
    ranker.usage = E2RankUsage()
    # Their length does not matter.
    stored = [replace(d, embedding=(3.0 * v).tolist()) for d, v in zip(documents, vectors, strict=True)]
    assert scores(ranker, stored) == pytest.approx(scores(make(listwise_k=4), documents), abs=1e-5)
    checked = ranker.usage.passage_tokens
    assert 0 < checked < 40, "one passage is encoded to check the model"
    assert ranker.usage.truncation.texts == 4, "the others are not read"
    ranker.run(query=QUERY, documents=stored)
    assert ranker.usage.passage_tokens == checked


def test_stored_vectors_that_cannot_be_used(make, documents, unit_vectors):
    ranker = make(use_stored_embeddings=True)
    other = [replace(d, embedding=v.tolist()) for d, v in zip(documents, unit_vectors(12), strict=True)]
    with pytest.raises(ValueError, match=r"document d\d\d has a vector of another model: its cosine"):
        ranker.run(query=QUERY, documents=other)
    with pytest.raises(ValueError, match=r"2 of 12 documents have no vector of 32 numbers \(d00\): store what"):
        ranker.run(
            query=QUERY, documents=[replace(other[0], embedding=None), replace(other[1], embedding=[1.0]), *other[2:]]
        )
    for value in (0.0, float("nan")):
        with pytest.raises(ValueError, match="stored vectors that are zero or not finite"):
            ranker.run(query=QUERY, documents=[replace(other[0], embedding=[value] * 32), *other[1:]])


def test_stored_vectors_are_off_by_default(make, documents):
    odd = [replace(document, embedding=[1.0]) for document in documents]
    assert scores(make(), odd) == scores(make(), documents)


def test_encode_passages_of_nothing(make):
    assert make().encode_passages([]).shape == (0, 32)


# ------------------------------------------------------------------------------------------------------------ loading


@pytest.mark.parametrize("name", ["listwise_k", "max_length", "max_query_length", "tokens_per_batch"])
@pytest.mark.parametrize("value", [0, -1, True, 1.5])
def test_bad_numbers_are_refused_at_construction(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a positive integer, got {value!r}"):
        E2RankRanker(**{name: value})


def test_bad_top_k_is_refused_at_construction():
    with pytest.raises(ValueError, match="top_k must be a positive integer or None, got 0"):
        E2RankRanker(top_k=0)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {
            "model": "org/name",
            "revision": "v1",
            "listwise_k": 7,
            "max_length": 99,
            "max_query_length": 12,
            "instruction": "Sort",
            "top_k": None,
            "use_stored_embeddings": True,
            "device": "cuda:1",
            "dtype": "float16",
            "attn_implementation": "sdpa",
            "tokens_per_batch": 512,
        },
    ],
    ids=["defaults", "all"],
)
def test_round_trip_keeps_every_parameter(parameters):
    first = component_to_dict(E2RankRanker(**parameters), "ranker")
    assert {**parameters, "device": None}.items() <= {**first["init_parameters"], "device": None}.items()
    assert component_to_dict(component_from_dict(E2RankRanker, first, "ranker"), "ranker") == first
    json.dumps(first)


def test_in_a_pipeline_once_its_module_is_allowed(folder, documents):
    pipeline = Pipeline()
    pipeline.add_component("ranker", E2RankRanker(model=str(folder), device="cpu", dtype="float32"))
    loaded = Pipeline.loads(pipeline.dumps(), allowed_modules=["resrank_evals.*"])
    inputs = {"query": QUERY, "documents": documents}
    assert loaded.run(inputs) == pipeline.run(inputs)


def test_how_it_runs_is_passed_on(folder, documents, monkeypatch):
    asked = {}

    def resolve(model, *, revision):
        asked.update(model=model, revision=revision)
        return folder

    monkeypatch.setattr("resrank.sources.resolve", resolve)
    ranker = E2RankRanker(model="org/name", revision="v1", device="cpu", dtype="bfloat16", attn_implementation="eager")
    ranker.warm_up()
    assert asked == {"model": "org/name", "revision": "v1"}
    backbone = ranker._encoder.backbone
    assert (backbone.dtype, backbone.config._attn_implementation) == (torch.bfloat16, "eager")
    ranker.close()
    assert ranker._encoder is None
    ranker.run(query=QUERY, documents=documents[:2])
    assert ranker._encoder is not backbone
    with pytest.raises(ValueError, match="dtype must be auto or one of"):
        E2RankRanker(model=str(folder), dtype="float64").warm_up()


def test_threads_load_one_model(folder, monkeypatch):
    loads = []
    load = E2RankRanker._load
    monkeypatch.setattr(e2rank.E2RankRanker, "_load", lambda self: loads.append(1) or load(self))
    ranker = E2RankRanker(model=str(folder), device="cpu")
    threads = [threading.Thread(target=ranker.warm_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1


def test_a_plain_folder_is_pooled_at_its_last_token(make, folder, tmp_path, documents):
    shutil.copytree(folder, tmp_path / "plain")
    for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        (tmp_path / "plain" / name).unlink()
    plain = E2RankRanker(model=str(tmp_path / "plain"), device="cpu", dtype="float32", top_k=None)
    assert scores(plain, documents[:3]) == pytest.approx(scores(make(), documents[:3]), abs=1e-6)


def test_a_tokenizer_that_adds_no_end_token_gives_the_same(make, folder, tmp_path, documents):
    """The published one adds none, Qwen3-Embedding's does."""
    shutil.copytree(folder, tmp_path / "bare")
    path = tmp_path / "bare" / "tokenizer.json"
    content = json.loads(path.read_text())
    content["post_processor"] = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": True,
    }
    path.write_text(json.dumps(content))
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "bare")("date")["input_ids"]
        == AutoTokenizer.from_pretrained(folder)("date", add_special_tokens=False)["input_ids"]
    )
    bare = E2RankRanker(model=str(tmp_path / "bare"), device="cpu", dtype="float32", top_k=None)
    assert scores(bare, documents[:3]) == pytest.approx(scores(make(), documents[:3]), abs=1e-6)


def test_another_kind_of_model_is_refused(mini_encoder_folder, qwen_encoder_folder):
    for source, lacking in [
        (mini_encoder_folder, r"last-token pooling \(it has mean\) and the token <\|endoftext\|> and a chat template"),
        (qwen_encoder_folder, "it lacks a chat template"),
    ]:
        with pytest.raises(ValueError, match=lacking):
            E2RankRanker(model=str(source), device="cpu").warm_up()
