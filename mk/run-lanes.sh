#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs make targets one after the other, goes on after a failure, and ends with one line per target. Who sees only the end
# of a log sees what failed and why: that is said once more before the lines, and which tests it was after them.
# As root it also proves that they leave nothing behind (scripts/check-leaks.ts). Exit 0 only if all is well.
set -uo pipefail
cd "$(dirname "$0")/.."

make() { command make --no-print-directory "$@"; }
logs=build/lanes
most_lines=120
summary=()
failed=()
started=$SECONDS
run() {
  local name=$1 from=$SECONDS result=ok
  shift
  echo "=== $name"
  "$@" </dev/null 2>&1 | tee "$logs/$name.log" || { result=FAILED; failed+=("$name"); }
  summary+=("$(printf '%-16s %-7s %4d s' "$name" "$result" $((SECONDS - from)))")
}

# What a log says of the tests that failed: the runner's own list, or else the end of the log.
failures_of() {
  local list
  list=$(sed 's/\x1b\[[0-9;]*m//g' "$logs/$1.log" | sed -n '/failing tests:$/,$p')
  if [ -n "$list" ]; then echo "$list"; else tail -n 40 "$logs/$1.log"; fi
}

if ! make build bpf-tests; then
  echo "make test: the build failed; no test was run" >&2
  exit 1
fi
rm -rf "$logs"
mkdir -p "$logs"
snapshot=build/leaks-before.json
root=false
if [ "$(id -u)" -eq 0 ]; then root=true; fi
if $root; then node --import tsx scripts/check-leaks.ts snapshot "$snapshot" || exit 1; fi

for target in "$@"; do run "$target" make "$target"; done
if $root; then run leaks node --import tsx scripts/check-leaks.ts compare "$snapshot"; fi

for name in "${failed[@]}"; do
  echo
  echo "=== what failed in $name ($logs/$name.log)"
  failures_of "$name" | head -n "$most_lines"
done
echo
echo "=== summary"
printf '%s\n' "${summary[@]}"
if [ "${#failed[@]}" -ne 0 ]; then
  for name in "${failed[@]}"; do
    failures_of "$name" | grep -A 3 '^✖ .*ms)$' | head -n 60 | sed "s/^/$name: /"
  done
  echo "${#failed[@]} of ${#summary[@]} FAILED after $((SECONDS - started)) s"
  exit 1
fi
echo "all ${#summary[@]} ok after $((SECONDS - started)) s"
