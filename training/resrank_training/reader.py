# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Fine-tune a span reader on questions with answers: `resrank-train reader`.

The loss of a window is the negative log of the probability of all its right spans together (the marginal likelihood of
Clark & Gardner 2018, arXiv 1710.10723, section 2.2), since nobody said which occurrence of an answer is meant; start
and end each have a softmax over the window's tokens and the first token, which stands for "no answer". By default
low-rank updates of the base are trained, and written as an adapter. A killed run goes on from its last checkpoint; the
folder is complete when it holds `reader.json`.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils.data import Dataset
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

from resrank.adapter import save_adapter
from resrank.encoder import TruncationReport
from resrank.reader import ReaderConfig, SpanReader, new_reader, pad_windows, sha256_of_weights
from resrank.runtime import Runtime
from resrank.sources import BASES, resolve
from resrank_evals.answers import exact_match, token_f1
from resrank_evals.collection import Collection
from resrank_evals.environment import describe_environment, weights_hash
from resrank_evals.results import write_whole
from resrank_pipelines.indexing import Progress
from resrank_pipelines.information import package_version

from .checkpoints import check_begun, last_whole, plain_settings
from .lists import ListSet
from .parts import set_dropout
from .progress import TrainingProgress
from .reader_examples import Example, make_examples

Answered = tuple[Collection, Mapping[str, Sequence[str]]]  # and its answers by query id

DONE = "reader.json"
READER = "reader"
_BEGUN = "reader.json.part"
_CHECKPOINTS = "checkpoints"
_PACKAGES = ("resrank", "torch", "transformers", "tokenizers", "peft", "accelerate")
_WARM_UP = 0.06  # of all steps
_TOLD_EVERY = 100  # questions
_SORTED_TOGETHER = 50  # batches whose windows are sorted by length together
_TARGETS = ["query", "key", "value", "dense"]  # all matrices of BERT's layers


@dataclass(frozen=True)
class ReaderSettings:
    """
    How a reader is trained.

    :param base: a folder, a pinned base or a hub id of a BERT-type encoder. Default: the backbone of resrank-mini,
        before its training.
    :param rank: of the low-rank updates; 0 trains all weights. 16 gives an adapter of 1.3 MB in float16.
    :param max_length: tokens of question and window together; neighbouring windows share a third.
    :param epochs: passes over all windows.
    :param max_steps: end after these, whatever `epochs` says; `None` for no limit.
    :param batch_size: windows a step.
    :param learning_rate: the highest one, after a warm-up over 6 % of the steps; then it falls linearly to 0.
    :param unanswerable: share of the questions that also get a passage without an answer.
    :param save_steps: steps between checkpoints.
    :param seed: of the output layer, the draw and the order.
    """

    base: str = "all-MiniLM-L6-v2"
    rank: int = 16
    max_length: int = 384
    epochs: float = 1.0
    max_steps: int | None = None
    batch_size: int = 32
    learning_rate: float = 1e-3
    unanswerable: float = 0.25
    save_steps: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "max_steps", "batch_size", "learning_rate", "save_steps"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                msg = f"{name} must be positive, got {value}"
                raise ValueError(msg)
        if self.rank < 0:
            msg = f"rank must be positive, or 0 for all weights, got {self.rank}"
            raise ValueError(msg)
        if not 0 <= self.unanswerable <= 1:
            msg = f"unanswerable is a share between 0 and 1, got {self.unanswerable}"
            raise ValueError(msg)

    @property
    def config(self) -> ReaderConfig:
        """
        How the reader will read.

        :returns: its config.
        """
        third = max(1, self.max_length // 3)
        base: str | None = None
        sha256: str | None = None
        if self.rank:
            folder = Path(self.base).expanduser()
            local = self.base not in BASES and folder.is_dir()
            base = str(folder.resolve()) if local else self.base
            sha256 = None if self.base in BASES else sha256_of_weights(resolve(self.base))
        return ReaderConfig(
            max_length=self.max_length,
            stride=third,
            max_query_length=min(64, third),
            max_answer_length=min(30, third),
            base=base,
            base_sha256=sha256,
        )


def span_loss(
    start_logits: torch.Tensor, end_logits: torch.Tensor, readable: torch.Tensor, spans: torch.Tensor
) -> torch.Tensor:
    """
    Negative log marginal likelihood of the right spans.

    :param start_logits: (windows, tokens), any float dtype.
    :param end_logits: likewise.
    :param readable: (windows, tokens) bool: tokens of the passage, and the first one.
    :param spans: (windows, most spans, 2) int64: first and last token of each right span; -1 where there are fewer.
    :returns: (windows,) float32.
    """
    start = start_logits.float().masked_fill(~readable, -torch.inf).log_softmax(dim=-1)
    end = end_logits.float().masked_fill(~readable, -torch.inf).log_softmax(dim=-1)
    known = spans[..., 0] >= 0
    at = spans.clamp(min=0)
    both = start.gather(1, at[..., 0]) + end.gather(1, at[..., 1])
    return -both.masked_fill(~known, -torch.inf).logsumexp(dim=-1)


def train_reader(
    collections: Sequence[Answered],
    lists: Sequence[ListSet],
    out: Path,
    settings: ReaderSettings,
    progress: Progress,
    *,
    dev: Sequence[Answered] = (),
) -> dict[str, Any]:
    """
    Fine-tune a reader, or go on with it.

    :param collections: train splits, each with answers by query id.
    :param lists: mined for the same questions, for passages without an answer; may be empty.
    :param out: folder to write; `SpanReader.from_pretrained(out / "reader")` loads what was trained.
    :param settings: how.
    :param progress: told (what, done, total).
    :param dev: collections to measure on at the end, given the relevant passage.
    :returns: what is in `reader.json`.
    :raises FileExistsError: when the folder holds a finished reader.
    :raises ValueError: for a folder begun with other settings or data, and data without examples.
    """
    started = time.monotonic()
    described = _describe(collections, lists, settings)
    check_begun(out / DONE, out / _BEGUN, described, what="reader", inputs="settings or data")
    set_seed(settings.seed)
    reader = new_reader(settings.base, settings.config, settings.seed)
    progress("Making examples", 0, 0)
    examples = make_examples(reader, collections, lists, unanswerable=settings.unanswerable, seed=settings.seed)
    if not examples.counts["answered"]:
        msg = f"no answer stands in its passage ({dict(examples.counts)}): train on other collections"
        raise ValueError(msg)
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / _BEGUN, json.dumps(described, indent=2) + "\n")
    learner = _Learner(_with_adapters(reader.model, settings))
    trainer = Trainer(
        model=learner,
        args=_arguments(out, settings),
        train_dataset=Batches(examples.windows, settings.batch_size, settings.seed),
        data_collator=partial(_collate_batch, pad_token_id=reader.tokenizer.pad_token_id),
        callbacks=[TrainingProgress("reader"), _FiniteLoss()],
    )
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)  # stdout is for results
    trainer.model_accepts_loss_kwargs = False  # losses are means over a forward pass, to be averaged over a step's
    checkpoint, _ = last_whole(out / _CHECKPOINTS)
    outcome = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    _write(reader, learner.model, out / READER)
    trained = SpanReader.from_pretrained(out / READER)
    measured = {of.name: gold_passage_quality(trained, of, answers, progress) for of, answers in dev}
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    report = {
        **described,
        "counts": dict(examples.counts),
        "steps": trainer.state.global_step,
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "train_minutes": round(float(outcome.metrics["train_runtime"]) / 60, 2),
        "minutes": round((time.monotonic() - started) / 60, 2),
        "dev": measured,
        "environment": describe_environment(None),
    }
    write_whole(out / DONE, json.dumps(report, indent=2) + "\n")
    (out / _BEGUN).unlink()
    shutil.rmtree(out / _CHECKPOINTS)
    return report


def gold_passage_quality(
    reader: SpanReader, collection: Collection, answers: Mapping[str, Sequence[str]], progress: Progress
) -> dict[str, float]:
    """
    How well a reader answers when it is given the relevant passages.

    :param reader: the reader; it has to answer.
    :param collection: questions and passages.
    :param answers: by query id; questions without are left out.
    :param progress: told (what, done, total).
    :returns: `EM` and `F1`, means over the questions, and `questions`, how many there are.
    """
    exact, overlap = [], []
    report = TruncationReport()
    for place, (query_id, query) in enumerate(collection.queries.items()):
        if place % _TOLD_EVERY == 0:
            progress(f"Measuring on {collection.name}", place, len(collection.queries))
        golds = [answer for answer in answers.get(query_id, ()) if answer.strip()]
        if not golds:
            continue
        relevant = [id_ for id_, grade in collection.qrels[query_id].items() if grade > 0]
        texts = [collection.passages[id_].content for id_ in relevant if id_ in collection.passages]
        spans = reader.read(query, texts, report=report)
        answer = spans[0].text if spans else ""
        exact.append(exact_match(answer, golds))
        overlap.append(token_f1(answer, golds))
    count = len(exact)
    return {
        "EM": sum(exact) / count if count else 0.0,
        "F1": sum(overlap) / count if count else 0.0,
        "questions": count,
    }


def collate(examples: Sequence[Example], pad_token_id: int) -> dict[str, torch.Tensor]:
    """
    Put windows side by side.

    :param examples: the windows of a step.
    :param pad_token_id: what to fill with.
    :returns: the model's input, `readable` and `spans` as `span_loss` takes them.
    """
    inputs = pad_windows([each.window for each in examples], pad_token_id, torch.device("cpu"))
    readable = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
    readable[:, 0] = True
    spans = torch.full((len(examples), max(len(each.spans) for each in examples), 2), -1)
    for row, each in enumerate(examples):
        for column, place in enumerate(each.window.offsets):
            readable[row, column] |= place is not None
        spans[row, : len(each.spans)] = torch.tensor(each.spans)
    return {**inputs, "readable": readable, "spans": spans}


class _Learner(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, readable: torch.Tensor, spans: torch.Tensor, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        output = self.model(**inputs)
        return {"loss": span_loss(output.start_logits, output.end_logits, readable, spans).mean()}


class _FiniteLoss(TrainerCallback):
    """Ends a run whose loss is lost."""

    def on_log(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ARG002
        row = state.log_history[-1] if state.log_history else {}
        loss = row.get("loss", row.get("train_loss", 0.0))  # the second: the mean of all, at the end
        if not math.isfinite(loss):
            msg = f"the loss is {loss} at step {state.global_step}: lower the learning rate"
            raise RuntimeError(msg)


class Batches(Dataset[Sequence[Example]]):
    """
    A step's windows each, of like length, so that little of a batch is padding.

    :param windows: in any order.
    :param size: windows a step; the last batch may be smaller.
    :param seed: of what stands together.
    """

    def __init__(self, windows: Sequence[Example], size: int, seed: int) -> None:
        order = list(range(len(windows)))
        random.Random(seed).shuffle(order)  # noqa: S311
        apart = _SORTED_TOGETHER * size
        chunks = [order[start : start + apart] for start in range(0, len(order), apart)]
        by_length = [i for chunk in chunks for i in sorted(chunk, key=lambda i: len(windows[i].window.ids))]
        self._batches = [[windows[i] for i in by_length[at : at + size]] for at in range(0, len(by_length), size)]

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, place: int) -> Sequence[Example]:
        return self._batches[place]


def _collate_batch(batches: Sequence[Sequence[Example]], pad_token_id: int) -> dict[str, torch.Tensor]:
    # One batch of ours a device: several where torch spreads a step over GPUs.
    return collate([each for batch in batches for each in batch], pad_token_id)


def _with_adapters(model: Any, settings: ReaderSettings) -> Any:
    # One pass over tens of thousands of windows needs none, and attention without it is 2.5 times as fast on a CPU.
    set_dropout(model, 0.0)
    if not settings.rank:
        return model
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=2 * settings.rank,
        lora_dropout=0.0,
        target_modules=_TARGETS,
        modules_to_save=["qa_outputs"],
    )
    return get_peft_model(model, config)


def _write(reader: SpanReader, model: Any, folder: Path) -> None:
    if reader.config.base is None:
        reader.save_pretrained(folder)
        return
    prefix = f"{reader.model.base_model_prefix}."
    factors = {}
    for name, module in model.base_model.model.named_modules():
        if hasattr(module, "lora_A"):
            down, up = module.lora_A["default"].weight, module.lora_B["default"].weight
            factors[name.removeprefix(prefix)] = (down.detach().cpu(), module.scaling["default"] * up.detach().cpu())
    merged = model.merge_and_unload()
    save_adapter(folder, factors, reader.config.base, torch.float16)
    SpanReader(merged, reader.tokenizer, reader.config).save_head(folder)


def _arguments(out: Path, settings: ReaderSettings) -> TrainingArguments:
    runtime = Runtime.resolve(None, "auto", "sdpa")
    return TrainingArguments(
        output_dir=str(out / _CHECKPOINTS),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=1,  # a batch of ours
        learning_rate=settings.learning_rate,
        warmup_steps=_WARM_UP,
        weight_decay=0.0 if settings.rank else 0.01,
        bf16=runtime.dtype == torch.bfloat16,
        use_cpu=runtime.device.type == "cpu",
        seed=settings.seed,
        logging_steps=20,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        save_steps=settings.save_steps,
        save_total_limit=2,
        remove_unused_columns=False,
        dataloader_pin_memory=runtime.device.type == "cuda",
        report_to="none",
    )


def _describe(collections: Sequence[Answered], lists: Sequence[ListSet], settings: ReaderSettings) -> dict[str, Any]:
    """Everything that decides the weights; no path of this machine."""
    folder = resolve(settings.base)
    return {
        "settings": plain_settings(settings, folder),
        "base_weights": weights_hash(str(folder)),
        "collections": [
            {"name": of.name, "split": of.split, "fingerprint": of.fingerprint, "answers": _digest(answers)}
            for of, answers in collections
        ],
        "lists": [{"name": each.name, "digest": each.digest} for each in lists],
        "versions": {package: package_version(package) for package in _PACKAGES},
    }


def _digest(answers: Mapping[str, Sequence[str]]) -> str:
    plain = {query: list(of) for query, of in sorted(answers.items())}
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:16]
