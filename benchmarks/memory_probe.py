# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
One stage of the memory benchmark: `python -m benchmarks.memory_probe STAGE FOLDER` prints JSON.

The peak is the kernel's high-water mark of this process (`VmHWM`). `resource.getrusage` is only the fallback: on Linux
its `ru_maxrss` starts at the size of the process that launched this one.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

STAGES = {
    "import": "resrank: import only",
    "encoder": "resrank: encoder loaded",
    "reranker": "resrank: encoder and reranker loaded",
    "index": "resrank: embed and write passages (Haystack, embedded store)",
    "rerank": "resrank: rerank candidates",
    "peers_loaded": "peers: SentenceTransformer and CrossEncoder loaded",
    "peers_rerank": "peers: loaded, CrossEncoder on full texts",
}


def main(stage: str, folder: Path) -> dict[str, float]:
    """
    Go through a stage.

    :param stage: of `STAGES`.
    :param folder: holds `job.json`, and `cross-encoder/` for the peers.
    :returns: memory in MiB: after the imports, at the peak, at the end.
    """
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    _import(stage)
    imports = _peak_mib()
    kept = _work(stage, folder, job)
    measured = {"imports_mib": imports, "peak_mib": _peak_mib(), "resident_mib": _resident_mib()}
    del kept
    return measured


def _import(stage: str) -> None:
    modules = ["resrank.model", "transformers.models.bert.modeling_bert"]
    if stage == "index":
        modules += [f"haystack_integrations.{part}.resrank" for part in ("components.embedders", "document_stores")]
    if stage.startswith("peers"):
        modules.append("sentence_transformers")
    for module in modules:
        import_module(module)


def _work(stage: str, folder: Path, job: dict[str, Any]) -> Any:
    """Do the work; what is returned stays in memory until it is measured."""
    if stage == "import":
        return None
    if stage.startswith("peers"):
        return _peers(stage, folder, job)
    if stage == "index":
        return _index(folder, job)
    from resrank import ResRank

    from .passages import QUERY

    model = ResRank.from_pretrained(device=job["device"], dtype=job["dtype"], attn_implementation="sdpa")
    model.load(*(["encoder"] if stage == "encoder" else []))
    if stage == "rerank":
        from .candidates import synthetic

        synthetic(QUERY, job["reranked_candidates"], model.dimension).rerank(model, QUERY)
    return model


def _index(folder: Path, job: dict[str, Any]) -> Any:
    from haystack import Document

    from haystack_integrations.common.resrank import ResRankModel
    from haystack_integrations.components.embedders.resrank import ResRankDocumentEmbedder
    from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore

    handle = ResRankModel(device=job["device"], dtype=job["dtype"], attn_implementation="sdpa")
    embedder = ResRankDocumentEmbedder(model=handle, progress_bar=False)
    store = QdrantEdgeDocumentStore(path=str(folder / "store"))
    store.write_documents(embedder.run(documents=[Document(content=text) for text in job["texts"]])["documents"])
    return embedder, store


def _peers(stage: str, folder: Path, job: dict[str, Any]) -> Any:
    from resrank.runtime import Runtime

    from .passages import QUERY
    from .peers import load_cross_encoder, sentence_transformer

    runtime = Runtime.resolve(job["device"], job["dtype"], "sdpa")
    encoder, reranker = sentence_transformer(runtime), load_cross_encoder(folder / "cross-encoder", runtime)
    if stage == "peers_rerank":
        reranker.predict([(QUERY, text) for text in job["texts"][: job["full_texts"]]], show_progress_bar=False)
    return encoder, reranker


def _resident_mib() -> float:
    return _kernel_kib("VmRSS") / 1_024


def _peak_mib() -> float:
    return _kernel_kib("VmHWM") / 1_024


def _kernel_kib(field: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(f"{field}:")))
    except (OSError, StopIteration):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1_024 if sys.platform == "darwin" else peak  # bytes on macOS, KiB elsewhere


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
