// SPDX-License-Identifier: Apache-2.0
/** A process with an API server on an address of its network namespace: ADDRESS. Prints the kubeconfig's path; ends with stdin. */
import { FakeApi } from "../../support/apiserver/fake-api.js";
import { nodeObject } from "./rig.js";

const [host = ""] = process.argv.slice(2);
const api = await FakeApi.start({ host, names: [host], bookmarkMs: 0 });
api.create(nodeObject());
process.stdin.resume();
process.stdin.on("end", () => void api.close().then(() => process.exit(0)));
console.log(api.kubeconfig({ tokenFile: true }));
