// SPDX-License-Identifier: Apache-2.0
/**
 * What the product uses of @kubernetes/client-node. The bundle puts this file in the package's place: a package that is loaded with
 * `import()` is taken whole, 50 MB of generated API, and named exports are all that esbuild can tell apart.
 */
export { KubeConfig } from "@kubernetes/client-node";
