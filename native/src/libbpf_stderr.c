/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Debian's libbpf.a is compiled for executables (-fPIE), and its one direct use of another library's variable, `stderr` in
 * its default print function, cannot be linked into a shared object. This hidden variable of the same name takes the
 * reference; it holds what the C library's one holds. <stdio.h> would declare the other one, so it is not included here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

__attribute__((visibility("hidden"))) void *stderr = NULL;

__attribute__((constructor)) static void take_over_stderr(void)
{
	void **real = dlsym(RTLD_DEFAULT, "stderr");

	if (real)
		stderr = *real;
}
