// SPDX-License-Identifier: Apache-2.0
/**
 * Where a library's functions are, as ffi-napi is told. Its own way makes a Buffer of a gigabyte for every pointer that it
 * meets; V8 takes that for memory in use and answers with a full garbage collection each time, which for forty functions is
 * a second of a busy machine. So addresses are read as numbers, and the Buffer of the lowest one is cut into all others.
 */

/** What ffi-napi makes of a C function. */
export interface ForeignFunction {
  (...args: readonly (number | string | Buffer | null)[]): number;
  async(...args: readonly unknown[]): void;
}

/** What is used of ffi-napi. */
export interface FfiModule {
  Library(
    path: string | null,
    functions: Readonly<Record<string, readonly [result: string, args: readonly string[]]>>,
  ): Record<string, ForeignFunction>;
  ForeignFunction(pointer: Buffer, result: string, args: readonly string[]): ForeignFunction;
  readonly DynamicLibrary: {
    new (path: string): { get(symbol: string): Buffer };
    readonly FLAGS: { readonly RTLD_NOW: number };
  };
}

/**
 * Pointers to these functions of the library at `path`, for ForeignFunction(); to those that it has.
 *
 * @throws Error when the library cannot be loaded
 */
export function functionPointers<Name extends string>(
  ffi: FfiModule,
  path: string,
  names: readonly Name[],
): ReadonlyMap<Name, Buffer> {
  // It says well why a file cannot be loaded; and keeps it loaded.
  const library = new ffi.DynamicLibrary(path);
  // size_t, where C has void *: a number, not a Buffer.
  const { dlopen, dlsym } = ffi.Library(null, {
    dlopen: ["size_t", ["string", "int"]],
    dlsym: ["size_t", ["size_t", "string"]],
  }) as Record<"dlopen" | "dlsym", ForeignFunction>;
  const handle = dlopen(path, ffi.DynamicLibrary.FLAGS.RTLD_NOW);
  const found = names.map((name) => ({ name, address: Number(dlsym(handle, name)) }));
  const addresses = found.filter(({ address }) => address !== 0);
  const [some] = addresses;
  if (some === undefined) return new Map();
  const first = addresses.reduce((a, b) => (b.address < a.address ? b : a), some);
  const { buffer } = library.get(first.name);
  return new Map(
    addresses.map(({ name, address }) => [name, Buffer.from(buffer, address - first.address, 0)]),
  );
}
