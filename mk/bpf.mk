# SPDX-License-Identifier: Apache-2.0
# The kernel programs: bpf/*.bpf.c -> build/bpf/*.o -> build/portolan.bpf.o, and small programs for tests -> build/test/*.bpf.o.
# The instruction set v3 (32-bit jumps and registers) is verified by every kernel we support (5.10 and later).
CLANG ?= clang-19
BPFTOOL ?= bpftool
BPF_CPU ?= v3

bpf_arch := $(patsubst aarch64,arm64,$(patsubst x86_64,x86,$(shell uname -m)))
# clang's bpf target does not search the host's multiarch directory, where <asm/types.h> is.
bpf_multiarch := $(shell gcc -print-multiarch 2>/dev/null)

BPF_CFLAGS = -target bpf -mcpu=$(BPF_CPU) -g -O2 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare \
  -D__TARGET_ARCH_$(bpf_arch) -Ibpf/include -Ibpf/lib -Ibpf $(addprefix -idirafter /usr/include/,$(bpf_multiarch)) -MMD -MP

# The twin (bpf/trace.bpf.c) is an object of its own, from the same source.
bpf_sources := $(filter-out bpf/trace.bpf.c,$(wildcard bpf/*.bpf.c))
bpf_objects := $(bpf_sources:bpf/%.bpf.c=build/bpf/%.bpf.o)
bpf_test_sources := $(wildcard bpf/test/*.bpf.c test/bpf/*.bpf.c test/perf/*.bpf.c)
bpf_test_objects := $(addprefix build/test/,$(notdir $(bpf_test_sources:.c=.o)))

.PHONY: bpf bpf-tests
bpf: build/portolan.bpf.o build/portolan-trace.bpf.o ## the BPF objects
bpf-tests: $(bpf_test_objects)

define need_clang
	@command -v $(CLANG) >/dev/null && command -v $(BPFTOOL) >/dev/null || \
	  { echo "make: $(CLANG) or $(BPFTOOL) is missing: run \`make deps\` (or set CLANG=, BPFTOOL=)" >&2; exit 1; }
endef

build/portolan.bpf.o: $(bpf_objects) mk/bpf.mk
	@$(BPFTOOL) gen object $@ $(bpf_objects)
	@echo "  BPF     $@"

build/portolan-trace.bpf.o: build/bpf/trace.bpf.o mk/bpf.mk
	@$(BPFTOOL) gen object $@ $<
	@echo "  BPF     $@"

build/bpf/%.bpf.o: bpf/%.bpf.c mk/bpf.mk
	$(need_clang)
	@mkdir -p $(@D)
	@$(CLANG) $(BPF_CFLAGS) -c $< -o $@
	@echo "  CLANG   $@"

define bpf_test_rule
build/test/$(notdir $(1:.c=.o)): $(1) mk/bpf.mk
	$$(need_clang)
	@mkdir -p $$(@D)
	@$$(CLANG) $$(BPF_CFLAGS) -c $$< -o $$@
	@echo "  CLANG   $$@"
endef
$(foreach source,$(bpf_test_sources),$(eval $(call bpf_test_rule,$(source))))

-include $(wildcard build/bpf/*.d build/test/*.d)
