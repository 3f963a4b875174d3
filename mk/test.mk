# SPDX-License-Identifier: Apache-2.0
# The test lanes. A lane is a directory below test/; `make test` runs all of them, in this order, and then looks for leaks.
# Free lanes need no privileges. Root lanes load BPF programs and make network namespaces of their own.
FREE_LANES := unit property
ROOT_LANES := native bpf net cli
# Any other test/NAME with *.test.ts in it is a root lane too, so that no test is left out.
lanes_found := $(sort $(foreach file,$(shell find test -mindepth 2 -name '*.test.ts' 2>/dev/null),$(word 2,$(subst /, ,$(file)))))
ROOT_LANES += $(filter-out $(FREE_LANES) $(ROOT_LANES),$(lanes_found))
LANES := $(FREE_LANES) $(ROOT_LANES)
# Real interfaces, hooks and pins: one file after the other. The rest may share the machine's cores.
test_concurrency = $(if $(filter $(1),$(FREE_LANES)),2,1)

# No file of tests takes this long, on no machine: one that hangs fails, and the run goes on.
test_timeout_ms := 1800000

# `make test-unit FILES=test/unit/net/ip.test.ts TEST_ARGS=--test-name-pattern=…` narrows a lane down.
TEST_ARGS ?=
lane_files = $(or $(FILES),$(sort $(shell find test/$(1) -name '*.test.ts' 2>/dev/null)))

.PHONY: test test-free test-kernels conformance bench bench-quick bench-report bench-compile bench-cli bench-agent bench-packet bench-path bench-connect bench-control bench-qemu need-root $(addprefix test-,$(LANES))

test: need-root ## every lane and every check; needs root
	@mk/run-lanes.sh check $(addprefix test-,$(LANES)) $(if $(WITHOUT_KERNELS),,test-kernels)

test-free: ## what needs no root: check, unit, property
	@mk/run-lanes.sh check $(addprefix test-,$(FREE_LANES))

define lane_rule
test-$(1): build bpf-tests $(if $(filter $(1),$(ROOT_LANES)),need-root)
	@test -n "$$(call lane_files,$(1))" || { echo "make: test/$(1) holds no *.test.ts" >&2; exit 1; }
	$$(NODE) --import tsx --import $$(CURDIR)/test/support/assert-ok.ts --test --test-reporter=spec --test-timeout=$(test_timeout_ms) --test-concurrency=$$(call test_concurrency,$(1)) $$(TEST_ARGS) $$(call lane_files,$(1))
endef
$(foreach lane,$(LANES),$(eval $(call lane_rule,$(lane))))

test-kernels: bpf build/kernels/runner build/kernels/selftest.bpf.o ## load and try the BPF object on Debian's 5.10 and 6.1 kernels in QEMU (KERNELS="5.10 6.1 6.12")
	@scripts/kernels/run.sh $(KERNELS)

conformance: build need-root ## the conformance cases of ../shared/conformance, with real traffic (ARGS="DIR|FILE --case ID -o json")
	@$(TSX) test/conformance/main.ts $(ARGS)

bench-compile: build ## parse, compile, diff and apply 10,000 x 10 and 5,000 x 50; JSON result
	@$(TSX) --expose-gc test/perf/compile.bench.ts $(ARGS)

bench-path: build bpf-tests need-root build/perf/load ## rates and latencies through the kernel beside kube-proxy's rules; JSON result (ARGS="--quick --family 6 …")
	@$(TSX) test/perf/path.bench.ts $(ARGS)

bench-cli: bundle ## how long a command takes to start, as a ratio to `node -e 0`; JSON result (ARGS="--pairs 40")
	@$(TSX) test/perf/cli.bench.ts $(ARGS)

bench-agent: build bundle need-root ## the agent against an API server: start, memory, time from a change to the maps; JSON result (ARGS="10000x10 …")
	@$(TSX) test/perf/agent.bench.ts $(ARGS)

bench-packet: build bpf-tests need-root ## what one packet costs in the programs, above an empty one; JSON result (ARGS=--quick)
	@$(TSX) test/perf/packet.bench.ts $(ARGS)

bench-connect: build need-root build/perf/connect ## what connect(2) to a Service costs in the connect hook; JSON result (ARGS=--quick)
	@$(TSX) test/perf/connect.bench.ts $(ARGS)

bench-control: build need-root ## all Services, and one changed endpoint, in Portolan, iptables-restore and nft; JSON result (ARGS=--quick)
	@$(TSX) test/perf/control.bench.ts $(ARGS)

bench-qemu: build build/perf/load build/perf/dataplane ## instructions of a connection and of a request in an emulated machine, IPVS beside the others; JSON result (ARGS="--family 6 …"); needs no root
	@$(TSX) test/perf/qemu.bench.ts $(ARGS)

bench: bench-packet bench-path bench-connect bench-control bench-agent bench-report ## every benchmark, and docs/benchmarks.md of it (about 15 minutes on 2 cores; root)

# The figures of a short look stay out of docs/.
bench-quick: need-root ## the same, short: a first idea in a few minutes, on the terminal
	@$(MAKE) --no-print-directory bench-packet bench-path bench-connect bench-control ARGS=--quick

bench/node_modules/.package-lock.json: bench/package-lock.json
	npm ci --prefix bench
	@touch $@

bench-report: bench/node_modules/.package-lock.json | $(installed) ## docs/benchmarks.md and its plots, from bench/results/
	@$(BIN)/tsc -p bench/tsconfig.json
	@$(TSX) bench/report.ts

need-root:
	@if [ "$$(id -u)" -ne 0 ]; then \
	  echo "make: this needs ROOT: it loads BPF programs and makes network namespaces." >&2; \
	  echo "make: run it as root (sudo make …); without root there is \`make test-free\`." >&2; exit 1; fi

# The kernels lane's own two programs. The runner is static and has libportolan in it: the small machine needs no libraries.
build/kernels/runner: test/kernels/runner.c native/include/portolan.h bpf/include/abi.h bpf/include/abi_family.h bpf/include/reasons.h \
  $(native_objects) mk/test.mk
	@mkdir -p $(@D)
	@$(CC) -std=gnu11 -O2 -g -Wall -Wextra -Werror -static -Ibpf/include -Inative/include -o $@ $< $(filter-out %/libbpf_stderr.o,$(native_objects)) $(libbpf_archive) -lelf -lz -lpthread
	@echo "  LD      $@"

build/kernels/selftest.bpf.o: test/kernels/selftest.bpf.c mk/bpf.mk
	$(need_clang)
	@mkdir -p $(@D)
	@$(CLANG) $(BPF_CFLAGS) -c $< -o $@
	@echo "  CLANG   $@"

# What asks and answers in bench-path. netperf is not free software in Debian, and iperf3 has no request and response.
build/perf/load: test/perf/load.c test/perf/enter-cgroup.h mk/test.mk
	@mkdir -p $(@D)
	@$(CC) -std=gnu11 -O2 -g -Wall -Wextra -Werror -pthread -o $@ $<
	@echo "  LD      $@"

# Portolan in the machine of bench-qemu: static, as the runner above.
build/perf/dataplane: test/perf/emulated/dataplane.c native/include/portolan.h bpf/include/abi.h bpf/include/abi_family.h bpf/include/reasons.h \
  $(native_objects) mk/test.mk
	@mkdir -p $(@D)
	@$(CC) -std=gnu11 -O2 -g -Wall -Wextra -Werror -static -Ibpf/include -Inative/include -o $@ $< $(filter-out %/libbpf_stderr.o,$(native_objects)) $(libbpf_archive) -lelf -lz -lpthread

build/perf/connect: test/perf/connect.c test/perf/enter-cgroup.h mk/test.mk
	@mkdir -p $(@D)
	@$(CC) -std=gnu11 -O2 -g -Wall -Wextra -Werror -o $@ $<
	@echo "  LD      $@"
