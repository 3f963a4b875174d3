# SPDX-License-Identifier: Apache-2.0
# build/bundle/: the product as it is shipped (scripts/bundle.ts), and the image with it (Dockerfile).
IMAGE ?= portolan:dev
DOCKER ?= docker

.PHONY: bundle image
bundle: build/bundle.stamp ## the product as it is shipped, in a directory of its own: build/bundle/

build/bundle.stamp: $(ts_sources) scripts/bundle.ts $(wildcard scripts/bundle/*.ts) package.json build/libportolan.so build/portolan.bpf.o build/portolan-trace.bpf.o \
  mk/bundle.mk | $(installed)
	@$(TSX) scripts/bundle.ts
	@touch $@
	@echo "  BUNDLE  build/bundle/ ($$(du -sh build/bundle | cut -f1))"

image: ## the container image (needs an engine: DOCKER=podman IMAGE=registry/portolan:0.1.0)
	$(DOCKER) build --tag $(IMAGE) .
