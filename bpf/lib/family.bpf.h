/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The dataplane of one address family. Included by tc.bpf.c once with FAM(x) = x4 and ADDR = struct addr4, and once for
 * IPv6: the address type is the only difference. No include guard, on purpose, here and in what it includes.
 */
#include "address.bpf.h"
#include "choice.bpf.h"
#include "nat.bpf.h"
#include "track.bpf.h"
#include "fragment.bpf.h"
#include "rewrite.bpf.h"
#include "flow.bpf.h"
#include "start.bpf.h"
#ifndef PTL_TRACE
#include "shortcut.bpf.h"
#endif
#include "reject.bpf.h"
#include "reset.bpf.h"
#include "icmp.bpf.h"
#include "filter.bpf.h"
