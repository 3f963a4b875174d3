#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that building, testing and demonstrating Portolan needs.
# Idempotent: with everything present it asks dpkg once and is done. Quiet unless something is installed or fails.
#
#   scripts/install-deps.sh [--kernels] [--check]
#     --kernels   also what `make test-kernels` and `make bench-qemu` need (QEMU and the pieces of a small initramfs)
#     --check     only say what is missing (exit 1 if anything is); change nothing
set -euo pipefail

base=(clang-19 llvm-19 libbpf-dev bpftool libelf-dev zlib1g-dev # build
  iproute2 iputils-ping procps iptables nftables conntrack ethtool tcpdump # network lanes and the demo
  openssl curl                                                  # what tests make certificates with, and ask health checks
  redis-server redis-tools                                      # the demo's application
  tmux                                                          # a terminal for the test of `portolan top`
  zsh fish)                                                     # shells whose completions are tested
kernels=(qemu-system-x86 cpio busybox-static kmod xz-utils # a machine to boot, and its initramfs
  ipvsadm ipset)                                               # what make bench-qemu has beside

packages=("${base[@]}")
check_only=false
for arg in "$@"; do
  case "$arg" in
    --kernels) packages+=("${kernels[@]}") ;;
    --check) check_only=true ;;
    -h | --help) sed -n '3,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "install-deps: unknown option '$arg' (known: --kernels, --check)" >&2; exit 2 ;;
  esac
done

say() { echo "install-deps: $*" >&2; }

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  say "this system has no dpkg and apt-get, so nothing can be installed from here."
  say "Install the equivalents of: ${packages[*]}"
  exit 1
fi

installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "${packages[@]}" 2>/dev/null || true)
missing=()
for package in "${packages[@]}"; do
  grep -qx "$package installed" <<<"$installed" || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then exit 0; fi

if $check_only; then
  say "missing: ${missing[*]}"
  exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
  say "missing: ${missing[*]}"
  say "this needs root. Run: sudo apt-get update && sudo apt-get install --no-install-recommends ${missing[*]}"
  exit 1
fi

log=$(mktemp)
policy=/usr/sbin/policy-rc.d
made_policy=false
cleanup() {
  if $made_policy; then rm -f "$policy"; fi
  rm -f "$log"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The redis programs are wanted, not a redis service on the machine: while apt runs, forbid service starts
# (policy-rc.d is Debian's interface for that), and take back the start at boot afterwards.
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  made_policy=true
fi

apt() {
  if ! DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 \
    "$@" </dev/null >"$log" 2>&1; then
    say "'apt-get $1' failed; the end of its output:"
    tail -n 30 "$log" >&2
    say "missing: ${missing[*]}"
    say "if a package is unknown to apt: on Debian 12 they all come from 'bookworm main' (and bookworm-security)."
    exit 1
  fi
}
say "installing ${missing[*]}"
apt update
apt install --yes --no-install-recommends "${missing[@]}"

if [[ " ${missing[*]} " == *" redis-server "* ]]; then
  if command -v systemctl >/dev/null; then systemctl --quiet disable redis-server.service >/dev/null 2>&1 || true; fi
  if command -v update-rc.d >/dev/null; then update-rc.d redis-server disable >/dev/null 2>&1 || true; fi
fi
say "done"
