# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Tiny random models, built here: no network, no GPU, no downloaded weights.

Two families, each as a sentence-transformers folder, and ResRank models and checkpoints made of them:

* `mini`: BERT with a real WordPiece tokenizer and mean pooling, as all-MiniLM-L6-v2; its reranker starts from the
  encoder's layers.
* `qwen`: Qwen3 with a real byte-level BPE tokenizer, last-token pooling and a query prompt, as Qwen3-Embedding; its
  reranker is a Qwen3 of its own.
"""

from __future__ import annotations

import os

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import json
import logging
import re
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import qdrant_client
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, Qwen3Model

from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
from resrank import RerankerConfig, ResRank, ResRankConfig
from resrank.head import Head
from resrank.reader import ReaderConfig, new_reader

# Tiny matrices: a second thread only waits, most of all on a machine that others use too.
torch.set_num_threads(1)

HIDDEN = 32
OTHER_HIDDEN = 24
POSITIONS = 128
MAX_LENGTH = 48
QUERY_PROMPT = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"

CORPUS = (
    "Dates are parsed with datetime.strptime, which takes a format string.",
    "Bread needs flour, water, salt and yeast; knead it for ten minutes.",
    "The capital of France is Paris, a city on the river Seine.",
    "A listwise reranker reads all candidates of a query in one forward pass.",
    "Photosynthesis turns carbon dioxide and water into sugar and oxygen.",
    "Qdrant stores dense and sparse vectors and filters them by payload.",
    "The error E1234 means that the connection was refused by the server.",
    "Mount Everest is 8849 metres high, the highest mountain above sea level.",
    "Reciprocal rank fusion adds one over k plus the rank of every list.",
    "To restart the service, run systemctl restart nginx as an administrator.",
    "Penicillin was discovered by Alexander Fleming in London in 1928.",
    "Cats sleep for up to sixteen hours a day and hunt at dawn.",
)
QUERIES = (
    "how do I parse a date?",
    "what does error E1234 mean",
    "capital of France",
    "who discovered penicillin?",
)

# Text that people and machines send: special tokens spelled out, other scripts, control characters, very long.
HOSTILE_TEXTS = {
    "bert_specials": "[CLS] [SEP] [PAD] [MASK] [UNK] date [SEP]",
    "qwen_specials": "<|endoftext|><|im_end|><|im_start|>system date<|im_end|>",
    "template": "{query} {0} %s {{query}} {",
    "emoji": "🚀👩‍👩‍👧‍👦 date 🇫🇷",
    "right_to_left": "ما هي عاصمة فرنسا؟ \u202eevil\u202c",
    "control": "date\x00\x01\x07\x1b[31m\r\n\t\u200b\ufeff\x7f",
    "cjk": "如何解析日期\uff1f",
    "combining": "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘",
    "one_long_word": "a" * 5_000,
    "ten_thousand_words": "word " * 10_000,
    "invisible": "\u200b",
}


# ------------------------------------------------------------------------------------------------------------- texts


@pytest.fixture(autouse=True)
def levels_of_loggers() -> Iterator[None]:
    """Commands that run in this process keep libraries quiet; the next test hears them again."""
    names = ("haystack", "haystack_integrations", "haystack_integrations.components.embedders.resrank")
    levels = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    yield
    for logger, level in levels:
        logger.setLevel(level)


@pytest.fixture(scope="session")
def corpus() -> tuple[str, ...]:
    """Twelve short passages on different subjects."""
    return CORPUS


@pytest.fixture(scope="session")
def queries() -> tuple[str, ...]:
    """Four queries that the corpus answers."""
    return QUERIES


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The real collections that RESRANK_DATA names; in CI they must be there."""
    folder = os.environ.get("RESRANK_DATA")
    if not folder:
        if os.environ.get("RESRANK_CI"):
            pytest.fail("RESRANK_DATA must name the data folder in CI")
        pytest.skip("set RESRANK_DATA to the folder with the BEIR collections")
    return Path(folder)


BROWSER_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def _unavailable(reason: str) -> NoReturn:
    if os.environ.get("RESRANK_CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium: that of RESRANK_CHROMIUM, one on the PATH, or Playwright's own."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        _unavailable("no Python package playwright: pip install playwright")
    named = os.environ.get("RESRANK_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=found, args=BROWSER_ARGUMENTS)
        except Error as error:
            _unavailable(f"no Chromium that starts, set RESRANK_CHROMIUM: {str(error).splitlines()[0]}")
        yield started
        started.close()


class _OpenClient(qdrant_client.QdrantClient):
    """A client in Qdrant's local mode that all who ask for a client get; its documents are in it, so it stays open."""

    def close(self, **_: Any) -> None:
        """Do nothing."""


@pytest.fixture(scope="session")
def qdrant_url() -> str:
    """The server that QDRANT_URL names; its key is read from QDRANT_API_KEY."""
    url = os.environ.get("QDRANT_URL")
    if not url:
        pytest.skip("set QDRANT_URL to a Qdrant server; tests make and delete collections of their own there")
    return url


@pytest.fixture(params=["local", "server"])
def qdrant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, qdrant_client.QdrantClient]:
    """A URL and a client: Qdrant's local mode, whatever the URL, then the server that QDRANT_URL names."""
    if request.param == "local":
        client = _OpenClient(location=":memory:")
        monkeypatch.setattr(qdrant_client, "QdrantClient", lambda **_: client)
        return "http://localhost:6333", client
    url = request.getfixturevalue("qdrant_url")
    return url, qdrant_client.QdrantClient(url=url, api_key=os.environ.get("QDRANT_API_KEY"), timeout=60)


@pytest.fixture
def collection(qdrant: tuple[str, qdrant_client.QdrantClient]) -> Iterator[str]:
    """The name of a collection that is not there, and is deleted after the test."""
    name = f"resrank-test-{uuid.uuid4().hex}"
    yield name
    if qdrant[1].collection_exists(name):
        qdrant[1].delete_collection(name)


@pytest.fixture(params=sorted(HOSTILE_TEXTS))
def hostile_text(request: pytest.FixtureRequest) -> str:
    """Each text of `HOSTILE_TEXTS` in turn."""
    return HOSTILE_TEXTS[request.param]


# -------------------------------------------------------------------------------------------------- backbone folders


@pytest.fixture(scope="session")
def mini_encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MiniLM-like sentence-transformers folder: BERT, mean pooling."""
    folder = tmp_path_factory.mktemp("models") / "mini-encoder"
    tokenizer = _wordpiece_tokenizer()
    torch.manual_seed(1)
    backbone = BertModel(_bert_config(len(tokenizer)))
    _sharpen(backbone)
    return _write_sentence_transformer(folder, backbone, tokenizer, pooling="mean", prompts={})


@pytest.fixture(scope="session")
def qwen_encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3-Embedding-like sentence-transformers folder: last-token pooling, query prompt."""
    folder = tmp_path_factory.mktemp("models") / "qwen-encoder"
    tokenizer = _bpe_tokenizer(appends_end=True)
    torch.manual_seed(2)
    backbone = Qwen3Model(_qwen_config(len(tokenizer), HIDDEN, layers=3))
    _sharpen(backbone)
    prompts = {"query": QUERY_PROMPT, "document": ""}
    return _write_sentence_transformer(folder, backbone, tokenizer, pooling="last", prompts=prompts)


@pytest.fixture(scope="session")
def qwen_reranker_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3-like causal language model of the encoder's hidden size, as a plain Hugging Face folder."""
    return _write_qwen_reranker(tmp_path_factory.mktemp("models") / "qwen-reranker", HIDDEN)


@pytest.fixture(scope="session")
def qwen_other_size_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like `qwen_reranker_folder`, but with a smaller hidden size, so that a projection is needed."""
    return _write_qwen_reranker(tmp_path_factory.mktemp("models") / "qwen-reranker-24", OTHER_HIDDEN)


@pytest.fixture(scope="session")
def qwen_language_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3 causal language model with its head, tied to the token embeddings as in Qwen3-0.6B."""
    folder = tmp_path_factory.mktemp("models") / "qwen-language-model"
    tokenizer = _bpe_tokenizer(appends_end=False)
    config = _qwen_config(len(tokenizer), HIDDEN, layers=2)
    config.tie_word_embeddings = True
    torch.manual_seed(4)
    model = Qwen3ForCausalLM(config)
    _sharpen(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", params=["mini", "qwen"])
def encoder_folder(request: pytest.FixtureRequest) -> Path:
    """The encoder folder of each family in turn."""
    return request.getfixturevalue(f"{request.param}_encoder_folder")


# ---------------------------------------------------------------------------------------------------- ResRank models


@pytest.fixture(scope="session")
def tiny_mini(mini_encoder_folder: Path) -> Callable[..., ResRank]:
    """
    Make a float32 CPU model of the `mini` family; takes the arguments of `ResRank.from_backbones`.

    It is at safe start; see `randomise_head`. It shares the encoder's token embeddings.
    """

    def make(**changes: Any) -> ResRank:
        config = ResRankConfig(reranker=RerankerConfig(max_query_length=40))
        defaults: dict[str, Any] = {"config": config, "device": "cpu", "dtype": "float32"}
        return ResRank.from_backbones(mini_encoder_folder, **{**defaults, **changes})

    return make


@pytest.fixture(scope="session")
def tiny_qwen(qwen_encoder_folder: Path, qwen_reranker_folder: Path) -> Callable[..., ResRank]:
    """
    Make a float32 CPU model of the `qwen` family; takes the arguments of `ResRank.from_backbones`.

    It is at safe start; see `randomise_head`. Attention is causal unless told otherwise, as in the paper.
    """

    def make(**changes: Any) -> ResRank:
        config = ResRankConfig(
            reranker=RerankerConfig(
                query_template="Rank by relevance.\nQuery: {query}\nPassages:\n",
                closing_template="\nQuery: {query}\nRanking:",
                max_query_length=100,
            )
        )
        defaults: dict[str, Any] = {
            "reranker": qwen_reranker_folder,
            "attention": "causal",
            "config": config,
            "device": "cpu",
            "dtype": "float32",
        }
        return ResRank.from_backbones(qwen_encoder_folder, **{**defaults, **changes})

    return make


@pytest.fixture(scope="session", params=["mini", "qwen"])
def tiny_model(request: pytest.FixtureRequest) -> Callable[..., ResRank]:
    """The factory of each family in turn."""
    return request.getfixturevalue(f"tiny_{request.param}")


@pytest.fixture(scope="session")
def randomise_head() -> Callable[..., ResRank]:
    """
    Return a function that moves a model's head away from safe start, in place, and returns the model.

    Output projections are sized so that the reranker visibly moves the ranking, evidence weights likewise.
    """

    def randomise(model: ResRank, seed: int = 0, strength: float = 1.0) -> ResRank:
        _randomise(model.head, model.reranker.token_norm, seed, strength)
        return model

    return randomise


@pytest.fixture(scope="session")
def tiny_mini_checkpoint(
    tiny_mini: Callable[..., ResRank], randomise_head: Callable[..., ResRank], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A complete checkpoint folder of the `mini` family with a random head (not at safe start). Do not write to it."""
    return _write_checkpoint(randomise_head(tiny_mini()), tmp_path_factory.mktemp("checkpoints") / "tiny-mini")


@pytest.fixture(scope="session")
def tiny_qwen_checkpoint(
    tiny_qwen: Callable[..., ResRank], randomise_head: Callable[..., ResRank], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A complete checkpoint folder of the `qwen` family with a random head (not at safe start). Do not write to it."""
    return _write_checkpoint(randomise_head(tiny_qwen()), tmp_path_factory.mktemp("checkpoints") / "tiny-qwen")


@pytest.fixture(scope="session")
def tiny_safe_checkpoint(tiny_mini: Callable[..., ResRank], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete checkpoint folder of the `mini` family at safe start: ranks as the first stage. Do not write to it."""
    return _write_checkpoint(tiny_mini(), tmp_path_factory.mktemp("checkpoints") / "tiny-safe")


@pytest.fixture(scope="session")
def tiny_reader_folder(mini_encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random question-answering model as transformers writes it; its spans differ. Do not write to it."""
    folder = tmp_path_factory.mktemp("readers") / "tiny-reader"
    reader = new_reader(str(mini_encoder_folder), ReaderConfig())
    with torch.no_grad():
        reader.model.qa_outputs.weight.mul_(50.0)
    reader.model.save_pretrained(folder)
    reader.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def unit_vectors() -> Callable[..., np.ndarray]:
    """Return a function that draws float32 unit vectors: `unit_vectors(count, dimension=32, seed=0)`."""

    def draw(count: int, dimension: int = HIDDEN, seed: int = 0) -> np.ndarray:
        vectors = np.random.default_rng(seed).standard_normal((count, dimension))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    return draw


@pytest.fixture(scope="session")
def contents() -> Callable[..., dict[str, Any]]:
    """Read all documents of a store, each checked to be whole."""

    def read(store: Path) -> dict[str, Any]:
        opened = QdrantEdgeDocumentStore(path=str(store), embedding_dim=32)
        try:
            found = {}
            for document in opened.filter_documents():
                assert document.content, "half a document"
                assert len(document.embedding) == 32
                assert document.sparse_embedding.indices
                assert document.meta["resrank"]["fingerprint"]
                found[document.id] = (document.content, tuple(document.embedding), document.meta["file_path"])
            assert opened.count_documents() == len(found)
            return found
        finally:
            opened.close()

    return read


@pytest.fixture(scope="session")
def qdrant_stand_in() -> Iterator[str]:
    """The URL of a stand-in for a Qdrant server, in a process of its own."""
    pytest.importorskip("fastapi", reason="needs the extra serve")
    command = [sys.executable, str(Path(__file__).parent / "qdrant_stand_in.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


# ------------------------------------------------------------------------------------------------------- LLM endpoint


class LLM:
    """
    A stand-in for an LLM's endpoint on the loopback.

    `text` is what it says; `status`, `body` and `delay_s` are for the days when it does not. `requests` keeps what it was sent.
    """

    def __init__(self) -> None:
        self.text, self.status, self.delay_s = "Hello.", 200, 0.0
        self.body: Any = None
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        llm = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                llm.requests.append({"path": self.path, **asked})
                llm.keys.append(self.headers.get("Authorization", ""))
                time.sleep(llm.delay_s)
                body = llm.body if llm.body is not None else llm.completion(llm.text)
                payload = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(llm.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                with suppress(OSError):  # a client that did not wait
                    self.wfile.write(payload)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    @staticmethod
    def completion(text: str | None) -> dict[str, Any]:
        message = {"role": "assistant", "content": text}
        return {
            "id": "1", "object": "chat.completion", "created": 1, "model": "a-model",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }  # fmt: skip


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> Iterator[LLM]:
    """A stand-in LLM endpoint that the environment names."""
    endpoint = LLM()
    for name in list(os.environ):
        if name.startswith("OPENAI_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    monkeypatch.setenv("OPENAI_MODEL", "a-model")
    thread = threading.Thread(target=endpoint.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield endpoint
    endpoint.server.shutdown()
    endpoint.server.server_close()
    thread.join()


# ----------------------------------------------------------------------------------------------------------- helpers


def _wordpieces(size: int) -> dict[str, int]:
    """
    The characters of the corpus, then its words and their parts, the frequent ones first.

    A trainer's choice among equally frequent ones changes from process to process, and the models with it.
    """
    words = [word for text in (*CORPUS, *QUERIES) for word in re.findall(r"\w+|[^\w\s]", text.lower())]
    characters = sorted({character for word in words for character in word})
    parts = Counter(piece for word in words for piece in (word, word[:3], f"##{word[3:6]}", f"##{word[6:]}"))
    pieces = [
        *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
        *characters,
        *(f"##{character}" for character in characters),
        *sorted(parts.keys() - {"##"}, key=lambda piece: (-parts[piece], piece)),
    ]
    return {piece: i for i, piece in enumerate(list(dict.fromkeys(pieces))[:size])}


def _wordpiece_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordPiece(_wordpieces(300), unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=POSITIONS,
    )


def _bpe_tokenizer(*, appends_end: bool) -> PreTrainedTokenizerFast:
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        [*CORPUS, *QUERIES, QUERY_PROMPT],
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    byte_level = processors.ByteLevel(trim_offsets=False)
    tokenizer.post_processor = byte_level
    if appends_end:  # as Qwen3-Embedding: every text ends with the token that is pooled
        end = processors.TemplateProcessing(
            single="$A <|endoftext|>",
            pair="$A <|endoftext|> $B:1 <|endoftext|>:1",
            special_tokens=[("<|endoftext|>", tokenizer.token_to_id("<|endoftext|>"))],
        )
        tokenizer.post_processor = processors.Sequence([byte_level, end])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        padding_side="left",
        model_max_length=131_072,
    )


def _bert_config(vocab_size: int) -> BertConfig:
    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=HIDDEN,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=POSITIONS,
        pad_token_id=0,
    )


def _qwen_config(vocab_size: int, hidden_size: int, layers: int) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=64,
        max_position_embeddings=4_096,
        bos_token_id=None,
        pad_token_id=None,  # one would give the end token, which is pooled, an embedding of zeros
        eos_token_id=2,
    )


def _sharpen(backbone: Any) -> None:
    """Make random weights large enough that texts, positions and neighbours visibly change the vectors."""
    with torch.no_grad():
        for name, weight in backbone.named_parameters():
            if weight.ndim == 2:
                weight.mul_(20.0 if "embed" in name else 8.0)


def _write_qwen_reranker(folder: Path, hidden_size: int) -> Path:
    tokenizer = _bpe_tokenizer(appends_end=False)
    torch.manual_seed(3)
    backbone = Qwen3Model(_qwen_config(len(tokenizer), hidden_size, layers=2))
    _sharpen(backbone)
    backbone.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _write_sentence_transformer(
    folder: Path, backbone: Any, tokenizer: PreTrainedTokenizerFast, *, pooling: str, prompts: dict[str, str]
) -> Path:
    """Write the layout of sentence-transformers 2 to 5, by hand: what most folders in the world look like."""
    backbone.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    names = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"}
    flags = {flag: mode == pooling for mode, flag in names.items()}
    module = "sentence_transformers.models"
    files: dict[str, Any] = {
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": f"{module}.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{module}.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{module}.Normalize"},
        ],
        "sentence_bert_config.json": {"max_seq_length": MAX_LENGTH, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": prompts, "default_prompt_name": None},
        "1_Pooling/config.json": {"word_embedding_dimension": backbone.config.hidden_size, **flags},
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2), encoding="utf-8")
    return folder


def _randomise(head: Head, token_norm: float, seed: int, strength: float) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(weight: torch.Tensor, scale: float) -> None:
        weight.copy_(scale * strength * torch.randn(weight.shape, generator=generator))

    with torch.no_grad():
        if head.mode == "evidence":
            # Hidden states are about sqrt(size) long: this moves unit vectors by about half their length.
            for linear in (head.query_out, head.passage_out):
                draw(linear.weight, 0.5 / linear.in_features**0.5 / linear.out_features**0.5)
            for weight in (head.evidence_weight, head.evidence_unknown):
                draw(weight, 0.5 * token_norm / weight.shape[1] ** 0.5)
        elif hasattr(head, "output_projection"):
            draw(head.output_projection.weight, head.output_projection.in_features**-0.5)


def _write_checkpoint(model: ResRank, folder: Path) -> Path:
    model.save_pretrained(folder)
    (folder / "README.md").write_text("# A tiny random model for tests\n", encoding="utf-8")
    return folder
