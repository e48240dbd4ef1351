# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The encoder against sentence-transformers, and its independence of how texts are batched."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from resrank import EncoderConfig, ResRank, TruncationReport
from resrank.encoder import Encoder, load_encoder, pad, pool, tokenize_counting
from resrank.runtime import Runtime

CPU = Runtime.resolve("cpu", "float32")
POOLINGS = ("mean", "cls", "last")
LONG = "Photosynthesis turns carbon dioxide and water into sugar and oxygen. " * 20
HARD_TEXTS = ("", "a", LONG, "É ÿ 日本 🚀", "dates\n\nand\tbread", "word " * 30, "Bread needs yeast.")


def _load(folder: Path, **config: Any) -> Encoder:
    return load_encoder(folder, EncoderConfig(**config), CPU)[0]


@lru_cache
def _shared(folder: Path, **config: Any) -> Encoder:
    """Like `_load`, but one for all tests: they leave it, and its folder, as they are."""
    return _load(folder, **config)


def _fingerprint(folder: Path, runtime: Runtime = CPU, **config: Any) -> str:
    return load_encoder(folder, EncoderConfig(**config), runtime)[1]


def _with_pooling(source: Path, target: Path, pooling: str) -> Path:
    shutil.copytree(source, target)
    path = target / "1_Pooling" / "config.json"
    flags = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"}
    settings = {"word_embedding_dimension": 32, **{flag: mode == pooling for mode, flag in flags.items()}}
    path.write_text(json.dumps(settings), encoding="utf-8")
    return target


def _texts(corpus: Sequence[str]) -> list[str]:
    return [*corpus, *HARD_TEXTS]


# -------------------------------------------------------------------------------- agreement with sentence-transformers


@pytest.mark.parametrize("pooling", POOLINGS)
def test_equals_sentence_transformers(encoder_folder: Path, pooling: str, corpus, tmp_path: Path) -> None:
    folder = _with_pooling(encoder_folder, tmp_path / "model", pooling)
    reference = SentenceTransformer(str(folder), device="cpu")
    encoder = _load(folder)
    assert encoder.pooling == pooling
    texts = _texts(corpus)
    for is_query, prompt in ((True, "query"), (False, "document")):
        prompt_name = prompt if prompt in reference.prompts else None
        expected = reference.encode(texts, prompt_name=prompt_name, batch_size=4)
        np.testing.assert_allclose(encoder.encode(texts, is_query=is_query), expected, atol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_our_folders_load_in_sentence_transformers(encoder_folder: Path, pooling: str, corpus, tmp_path: Path) -> None:
    encoder = _shared(encoder_folder, pooling=pooling, passage_prompt="passage: ", max_length=20)
    encoder.save(tmp_path)
    reference = SentenceTransformer(str(tmp_path), device="cpu")
    texts = _texts(corpus)
    expected = reference.encode_document(texts)
    np.testing.assert_allclose(encoder.encode(texts, is_query=False), expected, atol=1e-5)


def test_folders_of_sentence_transformers_6_shared(encoder_folder: Path, corpus, tmp_path: Path) -> None:
    reference = SentenceTransformer(str(encoder_folder), device="cpu")
    reference.save(str(tmp_path))
    assert "pooling_mode_mean_tokens" not in (tmp_path / "1_Pooling" / "config.json").read_text()  # the new layout
    encoder = _load(tmp_path)
    texts = _texts(corpus)
    np.testing.assert_allclose(encoder.encode(texts, is_query=False), reference.encode_document(texts), atol=1e-5)
    np.testing.assert_allclose(encoder.encode(texts, is_query=True), reference.encode_query(texts), atol=1e-5)


def test_a_saved_encoder_loads_again_with_equal_vectors(encoder_folder: Path, corpus, tmp_path: Path) -> None:
    encoder = _shared(encoder_folder)
    encoder.save(tmp_path)
    again = _load(tmp_path)
    np.testing.assert_array_equal(
        again.encode(_texts(corpus), is_query=True), encoder.encode(_texts(corpus), is_query=True)
    )


def test_a_plain_hugging_face_folder_needs_a_pooling(qwen_reranker_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"does not say how to pool: set encoder\.pooling to mean, cls or last"):
        _load(qwen_reranker_folder)
    encoder = _load(qwen_reranker_folder, pooling="last")
    assert (encoder.pooling, encoder.max_length, encoder.query_prompt) == ("last", 4_096, "")


def test_the_config_overrides_the_folder(qwen_encoder_folder: Path) -> None:
    encoder = _shared(qwen_encoder_folder, pooling="mean", max_length=9, query_prompt="", passage_prompt="P: ")
    assert (encoder.pooling, encoder.max_length, encoder.max_query_length) == ("mean", 9, 9)
    assert (encoder.query_prompt, encoder.passage_prompt) == ("", "P: ")


def test_the_resolved_config_does_not_need_the_folder(qwen_encoder_folder: Path) -> None:
    config = EncoderConfig(max_query_length=30)
    resolved = _shared(qwen_encoder_folder, max_query_length=30).resolved_config(config)
    assert (resolved.pooling, resolved.max_length, resolved.max_query_length) == ("last", 48, 30)
    assert resolved.query_prompt.startswith("Instruct: ")
    assert resolved.passage_prompt == ""


# -------------------------------------------------------------------------------------------------------------- prompts


def test_prompts_are_put_before_texts(qwen_encoder_folder: Path) -> None:
    encoder = _shared(qwen_encoder_folder, query_prompt="Query: ", passage_prompt="Text: ")
    plain = _shared(qwen_encoder_folder, query_prompt="", passage_prompt="")
    for is_query, prompt in ((True, "Query: "), (False, "Text: ")):
        expected = plain.encode([prompt + "bread"], is_query=is_query)
        np.testing.assert_array_equal(encoder.encode(["bread"], is_query=is_query), expected)
        assert (
            np.abs(encoder.encode(["bread"], is_query=is_query) - plain.encode(["bread"], is_query=is_query)).max()
            > 0.01
        )


# --------------------------------------------------------------------------------------------------------- independence


@pytest.mark.parametrize("tokens_per_batch", [1, 64, 100_000])
def test_vectors_do_not_depend_on_the_batch(encoder_folder: Path, corpus, tokens_per_batch: int) -> None:
    encoder = _shared(encoder_folder)
    texts = _texts(corpus)
    alone = np.concatenate([encoder.encode([text], is_query=False) for text in texts])
    together = encoder.encode(texts, is_query=False, tokens_per_batch=tokens_per_batch)
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_vectors_do_not_depend_on_the_order_of_texts(encoder_folder: Path, corpus) -> None:
    encoder = _shared(encoder_folder)
    forward, backward = (encoder.encode(list(texts), is_query=False) for texts in (corpus, corpus[::-1]))
    np.testing.assert_allclose(forward, backward[::-1], atol=1e-5)


def test_the_tokenizers_padding_side_does_not_matter(encoder_folder: Path, corpus, monkeypatch) -> None:
    encoder = _shared(encoder_folder)
    vectors = []
    for side in ("left", "right"):
        monkeypatch.setattr(encoder.tokenizer, "padding_side", side)
        vectors.append(encoder.encode(_texts(corpus), is_query=False))
    np.testing.assert_array_equal(*vectors)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_forward_takes_left_padding_with_relative_positions(qwen_encoder_folder: Path, pooling: str) -> None:
    encoder = _shared(qwen_encoder_folder, pooling=pooling)
    ids = [[40, 41, 42, 43, 0], [50, 51, 0]]
    right, right_mask = pad(ids, 0, torch.device("cpu"))
    left = torch.tensor([ids[0], [0, 0, *ids[1]]])
    left_mask = torch.tensor([[1] * 5, [0, 0, 1, 1, 1]])
    with torch.no_grad():
        torch.testing.assert_close(encoder(left, left_mask), encoder(right, right_mask), atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_pool_by_hand(pooling: str, side: str) -> None:
    tokens = torch.tensor([[1.0, 10.0], [2.0, 20.0], [6.0, 60.0]])
    padding = torch.full((2, 2), 99.0)
    parts = [(padding, 0), (tokens, 1)] if side == "left" else [(tokens, 1), (padding, 0)]
    hidden = torch.cat([part for part, _ in parts])[None]
    mask = torch.cat([torch.full((len(part),), keep) for part, keep in parts])[None]
    expected = {"mean": [3.0, 30.0], "cls": [1.0, 10.0], "last": [6.0, 60.0]}[pooling]
    assert pool(hidden, mask, pooling)[0].tolist() == pytest.approx(expected)


def test_pad_by_hand() -> None:
    ids, mask = pad([[5, 6], [7], []], 9, torch.device("cpu"))
    assert ids.tolist() == [[5, 6], [7, 9], [9, 9]]
    assert mask.tolist() == [[1, 1], [1, 0], [0, 0]]


def test_an_out_of_memory_batch_is_halved(mini_encoder_folder: Path, corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = _shared(mini_encoder_folder)
    expected = encoder.encode(list(corpus), is_query=False)
    forward, sizes = encoder.backbone.forward, []

    def small_device(*args: Any, **kwargs: Any) -> Any:
        sizes.append(len(kwargs["input_ids"]))
        if sizes[-1] > 3:
            raise torch.OutOfMemoryError
        return forward(*args, **kwargs)

    monkeypatch.setattr(encoder.backbone, "forward", small_device)
    np.testing.assert_allclose(encoder.encode(list(corpus), is_query=False), expected, atol=1e-5)
    assert max(sizes) == 12
    assert sum(size for size in sizes if size <= 3) == 12


def test_a_single_text_that_does_not_fit_raises(mini_encoder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = _shared(mini_encoder_folder)

    def no_memory(*args: Any, **kwargs: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(encoder.backbone, "forward", no_memory)
    with pytest.raises(torch.OutOfMemoryError):
        encoder.encode(["a", "b"], is_query=False)


# --------------------------------------------------------------------------------------------------------------- output


def test_vectors_are_float32_of_unit_length(encoder_folder: Path, corpus) -> None:
    vectors = _shared(encoder_folder).encode(_texts(corpus), is_query=False)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_no_texts_give_an_empty_array(encoder_folder: Path) -> None:
    assert _shared(encoder_folder).encode([], is_query=False).shape == (0, 32)


def test_bfloat16_is_near_float32_and_returns_float32(encoder_folder: Path, corpus) -> None:
    half, _ = load_encoder(encoder_folder, EncoderConfig(), Runtime.resolve("cpu", "bfloat16"))
    assert half.backbone.dtype is torch.bfloat16
    vectors = half.encode(list(corpus), is_query=False)
    assert vectors.dtype == np.float32
    cosines = (vectors * _shared(encoder_folder).encode(list(corpus), is_query=False)).sum(axis=1)
    assert cosines.min() > 0.99


def test_hostile_texts_are_encoded(encoder_folder: Path, hostile_text: str) -> None:
    vectors = _shared(encoder_folder).encode([hostile_text, "bread"], is_query=True)
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("kind", ["passages", "queries"])
@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("bread", "must be a list of strings, got str: wrap a single text in a list"),
        (b"bread", "must be a list of strings, got bytes: wrap a single text in a list"),
        (None, "must be a list of strings, got NoneType: wrap a single text in a list"),
        ({"bread"}, "must be a list of strings, got set: wrap a single text in a list"),
        (["bread", None], "must be a list of strings, got NoneType at position 1"),
        (["bread", 3], "must be a list of strings, got int at position 1"),
    ],
)
def test_only_lists_of_strings(tiny_mini: Callable[..., ResRank], kind: str, texts: Any, message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(f"{kind} {message}")):
        getattr(tiny_mini(), f"encode_{kind}")(texts)


# ----------------------------------------------------------------------------------------------------------- truncation


@pytest.mark.parametrize("is_query", [True, False])
def test_truncation_is_counted_exactly(encoder_folder: Path, is_query: bool, corpus) -> None:
    encoder = _shared(encoder_folder, max_length=20, max_query_length=25)
    limit = 25 if is_query else 20
    texts = [LONG, "bread", " ".join(corpus), "", corpus[0]]
    prompt = encoder.query_prompt if is_query else encoder.passage_prompt
    full = [len(encoder.tokenizer(prompt + text)["input_ids"]) for text in texts]
    expected = [max(0, length - limit) for length in full]
    assert sum(1 for cut in expected if cut) >= 2
    report = TruncationReport()
    encoder.encode(texts, is_query=is_query, report=report)
    assert report.cut_per_text == tuple(expected)
    assert (report.texts, report.truncated) == (5, sum(1 for cut in expected if cut))
    assert report.cut_tokens == sum(expected)


def test_reports_add_up(mini_encoder_folder: Path) -> None:
    encoder, report = _shared(mini_encoder_folder, max_length=10), TruncationReport()
    encoder.encode([LONG], is_query=False, report=report)
    once = report.cut_tokens
    encoder.encode([LONG, "a"], is_query=False, report=report)
    assert (report.texts, report.truncated, report.cut_tokens) == (3, 2, 2 * once)
    assert report.cut_per_text == (once, 0)


def test_special_tokens_survive_the_cut(encoder_folder: Path) -> None:
    encoder = _shared(encoder_folder, max_length=10)
    (ids,), _ = encoder.tokenize([LONG], is_query=False)
    assert len(ids) == 10
    (short,), _ = encoder.tokenize(["a"], is_query=False)
    assert ids[-1] == short[-1]  # [SEP] or the end token that is pooled


def test_tokenize_counting_without_special_tokens(mini_encoder_folder: Path) -> None:
    tokenizer = _shared(mini_encoder_folder).tokenizer
    full = tokenizer(LONG, add_special_tokens=False)["input_ids"]
    (ids,), (cut,) = tokenize_counting(tokenizer, [LONG], 7, add_special_tokens=False)
    assert ids == full[:7]
    assert cut == len(full) - 7


def test_a_cut_without_a_report_is_logged(tiny_mini: Callable[..., ResRank], caplog: pytest.LogCaptureFixture) -> None:
    tiny_mini().encode_passages(["bread", LONG])
    assert re.search(r"1 of 2 passages were longer than 48 tokens and were cut \(\d+ tokens in all\)", caplog.text)


def test_a_cut_with_a_report_is_not_logged(tiny_mini: Callable[..., ResRank], caplog: pytest.LogCaptureFixture) -> None:
    tiny_mini().encode_passages([LONG], report=TruncationReport())
    assert caplog.text == ""


# ---------------------------------------------------------------------------------------------------------- fingerprint


def _change_a_weight(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = next(name for name in sorted(weights) if "layer" in name and name.endswith("weight"))
    changed = weights[name].clone()
    changed.view(-1)[-1] += 0.1
    save_file({**weights, name: changed}, path, metadata={"format": "pt"})


def test_the_fingerprint_is_sixteen_hexadecimal_digits(encoder_folder: Path) -> None:
    assert re.fullmatch("[0-9a-f]{16}", _fingerprint(encoder_folder))


def test_the_fingerprint_follows_the_weights(encoder_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(encoder_folder, tmp_path / "changed")
    assert _fingerprint(tmp_path / "changed") == _fingerprint(encoder_folder)
    _change_a_weight(tmp_path / "changed")
    assert _fingerprint(tmp_path / "changed") != _fingerprint(encoder_folder)


@pytest.mark.parametrize(
    "change",
    [
        {"pooling": "cls"},
        {"query_prompt": "q: "},
        {"passage_prompt": "p: "},
        {"max_length": 47},
        {"max_query_length": 47},
    ],
    ids=lambda c: next(iter(c)),
)
def test_the_fingerprint_follows_what_changes_vectors(encoder_folder: Path, change: dict) -> None:
    assert _fingerprint(encoder_folder, **change) != _fingerprint(encoder_folder)


def test_the_fingerprint_does_not_follow_the_dtype(encoder_folder: Path) -> None:
    half = Runtime.resolve("cpu", "bfloat16")
    assert _fingerprint(encoder_folder, half) == _fingerprint(encoder_folder)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_fingerprint_survives_saving(encoder_folder: Path, tmp_path: Path, dtype: str) -> None:
    runtime = Runtime.resolve("cpu", dtype)
    load_encoder(encoder_folder, EncoderConfig(), runtime)[0].save(tmp_path)
    assert _fingerprint(tmp_path) == _fingerprint(encoder_folder)


# ----------------------------------------------------------------------------------------------------- what is refused


@pytest.fixture
def copied(mini_encoder_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(mini_encoder_folder, tmp_path / "copied")


def test_unknown_modules_are_refused(copied: Path) -> None:
    modules = json.loads((copied / "modules.json").read_text())
    modules.append({"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (copied / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValueError, match="expected the modules Transformer, Pooling and Normalize, got Dense"):
        _load(copied)


@pytest.mark.parametrize(
    "settings",
    [
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
        {"pooling_mode": "weightedmean"},
        {},
    ],
)
def test_other_poolings_are_refused(copied: Path, settings: dict) -> None:
    (copied / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="expected exactly one of mean, cls and last-token pooling, got"):
        _load(copied)


def test_pooling_without_the_prompt_is_refused(copied: Path) -> None:
    settings = {"pooling_mode": "mean", "include_prompt": False}
    (copied / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=re.escape("pooling without the prompt (include_prompt false)")):
        _load(copied)


def test_a_length_over_the_positions_is_refused(mini_encoder_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"the backbone has 128 positions; encoder\.max_length 129 and max_query_"):
        _shared(mini_encoder_folder, max_length=129)


def test_a_slow_tokenizer_is_refused(mini_encoder_folder: Path) -> None:
    encoder = _shared(mini_encoder_folder)

    class Slow:
        is_fast = False

    with pytest.raises(ValueError, match=re.escape("needs a fast tokenizer (tokenizer.json), got Slow")):
        Encoder(encoder.backbone, Slow(), EncoderConfig(pooling="mean", max_length=8))


def test_an_encoder_needs_pooling_and_length(mini_encoder_folder: Path) -> None:
    encoder = _shared(mini_encoder_folder)
    with pytest.raises(ValueError, match="the encoder needs a pooling and a max_length, got None and 8"):
        Encoder(encoder.backbone, encoder.tokenizer, EncoderConfig(max_length=8))


def test_a_tokenizer_without_a_pad_token_pads_with_the_end_token(qwen_encoder_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(qwen_encoder_folder, tmp_path / "unpadded")
    path = tmp_path / "unpadded" / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    del settings["pad_token"]
    path.write_text(json.dumps(settings))
    encoder = _load(tmp_path / "unpadded")
    assert encoder.tokenizer.pad_token == "<|im_end|>"
    expected = _shared(qwen_encoder_folder).encode(["a", LONG], is_query=False)
    np.testing.assert_allclose(encoder.encode(["a", LONG], is_query=False), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("model.safetensors", "the model in .* cannot be read .*: it is damaged or incomplete, get it again"),
        ("config.json", "config.json cannot be read .*: it is damaged or incomplete, get it again"),
        ("tokenizer.json", "tokenizer.json cannot be read .*: it is damaged or incomplete, get it again"),
        ("modules.json", "modules.json cannot be read .*: it is damaged or incomplete, get it again"),
        ("1_Pooling/config.json", "config.json cannot be read .*: it is damaged or incomplete, get it again"),
    ],
)
def test_damaged_files_are_refused(copied: Path, file: str, message: str) -> None:
    path = copied / file
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(ValueError, match=message):
        _load(copied)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_missing_files_are_refused(copied: Path, file: str) -> None:
    (copied / file).unlink()
    with pytest.raises(ValueError, match=re.escape(str(copied))):
        _load(copied)


def test_missing_weights_are_refused(copied: Path) -> None:
    """transformers would draw them at random, with a warning."""
    weights = load_file(copied / "model.safetensors")
    del weights["encoder.layer.2.output.dense.weight"]
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights \(encoder\.layer\.2\.output\.dense\.weight\)"):
        _load(copied)


def test_a_missing_pooler_is_not_missed(copied: Path, corpus) -> None:
    expected = _load(copied).encode(list(corpus), is_query=False)
    weights = load_file(copied / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if not name.startswith("pooler.")}
    assert len(kept) < len(weights)
    save_file(kept, copied / "model.safetensors", metadata={"format": "pt"})
    np.testing.assert_array_equal(_load(copied).encode(list(corpus), is_query=False), expected)


def test_pickled_weights_are_never_read(copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    torch.save(weights, copied / "pytorch_model.bin")
    with pytest.raises(ValueError, match="cannot be read"):
        _load(copied)


def test_a_report_tells_what_was_read_of_each_text(tiny_mini):
    model, report = tiny_mini(), TruncationReport()
    model.encode_passages(["a date", LONG], report=report)
    short, long = report.tokens_per_text
    assert 2 < short < long == model.encoder.max_length
    model.encode_queries(["a date"], report=report)
    assert report.tokens_per_text == (short,)
    model.encode_queries(["a date"], report=report)
    assert report.tokens_per_text == ()  # it was remembered
