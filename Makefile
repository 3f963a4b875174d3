# SPDX-License-Identifier: Apache-2.0
# The one entry point: `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := build

NODE ?= node
TSX := $(NODE) --import tsx
BIN := node_modules/.bin

include mk/bpf.mk
include mk/native.mk
include mk/ts.mk
include mk/bundle.mk
include mk/test.mk

.PHONY: build deps demo doctor clean help

build: bpf native ts ## build everything: the BPF object, libportolan.so, node_modules, dist/

deps: ## install what is missing on a Debian machine (needs root)
	@scripts/install-deps.sh

# Sub-makes, so that the build starts after the packages are there also under -j.
demo: ## install, build, and show the whole product on two nodes in network namespaces (ARGS="--keep …")
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory build
	@$(NODE) dist/cli/main.js demo $(ARGS)

doctor: build ## what this machine and kernel can do, and how to mend what they cannot
	@scripts/install-deps.sh --kernels --check || echo "      \`make deps\` installs what building needs"
	@$(NODE) dist/cli/main.js doctor $(ARGS)

clean: ## remove everything that was built (node_modules stays)
	rm -rf build dist

help: ## this list
	@echo "Targets:"
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sort | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | \
	  while IFS=$$'\t' read -r name text; do printf '  %-16s %s\n' "$$name" "$$text"; done
	@printf '  %-16s %s\n' test-LANE "one lane of: $(LANES) (FILES=…, TEST_ARGS=… narrow it)"
