// SPDX-License-Identifier: Apache-2.0
/** What the product uses of yaml. It is CommonJS, and of such a package esbuild's `import()` gives the default export alone. */
export {
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  parse,
  parseAllDocuments,
  stringify,
} from "yaml";
