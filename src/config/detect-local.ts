// SPDX-License-Identifier: Apache-2.0
/** What detectLocalMode and the names that belong to it may be (8.3). */

export const DETECT_LOCAL_MODES = [
  "ClusterCIDR",
  "NodeCIDR",
  "BridgeInterface",
  "InterfaceNamePrefix",
] as const;

/** IFNAMSIZ without its zero byte. */
const LONGEST_INTERFACE_NAME = 15;

/** What is wrong with the name of an interface, or the start of one; null: nothing. The end of a sentence. */
export function interfaceTextProblem(text: string): string | null {
  if (Buffer.byteLength(text) <= LONGEST_INTERFACE_NAME && !/[\s/]/.test(text)) return null;
  return `${JSON.stringify(text)} cannot be (the start of) an interface's name`;
}
