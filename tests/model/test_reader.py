# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The span reader against a naive one, on long and odd texts, and from folder to folder."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import processors
from transformers import (
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    Qwen3Config,
    Qwen3ForQuestionAnswering,
    RobertaConfig,
    RobertaForQuestionAnswering,
)

from resrank import ResRank, TruncationReport
from resrank import reader as reader_module
from resrank.adapter import save_adapter
from resrank.reader import ReaderConfig, Span, SpanReader, confidences, new_reader

QUERY = "who discovered penicillin?"
CONFIG = ReaderConfig(max_length=48, stride=12, max_query_length=12, max_answer_length=6)
UPDATED = "encoder.layer.0.attention.self.query"


@pytest.fixture(scope="module")
def reader(tiny_reader_folder: Path) -> SpanReader:
    loaded = SpanReader.from_pretrained(tiny_reader_folder, device="cpu", dtype="float32")
    return SpanReader(loaded.model, loaded.tokenizer, CONFIG)


@pytest.fixture
def adapter_folder(reader: SpanReader, mini_encoder_folder: Path, tmp_path: Path) -> Path:
    """A reader that is an update of a base."""
    folder = tmp_path / "adapter"
    generator = torch.Generator().manual_seed(4)
    shape = reader.model.base_model.get_submodule(UPDATED).weight.shape
    down, up = torch.randn(3, shape[1], generator=generator), torch.randn(shape[0], 3, generator=generator)
    save_adapter(folder, {UPDATED: (down, up)}, str(mini_encoder_folder), torch.float32)
    based = ReaderConfig(48, 12, 12, 6, base=str(mini_encoder_folder))
    SpanReader(reader.model, reader.tokenizer, based).save_head(folder)
    return folder


@pytest.fixture
def roberta(qwen_reranker_folder: Path) -> SpanReader:
    """A RoBERTa-type reader: byte-level tokens with the space in front, <s> first, one segment, positions from 2 on."""
    tokenizer = AutoTokenizer.from_pretrained(qwen_reranker_folder)
    first, last = (("<|im_start|>", 1), ("<|im_end|>", 2))
    tokenizer.backend_tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{first[0]} $A {last[0]}",
                pair=f"{first[0]} $A {last[0]} {last[0]} $B {last[0]}",
                special_tokens=[first, last],
            ),
        ]
    )
    torch.manual_seed(5)
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=50, type_vocab_size=1, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = RobertaForQuestionAnswering(config).eval()
    with torch.no_grad():
        model.qa_outputs.weight.mul_(50.0)
    return SpanReader(model, tokenizer, ReaderConfig(48, 12, 12, 6))


class Rigged(torch.nn.Module):
    """Logits by token id, so that a test says where answers start and end."""

    def __init__(self, starts: dict[int, float], ends: dict[int, float], none: float = 0.0) -> None:
        super().__init__()
        self.config = SimpleNamespace(type_vocab_size=2)
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.tables = (starts, ends)
        self.none = none

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor) -> Any:
        logits = []
        for table in self.tables:
            rows = [[table.get(int(i), -9.0) for i in row] for row in input_ids]
            logits.append(torch.tensor(rows))
            logits[-1][:, 0] = self.none
        return SimpleNamespace(start_logits=logits[0], end_logits=logits[1])


def naive_spans(reader: SpanReader, query: str, passage: str, most: int) -> list[Span]:
    """Every pair of tokens of every window, best first, taken when it shares no character with a better one."""
    every = []
    for window in reader.windows(query, [passage])[0]:
        with torch.no_grad():
            output = reader.model(
                input_ids=torch.tensor([window.ids]), token_type_ids=torch.tensor([window.types]),
                attention_mask=torch.ones(1, len(window.ids), dtype=torch.int64),
            )  # fmt: skip
        starts, ends = output.start_logits[0].tolist(), output.end_logits[0].tolist()
        for first, from_ in enumerate(window.offsets):
            for last, to in enumerate(window.offsets):
                if from_ and to and first <= last < first + reader.config.max_answer_length:
                    margin = starts[first] + ends[last] - starts[0] - ends[0]
                    every.append((margin, from_[0], to[1]))
    kept: list[Span] = []
    for margin, start, end in sorted(every, key=lambda each: -each[0]):
        if len(kept) < most and all(end <= other.start or start >= other.end for other in kept):
            kept.append(Span(0, start, end, passage[start:end], margin))
    return kept


def places(spans: list[Span]) -> list[tuple[int, int, int]]:
    return [(span.passage, span.start, span.end) for span in spans]


# -------------------------------------------------------------------------------------------------------------- spans


@pytest.mark.parametrize("most", [1, 2, 5])
@pytest.mark.parametrize("length", [5, 60, 150])
def test_spans_are_those_of_a_naive_search(reader: SpanReader, corpus: tuple[str, ...], length: int, most: int):
    words = " ".join(corpus).split()
    random.Random(length).shuffle(words)
    passage = " ".join(words[:length])
    expected = naive_spans(reader, QUERY, passage, most)
    found = reader.read(QUERY, [passage], spans_per_passage=most)
    assert places(found) == places(expected)
    assert [span.margin for span in found] == pytest.approx([span.margin for span in expected], abs=1e-4)
    assert all(span.text == passage[span.start : span.end] for span in found)


@pytest.fixture
def rigged(reader: SpanReader) -> Callable[..., SpanReader]:
    """Return a function that makes a reader for which answers start at "Paris" and end at "France"."""

    def make(start: float = 5.0, end: float = 5.0, none: float = 0.0) -> SpanReader:
        first, last = reader.tokenizer.convert_tokens_to_ids(["paris", "france"])
        return SpanReader(Rigged({first: start}, {last: end}, none), reader.tokenizer, CONFIG)

    return make


def test_margin_is_the_spans_logits_against_those_of_no_answer(rigged: Callable[..., SpanReader]):
    (span,) = rigged(3.0, 2.5, none=0.75).read(QUERY, ["That is Paris in France."])
    assert (span.text, span.start, span.margin) == ("Paris in France", 8, 3.0 + 2.5 - 0.75 - 0.75)


def test_a_span_has_no_more_tokens_than_allowed(rigged: Callable[..., SpanReader]):
    (span,) = rigged().read(QUERY, ["Paris a a a a France"])
    assert span.text == "Paris a a a a France"  # 6 tokens
    (span,) = rigged().read(QUERY, ["Paris a a a a a France"])
    assert span.text in ("Paris", "France")


def test_spans_of_one_passage_never_overlap(reader: SpanReader, corpus: tuple[str, ...]):
    passages = [" ".join(corpus), corpus[0]]
    spans = reader.read(QUERY, passages, spans_per_passage=200)
    for place in range(2):
        own = sorted((span.start, span.end) for span in spans if span.passage == place)
        assert len(own) > 5
        assert all(end <= start for (_, end), (start, _) in pairwise(own))


def test_spans_come_by_margin_and_ties_by_passage(reader: SpanReader, corpus: tuple[str, ...]):
    spans = reader.read(QUERY, [*corpus[:3], *corpus[:3]])
    assert [span.margin for span in spans] == sorted((span.margin for span in spans), reverse=True)
    assert [span.passage for span in spans][0::2] == [span.passage - 3 for span in spans][1::2]


# ------------------------------------------------------------------------------------------------------------ windows


def test_windows_cover_every_token_and_share_the_stride(reader: SpanReader, corpus: tuple[str, ...]):
    passage = " ".join(corpus)
    every = reader.tokenizer(passage, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    (windows,) = reader.windows(QUERY, [passage])
    held = [[at for at in window.offsets if at] for window in windows]
    assert len(windows) > 3
    assert max(len(window.ids) for window in windows) == CONFIG.max_length
    assert sorted({at for own in held for at in own}) == every
    assert all(before[-CONFIG.stride :] == after[: CONFIG.stride] for before, after in pairwise(held))
    question = reader.tokenizer(QUERY, add_special_tokens=False)["input_ids"]
    assert all(window.ids[1 : 1 + len(question)] == question for window in windows)


@pytest.mark.parametrize("before", range(15, 60))
def test_an_answer_at_any_edge_is_found_whole(rigged: Callable[..., SpanReader], before: int):
    passage = "a " * before + "Paris is all of France" + " a" * 40
    (span,) = rigged().read(QUERY, [passage])
    assert span.text == "Paris is all of France"


def test_a_long_question_is_cut_and_counted(reader: SpanReader, corpus: tuple[str, ...]):
    report = TruncationReport()
    query = "water " * 400
    tokens = len(reader.tokenizer(query, add_special_tokens=False)["input_ids"])
    spans = reader.read(query, list(corpus), report=report)
    assert len(spans) == len(corpus)
    assert (report.texts, report.truncated, report.cut_tokens) == (1, 1, tokens - CONFIG.max_query_length)
    assert spans == reader.read("water " * CONFIG.max_query_length, list(corpus), report=report)
    assert (report.texts, report.truncated, report.cut_per_text) == (2, 1, (0,))


def test_hostile_questions_and_passages_are_read(reader: SpanReader, roberta: SpanReader, hostile_text: str):
    passage = hostile_text[:3_000]
    for each in (reader, roberta):
        assert each.read(hostile_text, ["Bread needs yeast."])
        for span in each.read(QUERY, [passage, passage], spans_per_passage=3):
            assert span.text == passage[span.start : span.end] == span.text.strip() != ""


@pytest.mark.parametrize("blank", ["", "   ", "\n\t ", "\u200b"])
def test_a_blank_passage_has_no_span(reader: SpanReader, roberta: SpanReader, blank: str):
    for each in (reader, roberta):
        if blank != "\u200b" or each is reader:  # byte-level tokens keep it
            assert each.windows(QUERY, [blank]) == [[]]
            assert [span.passage for span in each.read(QUERY, [blank, "Bread.", blank])] == [1]


def test_no_passage_no_span(reader: SpanReader):
    assert reader.read(QUERY, []) == []


@pytest.mark.parametrize(
    "passage",
    [
        "Größe: Paris 5 µm, 北京 是 中国 的 首都",
        "🚀 Fleming 👩‍👩‍👧‍👦 in London 🇫🇷",
        "Cafe\u0301 a\u0300 Paris",
        "عاصمة فرنسا Paris",
    ],
)
def test_offsets_are_those_of_the_passages_own_characters(reader: SpanReader, roberta: SpanReader, passage: str):
    for each in (reader, roberta):
        (windows,) = each.windows(QUERY, [passage])
        held = [at for window in windows for at in window.offsets if at]
        assert all(passage[start:end] == passage[start:end].strip() != "" for start, end in held)
        words = {word for word in passage.split() if word.isascii() and word.isalpha()}
        assert words
        for word in words:  # a word's tokens begin and end where it does
            start, end = re.search(rf"\b{word}\b", passage).span()
            assert start in {at[0] for at in held}
            assert end in {at[1] for at in held}


def test_byte_level_spans_leave_out_the_space_before_them(roberta: SpanReader, corpus: tuple[str, ...]):
    spans = roberta.read(QUERY, list(corpus), spans_per_passage=3)
    assert spans
    assert all(span.text == span.text.strip() for span in spans)
    assert places(spans) == places(roberta.read(QUERY, list(corpus), spans_per_passage=3))


# ------------------------------------------------------------------------------------------- batches, threads, numbers


def test_spans_do_not_depend_on_batch_size_and_batch_mates(
    reader: SpanReader, corpus: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    passages = [*corpus, " ".join(corpus)]
    together = reader.read(QUERY, passages)
    expected = {span.passage: span for span in together}
    assert sorted(expected) == list(range(len(passages)))

    def same(found: list[Span]) -> None:
        # The last window of the last passage is the last but one: their margins are as good as equal, and so is either order.
        assert [span.margin for span in found] == sorted((span.margin for span in found), reverse=True)
        for span in found:
            wanted = expected[span.passage]
            assert (span.start, span.end) == (wanted.start, wanted.end)
            assert span.margin == pytest.approx(wanted.margin, abs=1e-4)

    for budget in (1, 100, 100_000):
        monkeypatch.setattr(reader_module, "TOKENS_PER_BATCH", {"cpu": budget})
        found = reader.read(QUERY, passages)
        assert len(found) == len(together)
        same(found)
    for passage in range(len(passages)):
        (alone,) = reader.read(QUERY, [passages[passage]])
        same([replace(alone, passage=passage)])


def test_threads_may_share_a_reader(reader: SpanReader, corpus: tuple[str, ...]):
    jobs = [(f"{QUERY} {'why ' * i}", [corpus[i], " ".join(corpus)]) for i in range(8)]
    expected = [reader.read(*job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda job: reader.read(*job), jobs)) == expected


def test_logits_that_are_no_numbers_are_refused(reader: SpanReader):
    rigged = SpanReader(Rigged({}, {}, none=math.nan), reader.tokenizer, CONFIG)
    with pytest.raises(ValueError, match=r"logits are not finite in torch\.float32: read with dtype float32"):
        rigged.read(QUERY, ["Bread."])


@pytest.mark.parametrize("margins", [[], [0.0], [1.5, -2.0, 0.25], [800.0, 799.0], [-900.0, -1e4]])
def test_confidences_are_a_softmax_with_no_answer_at_zero(margins: list[float]):
    found, none = confidences(margins)
    top = max([*margins, 0.0])
    total = sum(math.exp(each - top) for each in [*margins, 0.0])
    assert found == pytest.approx([math.exp(each - top) / total for each in margins])
    assert none == pytest.approx(math.exp(-top) / total)
    assert sum(found) + none == pytest.approx(1.0)


# ------------------------------------------------------------------------------------------------------- save and load


def same(first: SpanReader, second: SpanReader, corpus: tuple[str, ...]) -> None:
    assert first.config == second.config
    assert first.read(QUERY, list(corpus)) == second.read(QUERY, list(corpus))


def test_a_whole_reader_is_the_same_after_a_round_trip(reader: SpanReader, corpus: tuple[str, ...], tmp_path: Path):
    reader.save_pretrained(tmp_path / "whole")
    same(SpanReader.from_pretrained(tmp_path / "whole", device="cpu", dtype="float32"), reader, corpus)


def test_transformers_reads_a_whole_reader(reader: SpanReader, tmp_path: Path):
    reader.save_pretrained(tmp_path / "whole")
    theirs = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "whole").state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in reader.model.state_dict().items())


def test_an_adapter_is_its_base_and_the_update(
    adapter_folder: Path, reader: SpanReader, corpus: tuple[str, ...], tmp_path: Path
):
    loaded = SpanReader.from_pretrained(adapter_folder, device="cpu", dtype="float32")
    own, before = loaded.model.state_dict(), reader.model.state_dict()
    changed = {name for name, weight in own.items() if not torch.equal(weight, before[name])}
    assert changed == {f"bert.{UPDATED}.weight"}
    assert not loaded.model.training
    copy = tmp_path / "copy"
    shutil.copytree(adapter_folder, copy)
    loaded.save_head(copy)
    same(SpanReader.from_pretrained(copy, device="cpu", dtype="float32"), loaded, corpus)


def test_an_adapter_may_name_a_pinned_base(
    adapter_folder: Path, mini_encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = []

    def resolve(source: Any, **_: Any) -> Path:
        asked.append(str(source))
        return mini_encoder_folder if source == "a-base" else Path(source)

    edit(adapter_folder, base="a-base")
    monkeypatch.setattr(reader_module, "resolve", resolve)
    SpanReader.from_pretrained(adapter_folder, device="cpu")
    assert asked == [str(adapter_folder), "a-base"]


def test_dtype_is_as_asked(tiny_reader_folder: Path):
    loaded = SpanReader.from_pretrained(tiny_reader_folder, device="cpu", dtype="bfloat16")
    assert next(loaded.model.parameters()).dtype == torch.bfloat16
    assert loaded.device.type == "cpu"
    assert isinstance(loaded.read(QUERY, ["Bread needs yeast."])[0].margin, float)


def test_a_model_of_transformers_gets_windows_of_its_size(tiny_reader_folder: Path):
    assert SpanReader.from_pretrained(tiny_reader_folder, device="cpu").config == ReaderConfig(128, 32, 32, 30)


def test_a_new_reader_starts_from_the_base_and_its_seed(mini_encoder_folder: Path):
    first, again, other = (new_reader(str(mini_encoder_folder), ReaderConfig(), seed) for seed in (1, 1, 2))
    assert first.config.max_length == 128
    assert not first.model.training
    assert torch.equal(first.model.qa_outputs.weight, again.model.qa_outputs.weight)
    assert not torch.equal(first.model.qa_outputs.weight, other.model.qa_outputs.weight)


def test_a_head_without_a_base_is_not_written(reader: SpanReader, tmp_path: Path):
    with pytest.raises(ValueError, match="no base that an adapter could update: use save_pretrained"):
        reader.save_head(tmp_path)


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, r"config\.json: this version of resrank reads format 1, got format 2: install a matching"),
        ({"colour": 1}, r"config\.json: this version of resrank reads format 1, got format 1 with colour"),
        ({"base": None}, r"an adapter needs a base, got null"),
        ({"base": 5}, r"config\.json: base must be a name, a folder, a hub id or null, got 5"),
        ({"stride": "12"}, r"config\.json: stride must be a positive integer, got '12'"),
        ({"max_length": 512}, r"the model reads 128 tokens at once, max_length 512 must not exceed them"),
    ],
)
def test_a_wrong_config_is_named(adapter_folder: Path, changes: dict[str, Any], message: str):
    edit(adapter_folder, **changes)
    with pytest.raises(ValueError, match=message):
        SpanReader.from_pretrained(adapter_folder, device="cpu")


@pytest.mark.parametrize(
    "file", ["head.safetensors", "adapter_model.safetensors", "adapter_config.json", "config.json"]
)
@pytest.mark.parametrize("how", ["cut", "missing"])
def test_a_damaged_adapter_is_named(adapter_folder: Path, file: str, how: str):
    path = adapter_folder / file
    if how == "cut":
        path.write_bytes(path.read_bytes()[:20])
    else:
        path.unlink()
    with pytest.raises(ValueError, match=rf"(?s){adapter_folder.name}.* cannot be read"):
        SpanReader.from_pretrained(adapter_folder, device="cpu")


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_damaged_whole_reader_is_named(tiny_reader_folder: Path, file: str, tmp_path: Path):
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_reader_folder, folder)
    (folder / file).write_bytes((folder / file).read_bytes()[:50])
    with pytest.raises(ValueError, match=r"(?s)damaged.* cannot be read"):
        SpanReader.from_pretrained(folder, device="cpu")


def test_a_config_that_is_no_object_is_named(tmp_path: Path):
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"expected a JSON object, got list"):
        SpanReader.from_pretrained(tmp_path, device="cpu")


def test_an_encoder_is_no_trained_reader(mini_encoder_folder: Path):
    with pytest.raises(
        ValueError, match=r"lacks 2 weights \(qa_outputs\.bias, .*train one with `resrank-train reader`"
    ):
        SpanReader.from_pretrained(mini_encoder_folder, device="cpu")


def test_a_resrank_checkpoint_is_no_reader(tiny_mini_checkpoint: Path):
    with pytest.raises(ValueError, match="is a ResRank checkpoint, which ranks passages: expected a reader"):
        SpanReader.from_pretrained(tiny_mini_checkpoint, device="cpu")


def test_a_reader_is_no_resrank_checkpoint(adapter_folder: Path, tiny_reader_folder: Path):
    with pytest.raises(ValueError, match="holds a reader, which finds answers in passages"):
        ResRank.from_pretrained(adapter_folder)
    with pytest.raises(ValueError, match=r"expected a ResRank config\.json"):
        ResRank.from_pretrained(tiny_reader_folder)


def test_a_missing_reader_says_how_to_make_one():
    with pytest.raises(
        FileNotFoundError, match=r"no model 'no-such-reader': .*; `resrank-train reader` makes a reader"
    ):
        SpanReader.from_pretrained("no-such-reader")


def test_a_tokenizer_without_a_first_special_token_is_refused(qwen_encoder_folder: Path):
    tokenizer = AutoTokenizer.from_pretrained(qwen_encoder_folder)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, intermediate_size=64,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"puts a special token first .* that stands for 'no answer'"):
        SpanReader(Qwen3ForQuestionAnswering(config), tokenizer, CONFIG)


def test_a_slow_tokenizer_is_refused(reader: SpanReader):
    with pytest.raises(ValueError, match="needs a fast tokenizer"):
        SpanReader(reader.model, SimpleNamespace(is_fast=False), CONFIG)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_length": 0}, "max_length must be a positive integer, got 0"),
        ({"stride": True}, "stride must be a positive integer, got True"),
        ({"max_length": 200}, "leaves no room for windows that share 128 tokens beside a question of 64"),
        ({"max_answer_length": 129}, "spans of 129 tokens may be cut in two by windows that share 128"),
    ],
)
def test_settings_that_cannot_work_are_named(values: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ReaderConfig(**values)
