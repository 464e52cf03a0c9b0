# Every target makes .venv when it is missing: plain python3 -m venv and pip, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROTO_VENV := .venv-proto
PROTO_STAMP := $(PROTO_VENV)/.installed
SPARK_VENV := .venv-spark
SPARK_STAMP := $(SPARK_VENV)/.installed
COMPILED := $(shell find server -name '*.pyx')
PROTOS := $(shell find protos -name '*.proto')

.PHONY: demo serve test faults mutations spark lint lint-python lint-types lint-protos bench proto
.DEFAULT_GOAL := demo

$(STAMP): pyproject.toml constraints.txt hatch_build.py $(COMPILED)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (about a minute the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[server,datasets,openlineage,mlflow,dvc,otel,frames,dev]'
	@# As pip would, but on all cores. Some packages have files that are not meant to be compiled: pip passes over them too.
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@

$(PROTO_STAMP): Makefile
	@test -x $(PROTO_VENV)/bin/python || $(PYTHON) -m venv $(PROTO_VENV)
	@# The oldest protobuf that Feast supports: generated code runs on the runtimes after it, not before it.
	@$(PROTO_VENV)/bin/python -m pip install --quiet --disable-pip-version-check 'grpcio-tools==1.62.3' 'setuptools<81' 'buf-bin==1.75.0'
	@touch $@

$(SPARK_STAMP): pyproject.toml constraints.txt hatch_build.py $(COMPILED)
	@test -x $(SPARK_VENV)/bin/python || $(PYTHON) -m venv $(SPARK_VENV)
	@echo "installing into $(SPARK_VENV) (pyspark is 430 MB: some minutes the first time)"
	@$(SPARK_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[server,frames,spark,dev]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/python demo/run.py

serve: $(STAMP) feature_repo/data/registry.db
	@$(BIN)/hindcast serve --repo feature_repo --workers 2

# The demo's repo, ready to serve. Its files are made once; `feast apply` and `feast materialize-incremental` are yours then.
feature_repo/data/registry.db: | $(STAMP)
	@$(BIN)/python demo/generate.py --repo feature_repo
	@cd feature_repo && ../$(BIN)/feast apply
	@cd feature_repo && ../$(BIN)/feast materialize-incremental "$$(date -u +%Y-%m-%dT%H:%M:%S)"

test: $(STAMP)
	@$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder

# Every fault 20 times over; `make test` has each of them twice.
faults: $(STAMP)
	@HINDCAST_FAULT_CYCLES=20 $(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder tests/faults tests/property/test_segments.py

# 200 random changes of what a training set was made of, each of which a rebuild must name; `make test` has 24 of them.
mutations: $(STAMP)
	@HINDCAST_MUTATIONS=200 $(BIN)/python -m pytest --numprocesses=auto --dist=load tests/integration/test_rebuild_mutations.py

# The offline store on Spark, in local mode, against DuckDB. Needs Java 17; `make test` does not.
spark: $(SPARK_STAMP)
	@$(SPARK_VENV)/bin/python -m pytest tests/spark

# Beside each other, what they install too; what each says stays together.
lint:
	@$(MAKE) --no-print-directory --jobs=4 --output-sync=target lint-python lint-types lint-protos

lint-python: $(STAMP)
	@$(BIN)/ruff check --no-cache
	@$(BIN)/ruff format --check
	@$(BIN)/lint-imports --no-cache

lint-types: $(STAMP)
	@$(BIN)/mypy

lint-protos: $(STAMP) $(PROTO_STAMP)
	@$(PROTO_VENV)/bin/buf lint protos
	@PYTHON=$(PROTO_VENV)/bin/python FEAST_PYTHON=$(BIN)/python protos/generate --check

bench: $(STAMP)
	@$(BIN)/python benchmarks/run.py

proto: $(STAMP) $(PROTO_STAMP)
	@PYTHON=$(PROTO_VENV)/bin/python FEAST_PYTHON=$(BIN)/python protos/generate
