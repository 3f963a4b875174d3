# SPDX-License-Identifier: Apache-2.0
# The image of the node agent: `make image`. The first stage builds on Debian bookworm what `make bundle` makes; the last one holds
# Node.js, that directory, and the host's firewall tools. It is also an image for a kube-proxy DaemonSet: /usr/local/bin/kube-proxy.

FROM node:22-bookworm AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends clang-19 llvm-19 libbpf-dev bpftool libelf-dev zlib1g-dev gcc make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# By themselves: they change less often than the code.
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts
COPY LICENSE Makefile tsconfig.json tsconfig.build.json ./
COPY LICENSES LICENSES
COPY mk mk
COPY bpf bpf
COPY native native
COPY scripts scripts
COPY src src
RUN make bundle

FROM debian:bookworm-slim
# libelf1, zlib1g: libportolan.so. libstdc++6: Node.js.
# iptables: rules in the FORWARD chain that let translated packets through, where a policy would stop them (both backends).
# mount: the bpf file system, for the privileged container of deploy/.
# nftables, ipset, ipvsadm, iproute2: what kube-proxy has left, in each of its modes (portolan cleanup --kube-proxy).
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libelf1 zlib1g libstdc++6 iptables nftables ipset ipvsadm iproute2 mount \
 && rm -rf /var/lib/apt/lists/*
# Without npm and what comes with it.
COPY --from=build /usr/local/bin/node /usr/local/bin/node
COPY --from=build /src/build/bundle /opt/portolan
RUN ln -s /opt/portolan/dist/cli/main.js /usr/local/bin/portolan \
 && ln -s /opt/portolan/dist/cli/main.js /usr/local/bin/kube-proxy
ENV NODE_ENV=production
LABEL org.opencontainers.image.title="portolan" \
      org.opencontainers.image.description="An eBPF Service dataplane for Kubernetes, in kube-proxy's place" \
      org.opencontainers.image.licenses="Apache-2.0"
# Capabilities of a container count for root alone. deploy/ takes away all but four of them.
USER 0:0
ENTRYPOINT ["/usr/local/bin/portolan"]
CMD ["--help"]
