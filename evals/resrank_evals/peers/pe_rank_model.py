# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
PE-Rank: a language model reads one embedding a passage and answers with a permutation of these embeddings.

Source: Liu et al., *Leveraging Passage Embeddings for Efficient Listwise Reranking with Large Language Models*, arXiv
2406.14848, and the authors' repository, liuqi6777/pe_rank.

1. A frozen encoder's vector of each passage goes through a two-layer MLP to a *slot* of the language model's size.
2. The prompt names the task and the query, gives one slot a passage, then the query again.
3. Dynamic-constrained decoding: the last hidden state is compared (inner product) with the slots of the passages that
   are not ranked yet; the best one is next, and its slot is the next input. One generated token a passage.

What differs from the paper: any causal language model instead of Mistral-7B, any stored vectors instead of its
encoders', and our own wording of the prompt. The last passage of a prompt costs no forward pass, but counts as a
generated token, as in the paper.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from resrank import sources
from resrank.backbone import load_tokenizer
from resrank.encoder import tokenize_counting
from resrank.runtime import Runtime

_CONFIG, _PROJECTOR, _LANGUAGE_MODEL = "config.json", "projector.safetensors", "language_model"
_MARK = "\x00"  # where the prompt goes in a chat template

_TASK = "Below are {count} passages, each as one embedding in square brackets{form}. Order them by relevance to: "
_PASSAGE = "\n\nPassage {number}: ["
_QUERY_AGAIN = "\n\nThe query was: "
_ANSWER = "\nAnswer with the embeddings of all {count} passages, the most relevant one first.\n"


@dataclass(frozen=True)
class PERankConfig:
    """
    What the weights do not tell.

    :param embedding_dim: of the passage vectors.
    :param encoder_fingerprint: of the ResRank encoder whose vectors the projector was trained on.
    :param max_query_length: tokens; the rest of a query is cut.
    """

    embedding_dim: int
    encoder_fingerprint: str
    max_query_length: int = 256


@dataclass(frozen=True)
class PERankUsage:
    """
    What a ranking cost.

    :param windows: prompts that the language model read.
    :param prompt_tokens: tokens and slots of these prompts.
    :param generated_tokens: decoded passages.
    :param cut_query_tokens: of the query, which was longer than `max_query_length`; once, however many prompts.
    """

    windows: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    cut_query_tokens: int = 0

    def __add__(self, other: PERankUsage) -> PERankUsage:
        return PERankUsage(
            self.windows + other.windows,
            self.prompt_tokens + other.prompt_tokens,
            self.generated_tokens + other.generated_tokens,
            self.cut_query_tokens + other.cut_query_tokens,
        )


class PERank(nn.Module):
    """
    A causal language model and a projector.

    :param language_model: a Hugging Face causal language model that takes `inputs_embeds`.
    :param tokenizer: its fast tokenizer; a chat template is used when it has one, without thinking.
    :param config: of the model.
    """

    def __init__(self, language_model: Any, tokenizer: Any, config: PERankConfig) -> None:
        super().__init__()
        self.language_model: Any = language_model
        self.tokenizer = tokenizer
        self.config = config
        hidden = int(language_model.config.hidden_size)
        self.projector = nn.Sequential(nn.Linear(config.embedding_dim, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self._frame = (tokenizer.bos_token or "", "")
        if tokenizer.chat_template is not None:
            chat = [{"role": "user", "content": _MARK}]
            rendered = tokenizer.apply_chat_template(
                chat, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
            before, found, after = rendered.partition(_MARK)
            if not found:
                msg = "the tokenizer's chat template drops what the user says: use another language model"
                raise ValueError(msg)
            self._frame = (before, after)

    # ------------------------------------------------------------------------------------------------ load and save

    @classmethod
    def from_language_model(
        cls,
        source: str | Path,
        config: PERankConfig,
        *,
        device: str | None = None,
        dtype: str = "auto",
        attn_implementation: str = "auto",
    ) -> PERank:
        """
        Start from a language model, with a random projector (torch's seed): what training begins with.

        :param source: folder or hub id of a causal language model.
        :param config: of the new model.
        :param device: as `Runtime.resolve` takes it.
        :param dtype: of the language model, likewise; projector and scores are float32.
        :param attn_implementation: likewise.
        :returns: the model in eval mode.
        """
        return cls._load(sources.resolve(source), config, Runtime.resolve(device, dtype, attn_implementation))

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        device: str | None = None,
        dtype: str = "auto",
        attn_implementation: str = "auto",
    ) -> PERank:
        """
        Load what `save_pretrained` wrote.

        :param folder: of the model.
        :param device: as in `from_language_model`.
        :param dtype: likewise.
        :param attn_implementation: likewise.
        :returns: the model in eval mode.
        :raises ValueError: when the folder is incomplete or damaged.
        """
        source = Path(folder)
        try:
            config = PERankConfig(**json.loads((source / _CONFIG).read_text(encoding="utf-8")))
            projector = load_file(source / _PROJECTOR)
        except (OSError, TypeError, ValueError, SafetensorError) as error:
            msg = f"{source} holds no PE-Rank model that can be read ({error}): save it again"
            raise ValueError(msg) from error
        model = cls._load(source / _LANGUAGE_MODEL, config, Runtime.resolve(device, dtype, attn_implementation))
        try:
            model.projector.load_state_dict(projector)
        except RuntimeError as error:
            msg = f"{source / _PROJECTOR} does not fit {_CONFIG} and the language model ({error}): save it again"
            raise ValueError(msg) from error
        return model

    @classmethod
    def _load(cls, language_model: Path, config: PERankConfig, runtime: Runtime) -> PERank:
        model = cls(_load_language_model(language_model, runtime), load_tokenizer(language_model), config)
        return model.to(runtime.device).eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """
        Write the model: language model and tokenizer, projector, config. Safetensors and JSON only.

        :param folder: made if missing.
        """
        target = Path(folder)
        self.language_model.save_pretrained(target / _LANGUAGE_MODEL)
        self.tokenizer.save_pretrained(target / _LANGUAGE_MODEL)
        state = {name: weight.detach().cpu().contiguous() for name, weight in self.projector.state_dict().items()}
        save_file(state, target / _PROJECTOR)
        (target / _CONFIG).write_text(json.dumps(asdict(self.config), indent=2) + "\n", encoding="utf-8")

    # -------------------------------------------------------------------------------------------------------- parts

    @property
    def backbone(self) -> Any:
        """
        The language model without its head.

        :returns: what turns inputs into hidden states.
        """
        return self.language_model.base_model

    @property
    def device(self) -> torch.device:
        """
        Where the model is.

        :returns: the projector's device.
        """
        return next(self.projector.parameters()).device

    def project(self, vectors: Any) -> torch.Tensor:
        """
        Turn passage vectors into slots.

        :param vectors: (n, embedding_dim) array-like.
        :returns: (n, hidden) float32, differentiable in the projector.
        """
        slots: torch.Tensor = self.projector(torch.as_tensor(vectors, dtype=torch.float32, device=self.device))
        return slots.float()  # autocast may have made it half

    def prompt(
        self, query: str, count: int, texts: Sequence[str] | None = None, max_passage_length: int = 128
    ) -> list[list[int]]:
        """
        Tokenise the listwise prompt: task, query, numbered slots, query, task. The order is that of the authors' code.

        :param query: the query.
        :param count: of passages.
        :param texts: of the passages, put behind their slots (the content loss of training); `None` puts none.
        :param max_passage_length: tokens; the rest of a text is cut.
        :returns: count + 1 lists of token ids; a slot goes between any two.
        """
        before, after = self._frame
        form, close = ("", "]") if texts is None else (", then its text", "] ")
        frame = [
            before + _TASK.format(count=count, form=form),
            close,
            _QUERY_AGAIN,
            _ANSWER.format(count=count) + after,
        ]
        marks = [_PASSAGE.format(number=number) for number in range(1, count + 1)]
        task, closing, again, answer, *begins = self.tokenizer(
            [*frame, *marks], add_special_tokens=False, padding=False, truncation=False
        )["input_ids"]
        asked, _ = self._asked(query)
        contents: list[list[int]] = [[]] * count
        if texts is not None:
            contents, _ = tokenize_counting(self.tokenizer, texts, max_passage_length, add_special_tokens=False)
        before_slots = [*begins, [*again, *asked, *answer]]
        after_slots = [[*task, *asked], *([*closing, *content] for content in contents)]
        return [[*end, *begin] for end, begin in zip(after_slots, before_slots, strict=True)]

    def cut_query_tokens(self, query: str) -> int:
        """
        How much of a query the prompt leaves out.

        :param query: the query.
        :returns: tokens beyond `max_query_length`.
        """
        return self._asked(query)[1]

    def _asked(self, query: str) -> tuple[list[int], int]:
        (asked,), (cut,) = tokenize_counting(
            self.tokenizer, [query], self.config.max_query_length, add_special_tokens=False
        )
        return asked, cut

    def inputs(self, segments: Sequence[Sequence[int]], slots: torch.Tensor) -> torch.Tensor:
        """
        Embed a prompt.

        :param segments: n + 1 lists of token ids.
        :param slots: (n, hidden) float32.
        :returns: (length, hidden) of the language model's dtype.
        :raises ValueError: when prompt and answer do not fit into the language model's positions.
        """
        (row,) = self.inputs_of_several([segments], [slots])
        return row

    def inputs_of_several(
        self, prompts: Sequence[Sequence[Sequence[int]]], slots: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        """
        Embed several prompts with one look-up, whose gradient is as large as the vocabulary.

        :param prompts: segments of each, as `inputs` takes them.
        :param slots: of each.
        :returns: (length, hidden) each, of the language model's dtype.
        :raises ValueError: when a prompt and its answer do not fit into the language model's positions.
        """
        limit = getattr(self.language_model.config, "max_position_embeddings", None)
        for segments, own in zip(prompts, slots, strict=True):
            length = sum(map(len, segments)) + 2 * len(own)
            if limit is not None and length > limit:
                msg = (
                    f"{len(own)} passages take {length} positions, the language model has {limit}: lower window_size, "
                    "or in training the candidates or max_passage_length"
                )
                raise ValueError(msg)
        flat = [ids for segments in prompts for ids in segments]
        embed = self.language_model.get_input_embeddings()
        tokens = embed(torch.tensor([i for ids in flat for i in ids], device=self.device))
        parts = iter(tokens.split([len(ids) for ids in flat]))
        rows = []
        for own in slots:
            row = [next(parts)]
            for slot in own.to(tokens.dtype):
                row += [slot[None], next(parts)]
            rows.append(torch.cat(row))
        return rows

    def hidden(self, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        """
        Last hidden states of several inputs at once; they never see each other. Differentiable.

        :param rows: (length, hidden) each.
        :returns: (rows, longest, hidden), of the language model's dtype; undefined beyond a row's length.
        """
        batch = nn.utils.rnn.pad_sequence(
            list(rows), batch_first=True
        )  # at the end: causal attention never looks there
        lengths = torch.tensor([len(row) for row in rows], device=batch.device)
        mask = (torch.arange(batch.shape[1], device=batch.device) < lengths[:, None]).long()
        padded = bool((lengths < batch.shape[1]).any())
        output = self.backbone(inputs_embeds=batch, attention_mask=mask if padded else None, use_cache=False)
        states: torch.Tensor = output.last_hidden_state
        return states

    def token_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """
        What the language model would write: its whole head, BERT's transform included.

        :param hidden: (…, hidden) last hidden states.
        :returns: (…, vocabulary), of the head's dtype.
        """
        head = getattr(self.language_model, "cls", None)
        if head is None:
            head = self.language_model.get_output_embeddings()
        logits: torch.Tensor = head(hidden)
        return logits

    @staticmethod
    def scores(hidden: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        """
        Logits of the passages: inner products, with the slots as tied output embeddings.

        :param hidden: (…, hidden).
        :param slots: (n, hidden) float32.
        :returns: (…, n) float32, also under autocast; equal slots get equal logits.
        """
        return (hidden.float().unsqueeze(-2) * slots).sum(dim=-1)

    # ------------------------------------------------------------------------------------------------------ ranking

    @torch.inference_mode()
    def decode(self, query: str, slots: torch.Tensor) -> tuple[list[int], PERankUsage]:
        """
        Dynamic-constrained decoding of one window, with a KV cache.

        :param query: the query.
        :param slots: (n, hidden) float32.
        :returns: indices of the passages, best first, and the cost. Of equal logits the first passage wins. A single
            passage costs nothing.
        """
        if len(slots) == 1:
            return [0], PERankUsage()
        inputs = self.inputs(self.prompt(query, len(slots)), slots)
        usage = PERankUsage(windows=1, prompt_tokens=len(inputs), generated_tokens=len(slots))
        ranked: list[int] = []
        is_ranked = torch.zeros(len(slots), dtype=torch.bool, device=slots.device)
        fed, cache = inputs[None], None
        while len(ranked) < len(slots) - 1:
            output = self.backbone(inputs_embeds=fed, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            logits = self.scores(output.last_hidden_state[0, -1], slots).masked_fill(is_ranked, -torch.inf)
            best = int(logits.argmax())
            ranked.append(best)
            is_ranked[best] = True
            fed = slots[best].to(inputs.dtype)[None, None]
        return [*ranked, int((~is_ranked).nonzero())], usage


def _load_language_model(folder: Path, runtime: Runtime) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=runtime.dtype,
            attn_implementation=runtime.attn_implementation,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, RuntimeError, SafetensorError) as error:
        msg = f"the language model in {folder} cannot be read ({error}): it is damaged or incomplete, get it again"
        raise ValueError(msg) from error
    missing = sorted(report["missing_keys"])
    if missing:  # transformers would draw them at random
        msg = f"the language model in {folder} lacks {len(missing)} weights ({', '.join(missing[:3])}): get it again"
        raise ValueError(msg)
    return model
