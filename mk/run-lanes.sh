#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs make targets one after the other, goes on after a failure, and ends with one line per target.
# As root it also proves that they leave nothing behind (scripts/check-leaks.ts). Exit 0 only if all is well.
set -uo pipefail
cd "$(dirname "$0")/.."

make() { command make --no-print-directory "$@"; }
summary=()
failed=0
started=$SECONDS
run() {
  local name=$1 from=$SECONDS result=ok
  shift
  echo "=== $name"
  "$@" </dev/null || { result=FAILED; failed=$((failed + 1)); }
  summary+=("$(printf '%-16s %-7s %4d s' "$name" "$result" $((SECONDS - from)))")
}

if ! make build bpf-tests; then
  echo "make test: the build failed; no test was run" >&2
  exit 1
fi
snapshot=build/leaks-before.json
root=false
if [ "$(id -u)" -eq 0 ]; then root=true; fi
if $root; then node --import tsx scripts/check-leaks.ts snapshot "$snapshot" || exit 1; fi

for target in "$@"; do run "$target" make "$target"; done
if $root; then run leaks node --import tsx scripts/check-leaks.ts compare "$snapshot"; fi

echo
echo "=== summary"
printf '%s\n' "${summary[@]}"
if [ "$failed" -ne 0 ]; then
  echo "$failed of ${#summary[@]} FAILED after $((SECONDS - started)) s"
  exit 1
fi
echo "all ${#summary[@]} ok after $((SECONDS - started)) s"
