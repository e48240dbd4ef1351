# make demo, make test: each sets up what it needs and runs. Only Python 3.11+ and make are asked for.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-slow lint types scan bench eval eval-peers eval-full mini reader peers ablations clean

demo: $(VENV)/.demo
	$(BIN)/resrank demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy components evals model pipelines training

# Secrets in tracked files that .secrets.baseline does not know, and known weaknesses of the installed packages.
# What is no secret: detect-secrets scan --baseline .secrets.baseline, after a look at the line.
scan: $(VENV)/.dev
	cp .secrets.baseline $(VENV)/secrets.baseline  # it notes moved lines there, and ends with 3
	$(BIN)/detect-secrets-hook --baseline $(VENV)/secrets.baseline $$(git ls-files) || test $$? = 3
	$(BIN)/python .ci/audit.py

# Collections: the BEIR folders in RESRANK_DATA (docs/data.md), or those that COLLECTIONS names.
# Those with gold answers are answered from as well. The cross-encoder is that of `make peers`, once it is trained.
READER := model/resrank/checkpoints/resrank-reader-mini
COLLECTIONS ?=
ANSWERED := $(sort $(patsubst %/,%,$(dir $(wildcard $(addsuffix /answers.jsonl*,$(or $(COLLECTIONS),$(wildcard $(RESRANK_DATA)/*)))))))
MINI ?= .resrank/mini
PEERS := $(MINI)/peers
comma := ,
OURS := -s bm25 -s dense -s rrf -s resrank
CROSS_ENCODER := $(if $(wildcard $(PEERS)/cross-encoder/teacher.json),-s cross-encoder:$(PEERS)/cross-encoder$(comma)depth=20)
EVAL := $(BIN)/resrank-eval ir $(COLLECTIONS) --queries 100 --duplicate-ids first $(OURS)
eval: $(VENV)/.eval
	$(EVAL) $(CROSS_ENCODER)
	$(if $(and $(wildcard $(READER)),$(ANSWERED)),$(BIN)/resrank-eval rag $(ANSWERED) --queries 100 --duplicate-ids first $(OURS) $(CROSS_ENCODER))

# All peers of `make peers`. They read the first 20 candidates: a text takes two cores about 20 ms. Haystack's own components
# (embedder, vector search, that cross-encoder) need an index of their encoder, so their results have a folder of their own.
STOCK := evals/resrank_evals/definitions/stock_haystack.yaml
eval-peers: $(VENV)/.eval
	$(EVAL) -s cross-encoder:$(PEERS)/cross-encoder,depth=20 -s pe-rank:$(PEERS)/pe-rank,depth=20,window=10 \
	  -s e2rank:$(PEERS)/e2rank,depth=20,k=10,length=256,prompt=36,query=64
	test -e $(MINI)/base || $(TRAIN) new --encoder all-MiniLM-L6-v2 --out $(MINI)/base
	sed -e 's|sentence-transformers/all-MiniLM-L6-v2|$(MINI)/base/encoder|' -e 's|cross-encoder/ms-marco-MiniLM-L6-v2|$(PEERS)/cross-encoder|' \
	  -e 's|top_k: 100|top_k: 20|' $(STOCK) > $(PEERS)/stock_haystack.yaml
	$(BIN)/resrank-eval ir $(COLLECTIONS) --queries 100 --duplicate-ids first --model $(MINI)/base --out .resrank/results-stock \
	  -s dense -s $(PEERS)/stock_haystack.yaml

eval-full: $(VENV)/.eval
	$(BIN)/resrank-eval ir $(COLLECTIONS) --duplicate-ids first --out .resrank/results-full

# resrank-mini from all-MiniLM-L6-v2, on the train splits in RESRANK_DATA: about two hours on 2 cores. Started again, it goes on.
TRAIN := $(BIN)/resrank-train
MINE := $(TRAIN) mine --duplicate-ids first --stores $(MINI)/stores
LISTS := $(MINI)/lists/own
QUESTIONS := $(addprefix $(RESRANK_DATA)/,squad fairytaleqa squadshifts nq_gold qamr medquad)
mini: export RESRANK_MINI = $(MINI)
mini: $(VENV)/.dev
	test -n '$(RESRANK_DATA)' || { echo 'Set RESRANK_DATA to a folder of collections (docs/data.md)'; exit 1; }
	test -e $(MINI)/base || $(TRAIN) new --encoder all-MiniLM-L6-v2 --out $(MINI)/base
	$(MINE) $(QUESTIONS) --model $(MINI)/base --queries 4000 --out $(MINI)/lists/base/train
	$(TRAIN) fit mini_encoder --out $(MINI)/encoder/run
	test -e $(MINI)/encoder/model || $(TRAIN) export $(MINI)/encoder/run/model --out $(MINI)/encoder/model \
	  --adapter-base all-MiniLM-L6-v2 --weights float16
	$(MINE) $(QUESTIONS) --model $(MINI)/encoder/model --queries 4000 --out $(LISTS)/train
	$(MINE) $(QUESTIONS) --model $(MINI)/encoder/model --queries 300 --split dev --out $(LISTS)/dev
	$(MINE) $(addprefix $(RESRANK_DATA)/,cacm lisa climate_fever_sent) --model $(MINI)/encoder/model --queries 300 --split test \
	  --out $(LISTS)/dev
	$(MINE) $(addprefix $(RESRANK_DATA)/,squad nq_gold qamr) --model $(MINI)/encoder/model --queries 2000 --query-form keywords \
	  --out $(LISTS)/train
	$(MINE) $(addprefix $(RESRANK_DATA)/,squad nq_gold) --model $(MINI)/encoder/model --queries 2000 --derive sentences \
	  --out $(LISTS)/train
	$(MINE) $(addprefix $(RESRANK_DATA)/,nq_gold fairytaleqa medquad squad) --model $(MINI)/encoder/model --queries 2000 \
	  --derive titles --out $(LISTS)/train
	$(TRAIN) fit mini --out $(MINI)/reranker
	test -e $(MINI)/resrank-mini || $(TRAIN) export $(MINI)/reranker/model --out $(MINI)/resrank-mini --title resrank-mini \
	  --encoder-from $(MINI)/encoder/model --weights float16 --run $(MINI)/encoder/run --run $(MINI)/reranker

# resrank-reader-mini, the reader of `resrank ask`: under an hour on 2 cores. Started again, it goes on.
READ := $(addprefix $(RESRANK_DATA)/,squad squadshifts nq_gold fairytaleqa)
reader: $(VENV)/.dev
	test -n '$(RESRANK_DATA)' || { echo 'Set RESRANK_DATA to a folder of collections (docs/data.md)'; exit 1; }
	$(MINE) $(READ) --model resrank-mini --queries 4000 --out $(MINI)/lists/reader
	$(TRAIN) reader $(READ) --duplicate-ids first --dev dev --out $(MINI)/reader \
	  $(addprefix --lists $(MINI)/lists/reader/,$(notdir $(READ)))

# The recipe of resrank-mini without each of its parts, after `make mini`: under an hour.
ablations: export RESRANK_MINI = $(MINI)
ablations: $(VENV)/.dev
	test -e $(MINI)/encoder/full || $(TRAIN) export $(MINI)/encoder/model --out $(MINI)/encoder/full
	$(TRAIN) ablate mini_ablations --out $(MINI)/ablations

# What ResRank is compared with, trained on the lists of `make mini` (docs/training.md): about an hour and a half on 2 cores. Goes on, too.
LEARN := $(addprefix $(LISTS)/train/,$(notdir $(QUESTIONS)))
peers: $(VENV)/.dev
	test -e $(PEERS)/cross-encoder/teacher.json || $(TRAIN) teacher $(LEARN) --out $(PEERS)/cross-encoder \
	  --negatives 3 --learning-rate 5e-5 --max-steps 300 --save-steps 50
	test -e $(PEERS)/pe-rank/training.json || $(TRAIN) peer pe-rank $(LEARN) --model resrank-mini --out $(PEERS)/pe-rank \
	  --candidates 10 --max-passage-length 24 --unjudged tied --align-steps 0 --steps 185
	test -e $(PEERS)/e2rank/training.json || $(TRAIN) peer e2rank $(LEARN) --out $(PEERS)/e2rank --embed-steps 60 --steps 85

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("resrank needs Python 3.11 or newer, this is " + sys.version) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing resrank (a few minutes the first time: PyTorch is large) ..."
	$(PIP) --constraint constraints.txt --editable '.[mini]'
	touch $@

$(VENV)/.eval: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing resrank and its evaluation tools (a few minutes the first time: PyTorch is large) ..."
	$(PIP) --constraint constraints.txt --editable '.[mini,evals]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing resrank and its test tools (a few minutes the first time: PyTorch is large) ..."
	$(PIP) --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
