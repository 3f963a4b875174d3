# SPDX-License-Identifier: Apache-2.0
# build/libportolan.so: native/src/*.c with libbpf linked in, so that only libc, libelf and zlib are needed at run time.
CC = gcc
NATIVE_CFLAGS ?= -O2 -g
native_cflags = -std=gnu11 $(NATIVE_CFLAGS) -Wall -Wextra -Werror -fPIC -fvisibility=hidden -Inative/include -Ibpf/include -MMD -MP

native_sources := $(wildcard native/src/*.c)
native_objects := $(native_sources:native/src/%.c=build/native/%.o)
# gcc prints the bare name back when it finds no such file.
libbpf_archive := $(filter /%,$(shell $(CC) -print-file-name=libbpf.a 2>/dev/null))

.PHONY: native
native: build/libportolan.so ## the native library, build/libportolan.so

build/libportolan.so: $(native_objects) native/portolan.map mk/native.mk
	@test -n "$(libbpf_archive)" || { echo "make: libbpf.a is missing: run \`make deps\`" >&2; exit 1; }
	@$(CC) -shared -o $@ $(native_objects) $(libbpf_archive) -Wl,--version-script=native/portolan.map \
	  -Wl,--exclude-libs,ALL -Wl,-z,defs -Wl,-z,relro -Wl,-z,now -lelf -lz -lpthread
	@echo "  LD      $@"

build/native/%.o: native/src/%.c mk/native.mk
	@test -n "$(libbpf_archive)" || { echo "make: libbpf-dev is missing: run \`make deps\`" >&2; exit 1; }
	@mkdir -p $(@D)
	@$(CC) $(native_cflags) -c $< -o $@
	@echo "  CC      $@"

-include $(wildcard build/native/*.d)
