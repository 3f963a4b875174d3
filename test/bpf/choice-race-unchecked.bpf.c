// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The same without the check of the tag: what the test has to notice. */
#define PTL_NO_TAG_CHECK
#pragma clang diagnostic ignored "-Wunused-variable"
#include "choice-race.bpf.c"
