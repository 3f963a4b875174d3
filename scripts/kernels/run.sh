#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Boots Debian's kernels in QEMU (no KVM needed) with a small initramfs and runs test/kernels/runner.c in each.
#   scripts/kernels/run.sh [5.10] [6.1] [6.12]      default: 5.10 6.1
# `make test-kernels` builds what it needs first. Exit 1 if a check failed, a machine did not come up, or time ran out.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin # depmod and modprobe, also for those who are not root
cd "$(dirname "$0")/../.."

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

for tool in qemu-system-x86_64 cpio depmod modprobe busybox ip; do
  command -v "$tool" >/dev/null || { echo "kernels: $tool is missing: run scripts/install-deps.sh --kernels" >&2; exit 1; }
done
if [[ "$(LC_ALL=C ldd "$(command -v busybox)" 2>&1 || true)" != *"not a dynamic"* ]]; then
  echo "kernels: $(command -v busybox) is not static: install busybox-static" >&2
  exit 1
fi

# Copies a program and the libraries it is linked with, as they are on this machine.
copy_program() {
  local target=$1 program
  program=$(readlink -f "$(command -v "$2")")
  cp "$program" "$target/bin/$2"
  ldd "$program" | sed -nE 's/.*(=> |^\s*)(\/[^ ]+) .*/\2/p' | while read -r library; do
    mkdir -p "$target/$(dirname "$library")"
    cp -L "$library" "$target/$library"
  done
}

# initramfs HOME TARGET: the pieces common to all kernels, and this kernel's modules in the order of their needs.
initramfs() {
  local home=$1 root=$2 release module path name
  release=$(<"$home/release")
  mkdir -p "$root"/{bin,sbin,proc,sys,dev,run,modules}
  cp "$(command -v busybox)" "$root/bin/busybox"
  ln -s busybox "$root/bin/sh"
  copy_program "$root" ip
  mv "$root/bin/ip" "$root/sbin/ip"
  cp test/kernels/init "$root/init"
  cp build/kernels/runner "$root/bin/runner"
  cp build/kernels/selftest.bpf.o build/portolan.bpf.o build/portolan-trace.bpf.o "$root/"
  for module in veth bridge sch_ingress cls_bpf sctp udp_diag; do
    modprobe -d "$home" -S "$release" --show-depends "$module"
  done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$root/modules/paths"
  while read -r path; do
    name=$(basename "$path")
    case "$name" in
      *.xz) name=${name%.xz}; xz -dc "$path" >"$root/modules/$name" ;;
      *) cp "$path" "$root/modules/$name" ;;
    esac
    echo "/modules/$name" >>"$root/modules/order"
  done <"$root/modules/paths"
  (cd "$root" && find . | cpio --quiet -o -H newc) | gzip -1 >"$root.cpio.gz"
}

# The machines run side by side; each writes its console to a file of its own.
for version in "${series[@]}"; do
  home=$(scripts/kernels/fetch.sh "$version")
  initramfs "$home" "$work/$version"
  timeout --kill-after=5 "$limit" qemu-system-x86_64 -M pc -accel tcg -cpu max -m 768 -smp 1 \
    -nodefaults -no-user-config -display none -serial "file:$work/$version.log" -no-reboot \
    -kernel "$home/vmlinuz" -initrd "$work/$version.cpio.gz" \
    -append "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off" </dev/null >"$work/$version.qemu" 2>&1 &
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
