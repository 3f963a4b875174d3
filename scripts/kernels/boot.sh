#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Boots one of Debian's kernels in QEMU with a directory's files as its initramfs, and prints what it wrote to its console.
#   scripts/kernels/boot.sh 5.10|6.1|6.12 DIRECTORY SECONDS [--memory MiB] [--count] [--programs "A B"] [--modules "A B"]
# DIRECTORY has `init`, and whatever that wants; a shell, ip, the programs with their libraries, and the modules are added to it
# (/modules/order has the order in which to load them). With --count the machine's clocks count instructions: each takes one
# nanosecond, and time in which it would only wait is skipped. Exit 1: it did not end by itself within so many seconds.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/kernels/lib.sh

usage() { sed -n '4s/^# *//p' "$0" >&2; exit 2; }
[ $# -ge 3 ] || usage
series=$1 root=$2 seconds=$3
shift 3
memory=1024 programs=() modules=() clock=()
while [ $# -gt 0 ]; do
  case "$1" in
    --count) clock=(-icount "shift=0,sleep=off"); shift; continue ;;
    --memory) memory=${2:?} ;;
    --programs) read -ra programs <<<"${2:?}" ;;
    --modules) read -ra modules <<<"${2:?}" ;;
    *) usage ;;
  esac
  shift 2
done
need_tools boot "${programs[@]}"

home=$(scripts/kernels/fetch.sh "$series")
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true' EXIT # timeout passes it on to its QEMU
trap 'exit 130' INT
trap 'exit 143' TERM
copy_base "$root"
for program in "${programs[@]}"; do
  copy_program "$root" "$program"
  case "$program" in # whose matches and targets are plugins
    iptables* | ip6tables*)
      plugins=$(dirname "$(find /usr/lib -name libxt_comment.so -print -quit)")
      mkdir -p "$root$plugins"
      cp "$plugins"/*.so "$root$plugins/" ;;
  esac
done
copy_modules "$home" "$root" "${modules[@]}"
pack "$root"
boot "$home" "$root.cpio.gz" "$root.console" "$seconds" -m "$memory" "${clock[@]}" >"$root.qemu" 2>&1 &
pid=$!
status=0
wait "$pid" || status=$?
pid=
tr -d '\r' <"$root.console"
if [ "$status" -ne 0 ]; then
  cat "$root.qemu" >&2
  if [ "$status" -eq 124 ]; then echo "boot: Linux $series did not end within $seconds s" >&2; fi
  exit 1
fi
