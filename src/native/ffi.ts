// SPDX-License-Identifier: Apache-2.0
/**
 * Loads ffi-napi, and calls C by way of it: what is used of it is declared in function-pointers.ts. It is loaded late: it costs
 * time at start, and it crashes the process from a worker thread, which is refused before.
 */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { isMainThread } from "node:worker_threads";
import { errorMessage } from "../util/errors.js";
import { NativeError, nativeError } from "./errors.js";
import { type FfiModule, type ForeignFunction, functionPointers } from "./function-pointers.js";
import { type ArgumentType, SYMBOLS, type SymbolName } from "./symbols.js";

/** One argument: null is a null pointer. */
export type Argument = number | string | Uint8Array | null;

const FFI_TYPES: Readonly<Record<ArgumentType, string>> = {
  int: "int",
  u32: "uint32",
  text: "string",
  in: "pointer",
  out: "pointer",
};

/** About 0.4 ms an interface with clsact: below this many the event loop does not notice. */
const SYNC_INTERFACES = 4;

/** Room for a message and the end of a verifier log. */
const ERROR_BYTES = 64 * 1024;

function cannotLoad(path: string, reason: string): NativeError {
  const details = { errno: 0, op: "load", object: path, verifierLog: null };
  return new NativeError("E_NATIVE_LIBRARY", `Cannot load the native library ${path}: ${reason}`, details);
}

/** A bound library: `call` for short work, `callAsync` (a pool thread) for what could hold up the event loop. */
export class Ffi {
  /** Every call of this library by this process. */
  calls = 0;
  readonly #path: string;
  readonly #ffi: FfiModule;
  #pointers: ReadonlyMap<SymbolName, Buffer> | null = null;
  readonly #functions: Partial<Record<SymbolName, ForeignFunction>> = {};
  readonly #errorBuffer = Buffer.alloc(ERROR_BYTES);

  constructor(path: string) {
    if (!isMainThread) throw cannotLoad(path, "ffi-napi crashes in worker threads; use the main thread");
    if (!existsSync(path)) throw cannotLoad(path, "there is no such file");
    this.#path = path;
    try {
      this.#ffi = createRequire(import.meta.url)("ffi-napi") as FfiModule;
    } catch (error) {
      throw cannotLoad(path, errorMessage(error));
    }
  }

  /** The result, >= 0; throws NativeError otherwise. The error buffer of functions that have one is added here. */
  call(symbol: SymbolName, ...args: readonly Argument[]): number {
    const result = this.callRaw(symbol, ...args);
    if (result < 0) throw nativeError(symbol, result, this.#errorBuffer);
    return result;
  }

  /** The same without throwing. */
  callRaw(symbol: SymbolName, ...args: readonly Argument[]): number {
    this.calls++;
    this.#errorBuffer[0] = 0;
    return this.#function(symbol)(...prepare(symbol, args, this.#errorBuffer));
  }

  /** On a pool thread. The buffers are kept alive until it is done. */
  callAsync(symbol: SymbolName, ...args: readonly Argument[]): Promise<number> {
    this.calls++;
    const error = Buffer.alloc(ERROR_BYTES);
    const prepared = prepare(symbol, args, error);
    return new Promise((resolve, reject) => {
      this.#function(symbol).async(...prepared, (failure: Error | null, result: number) => {
        // Named here so that nothing is collected while C holds its address.
        prepared.length = 0;
        if (failure) reject(failure);
        else if (result < 0) reject(nativeError(symbol, result, error));
        else resolve(result);
      });
    });
  }

  /** What acts on `interfaces` interfaces: at once when they are few, else on a pool thread. */
  async callFor(interfaces: number, symbol: SymbolName, ...args: readonly Argument[]): Promise<number> {
    return interfaces <= SYNC_INTERFACES ? this.call(symbol, ...args) : await this.callAsync(symbol, ...args);
  }

  /** Bound when it is first called: a command needs a few. */
  #function(symbol: SymbolName): ForeignFunction {
    const known = this.#functions[symbol];
    if (known) return known;
    try {
      this.#pointers ??= functionPointers(this.#ffi, this.#path, Object.keys(SYMBOLS) as SymbolName[]);
      const types = SYMBOLS[symbol].map((type) => FFI_TYPES[type]);
      const pointer = this.#pointers.get(symbol);
      if (pointer === undefined) throw new Error(`it has no function ${symbol}`);
      const bound = this.#ffi.ForeignFunction(pointer, "int", types);
      this.#functions[symbol] = bound;
      return bound;
    } catch (error) {
      throw cannotLoad(this.#path, errorMessage(error));
    }
  }
}

function prepare(
  symbol: SymbolName,
  args: readonly Argument[],
  error: Buffer,
): (number | string | Buffer | null)[] {
  const types = SYMBOLS[symbol];
  const prepared = args.map((arg) =>
    arg instanceof Uint8Array ? Buffer.from(arg.buffer, arg.byteOffset, arg.byteLength) : arg,
  );
  if (types.length === args.length + 2) prepared.push(error, error.length);
  if (prepared.length !== types.length)
    throw new TypeError(`Cannot call ${symbol}: ${args.length} arguments for ${types.length}`);
  return prepared;
}
