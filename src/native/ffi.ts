// SPDX-License-Identifier: Apache-2.0
/**
 * The only file that knows ffi-napi. It has no types of its own worth having, so what is used of it is declared here. It is
 * loaded late: it costs time at start, and it crashes the process from a worker thread, which is refused before.
 */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { isMainThread } from "node:worker_threads";
import { errorMessage } from "../util/errors.js";
import { NativeError, nativeError } from "./errors.js";
import { type ArgumentType, SYMBOLS, type SymbolName } from "./symbols.js";

/** One argument: null is a null pointer. */
export type Argument = number | string | Uint8Array | null;

interface ForeignFunction {
  (...args: readonly (number | string | Buffer | null)[]): number;
  async(...args: readonly unknown[]): void;
}

interface FfiModule {
  ForeignFunction(address: Buffer, result: string, args: readonly string[]): ForeignFunction;
}

/** Of ffi-napi/lib/bindings: the functions of the dynamic linker. */
interface Linker {
  readonly StaticFunctions: Readonly<Record<"dlopen" | "dlsym" | "dlerror", Buffer>>;
  readonly RTLD_NOW: number;
}

interface RefModule {
  /** A view of `size` bytes at the address that is in `buffer`. */
  readPointer(buffer: Buffer, offset: number, size: number): Buffer;
}

interface Memory {
  readonly base: number;
  readonly bytes: ArrayBufferLike;
}

type Call<Result> = (...args: readonly (number | string | null)[]) => Result;

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

/** How far below its first function a library's text may begin, and more than it is long. */
const REACH = 256 * 1024 * 1024;

/**
 * A shared object. ref-napi wraps every pointer that C returns into a buffer of a gigabyte, and V8 collects garbage for each
 * second of them: ffi.Library() has three such pointers a function. Here addresses are numbers, and one buffer, of the memory
 * that the library is in, has views for all of its functions.
 */
class SharedObject {
  readonly #path: string;
  readonly #ffi: FfiModule;
  readonly #ref: RefModule;
  readonly #handle: number;
  readonly #find: Call<number>;
  #memory: Memory | null = null;

  /** @throws NativeError E_NATIVE_LIBRARY */
  constructor(path: string) {
    this.#path = path;
    const load = createRequire(import.meta.url);
    this.#ffi = load("ffi-napi") as FfiModule;
    this.#ref = load("ref-napi") as RefModule;
    const { StaticFunctions: linker, RTLD_NOW } = load("ffi-napi/lib/bindings") as Linker;
    const bind = <Result>(address: Buffer, result: string, args: readonly string[]): Call<Result> =>
      this.#ffi.ForeignFunction(address, result, args) as unknown as Call<Result>;
    this.#find = bind(linker.dlsym, "uint64", ["uint64", "string"]);
    this.#handle = bind<number>(linker.dlopen, "uint64", ["string", "int"])(path, RTLD_NOW);
    if (this.#handle === 0)
      throw cannotLoad(path, bind<string | null>(linker.dlerror, "string", [])() ?? "dlopen failed");
  }

  /** @throws NativeError E_NATIVE_LIBRARY when it has no such symbol */
  bind(symbol: SymbolName): ForeignFunction {
    const address = this.#find(this.#handle, symbol);
    if (address === 0) throw cannotLoad(this.#path, `it has no function ${symbol}`);
    this.#memory ??= this.#around(address);
    const pointer = Buffer.from(this.#memory.bytes, address - this.#memory.base, 1);
    Object.assign(pointer, { name: symbol }); // as ffi-napi's own have
    const types = SYMBOLS[symbol].map((type) => FFI_TYPES[type]);
    return this.#ffi.ForeignFunction(pointer, "int", types);
  }

  /** A buffer over the library's memory. Nothing reads or writes it: the addresses of its bytes are what it is for. */
  #around(address: number): Memory {
    const base = Math.max(address - REACH, 8);
    const cell = Buffer.alloc(8);
    cell.writeBigUInt64LE(BigInt(base));
    return { base, bytes: this.#ref.readPointer(cell, 0, 1).buffer };
  }
}

/** A bound library: `call` for short work, `callAsync` (a pool thread) for what could hold up the event loop. */
export class Ffi {
  /** Every call of this library by this process. */
  calls = 0;
  readonly #object: SharedObject;
  readonly #functions: Partial<Record<SymbolName, ForeignFunction>> = {};
  readonly #errorBuffer = Buffer.alloc(ERROR_BYTES);

  constructor(path: string) {
    if (!isMainThread) throw cannotLoad(path, "ffi-napi crashes in worker threads; use the main thread");
    if (!existsSync(path)) throw cannotLoad(path, "there is no such file");
    try {
      this.#object = new SharedObject(path);
    } catch (error) {
      throw error instanceof NativeError ? error : cannotLoad(path, errorMessage(error));
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
    this.#functions[symbol] ??= this.#object.bind(symbol);
    return this.#functions[symbol];
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
