# meshd: `make help` lists the targets. Go (see go.mod) and make are all that `build` and `demo` need.
GO      ?= go
BIN     := bin/meshd
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
FUZZTIME ?= 20s
CHAOS_TIME ?= 5m
CHAOS_SEED ?=
BENCH ?= .
# As root the tests install what they need, and a test that cannot run is a failure.
ifeq ($(shell id -u),0)
export MESHD_REQUIRE_ALL ?= 1
endif

.DEFAULT_GOAL := help
.PHONY: help build demo sim-goals lab test race fuzz e2e chaos bench lint vuln tidy generate check clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/meshd
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/meshd

demo: build ## Run a whole mesh on this machine and pull an image through every node (ARGS="--nodes 8")
	./$(BIN) demo $(ARGS)

sim-goals: build ## Simulate every scenario that has goals and print what is reached (ARGS="--quick --baseline")
	./$(BIN) sim goals $(ARGS)

lab: build ## Run the lab scenarios as real processes and print simulator and lab beside each other (Linux, root; ARGS="--slower 5 lab-3x7")
	./$(BIN) sim lab $(ARGS)

test: ## Run every test, end to end ones included (as root: installs what they need)
	@.ci/install
	$(GO) test -timeout 30m ./...

race: ## Run the tests with the race detector, without the long ones
	GO=$(GO) .ci/race $$($(GO) list ./... | grep -v /e2e)

fuzz: ## Fuzz every fuzz target for FUZZTIME (20s) each
	@set -e; for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p; \
	  done; done

e2e: ## Run only the end-to-end tests: registry, dockerd, containerd, podman, buildah, skopeo, crane and more
	@.ci/install
	$(GO) test -count=1 -v -timeout 30m ./e2e

chaos: ## Random faults for CHAOS_TIME (5m) while clients pull, replayed by CHAOS_SEED; liars of every kind (docs/testing.md)
	@.ci/install
	MESHD_CHAOS_TIME=$(CHAOS_TIME) MESHD_CHAOS_SEED=$(CHAOS_SEED) $(GO) test -count=1 -v -timeout 90m -run '^(TestChaos|TestLiars)$$' ./e2e

bench: ## Measure speed, CPU and memory beside curl, nginx and a Go file server; prints tables (docs/performance.md)
	@.ci/install bench
	$(GO) test -count=1 -run '^$$' -bench Plane -benchtime 5x -timeout 60m ./exchange
	$(GO) test -count=1 -run '^$$' -bench '$(BENCH)' -benchtime 3x -timeout 120m ./e2e

lint: ## Check format, vet and staticcheck
	@out=$$($(GO) tool gofumpt -l .); [ -z "$$out" ] || { echo "gofumpt would change:"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) vet -C e2e/clients ./...

vuln: ## Look the dependencies up in the Go vulnerability database (needs the network)
	$(GO) tool govulncheck ./...

tidy: ## Tidy go.mod
	$(GO) mod tidy

generate: ## Rewrite what is generated: the config table of the README
	$(GO) test ./cmd/meshd -run TestReadmeConfigTable -update

check: lint race test ## What CI runs

clean: ## Remove build output
	rm -rf bin dist
