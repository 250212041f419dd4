# SPDX-License-Identifier: Apache-2.0

GO ?= go
.DEFAULT_GOAL := help

# What `make bench` measures; see CONTRIBUTING.md.
BENCH ?= .
COUNT ?= 1
BENCHTIME ?= 0.5s
PKG ?= ./...
FUZZTIME ?= 10s

# Flags for `make bench-peers`, for instance PEERS='-rounds 5 -only "volley|make"'.
PEERS ?=

PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64

# Tools are built once per version: the folder's name is a checksum of the
# pinned versions and the compiler. A time stamp would rebuild them after every
# clone and miss a switch of branches.
TOOLS_KEY := $(shell { cat internal/tools/go.mod internal/tools/lint/go.mod; $(GO) env GOVERSION GOOS GOARCH; } | cksum | cut -d' ' -f1)
TOOLS := $(CURDIR)/.bin/$(TOOLS_KEY)
BUF := $(TOOLS)/buf
GOFUMPT := $(TOOLS)/gofumpt
BENCHSTAT := $(TOOLS)/benchstat
GOLANGCI_LINT := $(TOOLS)/golangci-lint

GENERATED := proto/volley

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/volley
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/volley ./cmd/volley

.PHONY: examples
examples: ## Build the programs that the examples run
	CGO_ENABLED=0 $(GO) build -trimpath -o examples/digits/train ./examples/digits
	CGO_ENABLED=0 $(GO) build -trimpath -o examples/images/classify ./examples/images

.PHONY: demo
demo: build examples ## Run the digits sweep, embedded, and rank its result
	@set -e; dir=$$(mktemp -d); \
	trap 'rm -rf "$$dir"' EXIT; trap 'exit 130' INT; trap 'exit 143' TERM; \
	cd "$$dir"; \
	echo '$$ volley run examples/digits/sweep.yaml'; \
	'$(CURDIR)/bin/volley' run '$(CURDIR)/examples/digits/sweep.yaml'

.PHONY: deps
deps: ## Install system packages that the tests need (none so far)
	@echo 'nothing to install: Go is enough'

.PHONY: test
test: deps ## Vet and run all tests
	$(GO) vet ./...
	$(GO) test ./...

.PHONY: race
race: ## Run all tests under the race detector, in random order
	CGO_ENABLED=1 $(GO) test -race -shuffle=on ./...

.PHONY: lint
lint: $(GOLANGCI_LINT) $(BUF) $(GOFUMPT) ## Lint Go and protobuf
	$(GOLANGCI_LINT) run ./...
	$(BUF) lint
	@set -e; out=$$($(GOFUMPT) -l .); \
	if [ -n "$$out" ]; then echo "not formatted (make fmt):"; echo "$$out"; exit 1; fi

.PHONY: fmt
fmt: $(GOLANGCI_LINT) ## Format all Go files
	$(GOLANGCI_LINT) fmt ./...

.PHONY: generate
generate: $(BUF) ## Generate the Go code of the protobuf files
	$(BUF) generate

.PHONY: generate-check
generate-check: generate ## Fail when committed generated code is stale
	git diff --exit-code -- $(GENERATED)
	@set -e; new=$$(git ls-files --others --exclude-standard -- $(GENERATED)); \
	if [ -n "$$new" ]; then echo "generated, not committed:"; echo "$$new"; exit 1; fi

.PHONY: tidy-check
tidy-check: ## Fail when a go.mod is not tidy
	@set -e; for mod in go.mod internal/tools/go.mod internal/tools/lint/go.mod; do \
		echo "$$mod"; (cd "$$(dirname "$$mod")" && $(GO) mod tidy -diff); \
	done

.PHONY: cross
cross: ## Build every package for all platforms, without cgo
	@set -e; for p in $(PLATFORMS); do \
		echo "$$p"; \
		CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) build ./...; \
	done

# All of them take less than ten minutes on two cores. Packages run one after
# the other: two that measure at once measure each other.
BENCHMARKS = $(GO) test -p 1 -run '^$$' -bench '$(BENCH)' -benchmem -benchtime $(BENCHTIME) -count $(COUNT) -timeout 60m $(PKG)

.PHONY: bench
bench: ## Run benchmarks (BENCH=regexp PKG=./... COUNT=1 BENCHTIME=0.5s)
	$(BENCHMARKS)

.PHONY: bench-baseline
bench-baseline: ## Record bench/baseline.txt, on a quiet machine (COUNT=6)
	@set -e; out=$$(mktemp); trap 'rm -f "$$out"' EXIT; \
	{ echo "# $$(date -u +%Y-%m-%d), $$(git rev-parse --short HEAD), $$(uname -sr), $$(getconf _NPROCESSORS_ONLN) CPUs, $$($(GO) env GOVERSION)"; \
	$(BENCHMARKS); } >"$$out"; \
	grep -v -e '^ok ' -e '^?' -e '^PASS' "$$out" >bench/baseline.txt; \
	echo "bench/baseline.txt: $$(grep -c ^Benchmark bench/baseline.txt) results"

.PHONY: bench-compare
bench-compare: $(BENCHSTAT) ## Run benchmarks and compare with bench/baseline.txt
	@test -f bench/baseline.txt || { echo 'there is no bench/baseline.txt: make bench-baseline records it'; exit 1; }
	@set -e; out=$$(mktemp); trap 'rm -f "$$out"' EXIT; \
	$(BENCHMARKS) >"$$out" || { cat "$$out"; exit 1; }; \
	$(BENCHSTAT) bench/baseline.txt "$$out"

.PHONY: bench-once
bench-once: ## Run every benchmark once, so that none rots
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 15m ./...

.PHONY: bench-peers
bench-peers: build ## Compare with xargs, make, parallel, Slurm, Dask, Ray, HyperQueue (Linux, root)
	@mkdir -p .bench
	CGO_ENABLED=0 $(GO) build -trimpath -o .bench/peers ./bench/peers
	.bench/peers $(PEERS)

.PHONY: fuzz
fuzz: ## Run every fuzz target for a short time (FUZZTIME=10s)
	.ci/fuzz $(FUZZTIME)

.PHONY: tools
tools: $(BUF) $(GOFUMPT) $(BENCHSTAT) $(GOLANGCI_LINT) ## Build the pinned tools into .bin

$(BUF):
	CGO_ENABLED=0 $(GO) build -modfile=internal/tools/go.mod -trimpath -o $@ github.com/bufbuild/buf/cmd/buf

$(GOFUMPT):
	CGO_ENABLED=0 $(GO) build -modfile=internal/tools/go.mod -trimpath -o $@ mvdan.cc/gofumpt

$(BENCHSTAT):
	CGO_ENABLED=0 $(GO) build -modfile=internal/tools/go.mod -trimpath -o $@ golang.org/x/perf/cmd/benchstat

$(GOLANGCI_LINT):
	CGO_ENABLED=0 $(GO) build -modfile=internal/tools/lint/go.mod -trimpath -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

.PHONY: clean
clean: ## Remove everything that make built
	rm -rf bin .bin examples/digits/train examples/images/classify
