#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Boots Debian's kernels in QEMU (no KVM needed) with a small initramfs and runs test/kernels/runner.c in each.
#   scripts/kernels/run.sh [5.10] [6.1] [6.12]      default: 5.10 6.1
# `make test-kernels` builds what it needs first. Exit 1 if a check failed, a machine did not come up, or time ran out.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/kernels/lib.sh

series=("$@")
if [ ${#series[@]} -eq 0 ]; then series=(5.10 6.1); fi
limit=${KERNEL_TIMEOUT_SECONDS:-900}
work=$(mktemp -d)
qemu=()
cleanup() {
  for pid in "${qemu[@]}"; do kill "$pid" 2>/dev/null || true; done # timeout passes it on to its QEMU
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

need_tools kernels

# initramfs HOME TARGET: the pieces common to all kernels, and this kernel's modules in the order of their needs.
initramfs() {
  local home=$1 root=$2
  copy_base "$root"
  cp test/kernels/init "$root/init"
  cp build/kernels/runner "$root/bin/runner"
  cp build/kernels/selftest.bpf.o build/portolan.bpf.o build/portolan-trace.bpf.o "$root/"
  copy_modules "$home" "$root" veth bridge sch_ingress cls_bpf sctp udp_diag
  pack "$root"
}

# The machines run side by side; each writes its console to a file of its own.
for version in "${series[@]}"; do
  home=$(scripts/kernels/fetch.sh "$version")
  initramfs "$home" "$work/$version"
  boot "$home" "$work/$version.cpio.gz" "$work/$version.log" "$limit" -m 768 >"$work/$version.qemu" 2>&1 &
  qemu+=($!)
done

failed=0
for index in "${!series[@]}"; do
  version=${series[$index]}
  status=0
  wait "${qemu[$index]}" || status=$?
  echo "--- Linux $version ($(<"${PORTOLAN_KERNEL_CACHE:-$HOME/.cache/portolan-kernels}/$version/release"))"
  tr -d '\r' <"$work/$version.log" >"$work/$version.txt"
  cat "$work/$version.qemu"
  if [ "$status" -eq 0 ] && grep -qx 'lane: end' "$work/$version.txt"; then
    sed -n '/^lane: begin$/,/^lane: end$/p' "$work/$version.txt" | grep -v '^lane: '
  else
    cat "$work/$version.txt"
    if [ "$status" -eq 124 ]; then echo "not ok - Linux $version did not end within $limit s"; fi
    echo "not ok - Linux $version: the machine did not reach its end (QEMU's status: $status)"
    failed=1
  fi
  passes=$(grep -c '^ok - ' "$work/$version.txt" || true)
  failures=$(grep -c '^not ok - ' "$work/$version.txt" || true)
  if [ "$failures" -ne 0 ] || [ "$passes" -eq 0 ]; then failed=1; fi
  echo "Linux $version: $passes passed, $failures failed"
done
exit "$failed"
