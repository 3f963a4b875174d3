// SPDX-License-Identifier: Apache-2.0
/**
 * The Internet checksum, written from RFC 1071 and sharing nothing with the dataplane: it adds every byte pair of the
 * finished packet, where the kernel programs only ever correct a sum by a difference.
 */

/** The folded one's complement sum (not complemented) of 16-bit big-endian words; an odd tail is padded with zero. */
export function onesComplementSum(...chunks: readonly Uint8Array[]): number {
  let sum = 0;
  for (const chunk of chunks) {
    for (let i = 0; i < chunk.length; i += 2) sum += ((chunk[i] ?? 0) << 8) | (chunk[i + 1] ?? 0);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return sum;
}

/** The pseudo-header of RFC 768/9293 (4-byte addresses) or RFC 8200 section 8.1 (16-byte addresses). */
export function pseudoHeader(src: Uint8Array, dst: Uint8Array, protocol: number, length: number): Uint8Array {
  const v6 = src.length === 16;
  const out = new Uint8Array(src.length + dst.length + (v6 ? 8 : 4));
  const view = new DataView(out.buffer);
  out.set(src, 0);
  out.set(dst, src.length);
  const tail = src.length + dst.length;
  if (v6) {
    view.setUint32(tail, length);
    out[tail + 7] = protocol;
  } else {
    out[tail + 1] = protocol;
    view.setUint16(tail + 2, length);
  }
  return out;
}

/** What the checksum field must hold, given a segment whose checksum field is zero. */
export function internetChecksum(...chunks: readonly Uint8Array[]): number {
  return ~onesComplementSum(...chunks) & 0xffff;
}

/** The Castagnoli polynomial without its highest term, as RFC 9260 appendix A writes it (not reflected). */
const CASTAGNOLI = 0x1edc6f41;

/**
 * CRC32c (RFC 9260 appendix A): every bit of the finished packet goes through a long division, in the order in which it
 * is sent, where the kernel programs only ever multiply a difference. SCTP writes the value least significant byte first.
 */
export function crc32c(data: Uint8Array): number {
  let register = 0xffffffff;
  for (const byte of data) {
    for (let bit = 0; bit < 8; bit++) {
      const carry = (register >>> 31) ^ ((byte >> bit) & 1);
      register = ((register << 1) ^ (carry === 1 ? CASTAGNOLI : 0)) >>> 0;
    }
  }
  return ~reverseBits(register) >>> 0;
}

function reverseBits(word: number): number {
  let out = 0;
  for (let bit = 0; bit < 32; bit++) out = (out << 1) | ((word >>> bit) & 1);
  return out >>> 0;
}
