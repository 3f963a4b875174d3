/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The memory that a twin of the programs (bpf/trace.bpf.c) shares with the native library: its only variable in .bss. One
 * run at a time uses it. Both sides are of one build; what TypeScript reads of it (trace_record …) is in abi.h.
 */
#ifndef PTL_TRACE_H
#define PTL_TRACE_H

#include "abi.h"

/* How many keys a trace may touch in one map that programs write: it touches a few dozen. */
#define PTL_OVERLAY_ENTRIES 1024

struct trace_area {
	struct trace_request request; /* in */
	struct trace_answer answer;   /* out: of twin_socket4 and 6 */
	__u32 count;                  /* of what was noted, also beyond PTL_TRACE_RECORDS; then the last one is overwritten */
	__u32 pad;
	__u64 key[PTL_TRACE_KEY_SIZE / 8];     /* what is about to be looked up or written */
	__u64 value[PTL_TRACE_VALUE_SIZE / 8];
	struct trace_record records[PTL_TRACE_RECORDS];
};

#endif /* PTL_TRACE_H */
