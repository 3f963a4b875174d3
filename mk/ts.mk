# SPDX-License-Identifier: Apache-2.0
# node_modules/ (exactly the lock file, no install scripts), dist/, the checks, and the generated ABI.
ts_sources := $(shell find src -name '*.ts' 2>/dev/null)
installed := node_modules/.package-lock.json

.PHONY: ts check check-types check-lint check-imports check-abi check-docs abi docs
ts: build/dist.stamp ## compile src/ to dist/

$(installed): package-lock.json
	npm ci
	@touch $@

# dist/ may be in use by a running agent or test: it is written over, not removed.
build/dist.stamp: $(ts_sources) tsconfig.json tsconfig.build.json | $(installed)
	@mkdir -p build
	@$(BIN)/tsc -p tsconfig.build.json
	@if [ -f dist/cli/main.js ]; then chmod +x dist/cli/main.js; fi
	@touch $@
	@echo "  TSC     dist/"

check: check-types check-lint check-imports check-abi check-docs ## types, lint and format, import directions, generated ABI, generated docs

check-types: | $(installed)
	@$(BIN)/tsc -p tsconfig.json --noEmit
	@echo "  CHECK   types"

check-lint: | $(installed)
	@$(BIN)/biome check .
	@echo "  CHECK   lint and format"

check-imports: | $(installed)
	@$(TSX) scripts/check-imports.ts
	@echo "  CHECK   import directions"

# What docs/ says about settings, metrics and commands is read off the code that has them.
docs_scripts := config-docs metrics-docs cli-docs

docs: | $(installed) ## write the generated parts of docs/
	@for script in $(docs_scripts); do $(TSX) scripts/$$script.ts; done

check-docs: | $(installed)
	@for script in $(docs_scripts); do $(TSX) scripts/$$script.ts --check; done
	@$(TSX) bench/report.ts --check
	@echo "  CHECK   generated docs"

abi: bpf | $(installed) ## regenerate src/abi/*.gen.ts from the BPF object
	@$(TSX) scripts/gen-abi.ts

check-abi: | $(installed) ## the generated ABI is what the C headers say (needs clang)
	@if command -v $(CLANG) >/dev/null && command -v $(BPFTOOL) >/dev/null; then \
	  $(MAKE) --no-print-directory bpf && $(TSX) scripts/gen-abi.ts --check && echo "  CHECK   generated ABI"; \
	else echo "  SKIP    generated ABI: no $(CLANG) or no $(BPFTOOL) here (make deps)"; fi
