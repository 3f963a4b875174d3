/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Says which exported functions were called: the compiler calls the two below whenever a function begins and ends
 * (-finstrument-functions). EXPORTS, from the compiler's command line, is a file with a line `FUNCTION(name)` for each of them.
 */
#include <stdio.h>

#include "portolan.h"

#define QUIET __attribute__((no_instrument_function))

static struct {
	const char *name;
	const void *function;
	int calls;
} exports[] = {
#define FUNCTION(name) { #name, (const void *)name, 0 },
#include EXPORTS
#undef FUNCTION
};

#define COUNT (sizeof(exports) / sizeof(exports[0]))

/* Of one process that tells its counts when all threads are done: a lost count among many is none. */
QUIET void __cyg_profile_func_enter(void *function, void *caller);
QUIET void __cyg_profile_func_exit(void *function, void *caller);

void __cyg_profile_func_enter(void *function, void *caller)
{
	(void)caller;
	for (unsigned i = 0; i < COUNT; i++)
		if (exports[i].function == function)
			__atomic_add_fetch(&exports[i].calls, 1, __ATOMIC_RELAXED);
}

void __cyg_profile_func_exit(void *function, void *caller)
{
	(void)function;
	(void)caller;
}

QUIET __attribute__((destructor)) static void tell(void)
{
	for (unsigned i = 0; i < COUNT; i++)
		printf("called %s %d\n", exports[i].name, exports[i].calls);
}
