// SPDX-License-Identifier: Apache-2.0
/**
 * What the generated codecs stand on. A codec turns one struct of bpf/include/abi.h into an object and back. Numbers are
 * ordinary numbers whatever their byte order in the kernel (u64: bigint), addresses are 4 or 16 bytes in network order,
 * char arrays are strings. Buffers made here are zeroed: hash maps compare padding too.
 */
export interface Codec<T> {
  /** The struct's name in C. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  readonly offsets: Readonly<Record<string, number>>;
  /** A new, zeroed buffer with the fields in it. Throws RangeError when a string or address does not fit. */
  encode(fields: T): Uint8Array;
  /** Writes every field at `offset`; padding is left as it is. */
  encodeInto(view: DataView, offset: number, fields: T): void;
  /** Copies what it returns: the buffer may be reused. Throws RangeError when the bytes end before the struct does. */
  decode(bytes: Uint8Array, offset?: number): T;
  /** The same on a view made once for many entries. */
  decodeFrom(view: DataView, offset: number): T;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The bytes as words, in host byte order: the same memory where they lie as words must, otherwise a copy. */
export function wordsOf({ buffer, byteOffset, byteLength }: Uint8Array): Uint32Array {
  if (byteOffset % 4 === 0) return new Uint32Array(buffer, byteOffset, Math.floor(byteLength / 4));
  return new Uint32Array(buffer.slice(byteOffset, byteOffset + byteLength));
}

/** Builds the two buffer-based functions of a codec from the two view-based ones. */
export function codec<T>(parts: Omit<Codec<T>, "encode" | "decode">): Codec<T> {
  return {
    ...parts,
    encode(fields: T): Uint8Array {
      const bytes = new Uint8Array(parts.size);
      parts.encodeInto(viewOf(bytes), 0, fields);
      return bytes;
    },
    decode(bytes: Uint8Array, offset = 0): T {
      if (offset + parts.size > bytes.length)
        throw new RangeError(
          `Cannot decode struct ${parts.name}: ${bytes.length - offset} bytes, not ${parts.size}`,
        );
      return parts.decodeFrom(viewOf(bytes), offset);
    },
  };
}

/** Copies an address of exactly `size` bytes. */
export function putBytes(
  view: DataView,
  offset: number,
  size: number,
  value: Uint8Array,
  field: string,
): void {
  if (value.length !== size)
    throw new RangeError(`Cannot encode ${field}: ${value.length} bytes, not ${size}`);
  for (let i = 0; i < size; i++) view.setUint8(offset + i, value[i] as number);
}

/** A copy of `size` bytes. */
export function getBytes(view: DataView, offset: number, size: number): Uint8Array {
  if (offset + size > view.byteLength) throw new RangeError("Cannot decode: the bytes end inside a struct");
  return new Uint8Array(view.buffer, view.byteOffset + offset, size).slice();
}

/** UTF-8 with at least one NUL behind it; what was there before is wiped. */
export function putText(view: DataView, offset: number, size: number, value: string, field: string): void {
  let length = 0;
  // Nearly always a name of Kubernetes, which is ASCII and short.
  for (; length < value.length && length < size - 1; length++) {
    const code = value.charCodeAt(length);
    if (code > 0x7f) break;
    view.setUint8(offset + length, code);
  }
  if (length < value.length) {
    const bytes = encoder.encode(value);
    if (bytes.length >= size)
      throw new RangeError(`Cannot encode ${field}: "${value}" has more than ${size - 1} bytes`);
    for (length = 0; length < bytes.length; length++) view.setUint8(offset + length, bytes[length] as number);
  }
  for (; length < size; length++) view.setUint8(offset + length, 0);
}

export function getText(view: DataView, offset: number, size: number): string {
  let end = 0;
  while (end < size && view.getUint8(offset + end) !== 0) end++;
  return decoder.decode(new Uint8Array(view.buffer, view.byteOffset + offset, end));
}
