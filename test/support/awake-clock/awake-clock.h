/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A clock that stands still while the machine does. A virtual machine may get no CPU for seconds: then nobody could have
 * answered, and nothing was lost. Whoever waits for an answer, or tells a lost packet by the time that its repetition
 * takes, measures with this clock; a packet that is really lost takes as long by it as by any other.
 */
#pragma once

/*
 * Microseconds, but for the gaps in which a CPU did not run this process although it was to. The first tenth of a second
 * of each gap counts: a machine that is busy does not stand still. The first call starts a thread on each CPU.
 */
long long awake_us(void);

/* How often the machine stood still for longer than half a second since the clock was started: long enough for a timer
 * of TCP to be over before the packet that it waits for could be read. */
long standstills(void);
