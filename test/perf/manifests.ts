// SPDX-License-Identifier: Apache-2.0
/** Manifests of a made-up cluster, as kubectl prints them: Services, and one EndpointSlice for each. */
import { nthAddress } from "../support/big-image.js";

export interface Shape {
  readonly services: number;
  readonly endpoints: number;
}

const PODS_PER_SERVICE = 64;

function serviceText(i: number): string {
  return `apiVersion: v1
kind: Service
metadata:
  name: service-${i}
  namespace: team-${i % 100}
  labels:
    app: app-${i}
spec:
  type: ClusterIP
  clusterIP: ${nthAddress(4, 11, i).text}
  clusterIPs:
    - ${nthAddress(4, 11, i).text}
  ipFamilies:
    - IPv4
  selector:
    app: app-${i}
  ports:
    - name: http
      protocol: TCP
      port: 80
      targetPort: 8080
`;
}

function endpointText(i: number, pod: number): string {
  return `  - addresses:
      - ${nthAddress(4, 10, i * PODS_PER_SERVICE + pod).text}
    conditions:
      ready: true
      serving: true
      terminating: false
    nodeName: node-${(i + pod) % 50}
`;
}

function sliceText(i: number, pods: readonly number[]): string {
  return `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: service-${i}-abcde
  namespace: team-${i % 100}
  labels:
    kubernetes.io/service-name: service-${i}
addressType: IPv4
ports:
  - name: http
    protocol: TCP
    port: 8080
endpoints:
${pods.map((pod) => endpointText(i, pod)).join("")}`;
}

/** All documents; in Service number `changed` another pod stands for the first one. */
export function manifests({ services, endpoints }: Shape, changed: number | null = null): string {
  const documents: string[] = [];
  for (let i = 0; i < services; i += 1) {
    const pods = Array.from({ length: endpoints }, (_, pod) => pod);
    if (i === changed) pods[0] = PODS_PER_SERVICE - 1;
    documents.push(serviceText(i), sliceText(i, pods));
  }
  return documents.join("---\n");
}
