// SPDX-License-Identifier: Apache-2.0
/** The exit statuses of the command line. They are an outer contract: other programs act on them. */
export const ExitCode = {
  /** Done, and nothing was found wrong. */
  ok: 0,
  /** Done, and the answer is a finding: an error in a manifest, a failed check. */
  finding: 1,
  /** The command line or the input named on it is wrong. */
  usage: 2,
  /** It could not be done: no permission, nothing installed here, the kernel refused. */
  failure: 3,
  /** Ended by Ctrl-C before it was done: 128 and the signal's number, as the shell has it. */
  interrupted: 130,
} as const;

export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];
