# Everything here also works by hand; the targets are the commands that people need often.

GO       ?= go
PACKAGES ?= ./...
# What runs under the race detector: where goroutines share something.
RACE     ?= ./internal/...
FUZZTIME ?= 30s
SOAK     ?= 1h
DEVICES  ?= 15000
TESTFLAGS = -timeout 10m

.PHONY: help build check lint test race screenshots bench bench-go bench-broker conformance-postgres conformance-cluster allocs deploy-check demo verify fuzz soak faults

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build bin/drover
	$(GO) build -trimpath -o bin/drover ./cmd/drover

check: lint test ## Format, vet, linters, import rules and tests: what a change must pass

lint: ## Format, vet, staticcheck, errcheck and import rules, without the other tests
	@unformatted="$$(gofmt -l cmd conformance internal)"; \
	if [ -n "$$unformatted" ]; then printf 'not formatted (gofmt -w):\n%s\n' "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) tool errcheck ./...
	$(GO) test ./internal/
	scripts/govulncheck.sh
	scripts/deploy-check.sh

deploy-check: ## Check what is in deploy with the tools that are there: systemd-analyze, hadolint, kubectl, promtool
	scripts/deploy-check.sh

test: ## Set up what the tests need, say what that is, and run all tests
	@scripts/setup-tests.sh
	scripts/gotest.sh $(TESTFLAGS) $(PACKAGES)

race: ## Run the tests under the race detector (needs a C compiler)
	scripts/gotest.sh $(TESTFLAGS) -race $(RACE)

bench: ## Measure drover beside mosquitto, all parts (20 minutes, quiet machine, 20,000 open files); figures in bench.json
	$(GO) build -o bin/drover ./cmd/drover && bin/drover bench --json bench.json

bench-go: ## Run every benchmark of the packages once
	$(GO) test -run '^$$' -bench . -benchtime 1x -benchmem $(TESTFLAGS) $(PACKAGES)

bench-broker: ## What the MQTT broker costs, in a process of its own, and mosquitto beside it if installed; needs 20,000 open files
	$(GO) test -run '^$$' -bench Cost -benchtime 1x $(TESTFLAGS) ./internal/broker

conformance-postgres: ## The conformance suite with PostgreSQL as the database
	scripts/gotest.sh $(TESTFLAGS) ./conformance -store postgres

conformance-cluster: ## The conformance suite with three servers on one PostgreSQL, behind a load balancer (3 minutes)
	scripts/gotest.sh $(TESTFLAGS) ./conformance -nodes 3

allocs: ## Check that no request allocates more often than scripts/allocs.txt says
	scripts/allocs.sh

faults: ## Servers, databases and disks that fail under load, one after another, and what must be true afterwards (3 minutes)
	scripts/gotest.sh -timeout 20m ./conformance -run '^TestFaults$$' -faults

demo: ## A server, 25 simulated devices and a job, start to end
	$(GO) run ./cmd/drover demo

verify: ## Check that go.mod and generated files are up to date
	$(GO) mod tidy -diff
	$(GO) generate ./...
	@git diff --exit-code -- '*_gen.go'

fuzz: ## Run every fuzz target for FUZZTIME (30s)
	scripts/fuzz.sh $(FUZZTIME)

screenshots: ## Make the pictures of the documentation; needs Chromium
	mkdir -p docs/images
	$(GO) test ./conformance -run '^TestConsole$$' -count 1 -screenshots $(CURDIR)/docs/images

soak: ## DEVICES (15000) come, go and talk at random for SOAK (1h); needs as many open files
	nice $(GO) test ./conformance -run '^TestSoak$$' -v -timeout 0 -soak $(SOAK) -devices $(DEVICES) -interval 30s
