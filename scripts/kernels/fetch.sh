#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Fetches one of Debian's kernels and unpacks it: kernel image and modules, nothing is installed.
#   scripts/kernels/fetch.sh 5.10|6.1|6.12     prints the directory: vmlinuz, release, lib/modules/RELEASE
# It asks a private apt (own sources, own state); the machine's own is neither changed nor asked. What was fetched once
# is kept in ~/.cache/portolan-kernels (PORTOLAN_KERNEL_CACHE) and used for ever; remove it to get newer point releases.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin # depmod and modprobe, also for those who are not root

series=${1:?usage: fetch.sh 5.10|6.1|6.12}
case "$series" in
  5.10) suite=bullseye ;;
  6.1) suite=bookworm ;;
  6.12) suite=trixie ;;
  *) echo "fetch.sh: unknown kernel series '$series' (known: 5.10, 6.1, 6.12)" >&2; exit 2 ;;
esac
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
security=${DEBIAN_SECURITY_MIRROR:-http://deb.debian.org/debian-security}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
cache=${PORTOLAN_KERNEL_CACHE:-$HOME/.cache/portolan-kernels}
home=$cache/$series

if [ -e "$home/release" ]; then
  echo "$home"
  exit 0
fi

work=$cache/.fetch-$series.$$
mkdir -p "$work"/{etc,state/lists/partial,cache/archives/partial,root}
trap 'rm -rf "$work"' EXIT
printf 'deb [signed-by=%s] %s main\n' "$keyring" "$mirror $suite" "$keyring" "$security $suite-security" >"$work/etc/sources.list"
: >"$work/etc/status"
apt_options=(-qq
  -o "Dir::Etc::SourceList=$work/etc/sources.list" -o Dir::Etc::SourceParts=/dev/null
  -o "Dir::State=$work/state" -o "Dir::State::status=$work/etc/status" -o "Dir::Cache=$work/cache"
  -o Acquire::Languages=none -o Acquire::Retries=3 -o APT::Sandbox::User=root -o APT::Architecture=amd64)

# bullseye's suites lie in the archive's past: what they hold does not change any more, and their dates have run out.
echo "fetch.sh: asking Debian's $suite for its kernel" >&2
apt-get "${apt_options[@]}" -o Acquire::Check-Valid-Until=false update >&2
# The cloud flavour: a third of the size, with the same networking and BPF configuration. The metapackage names the newest.
package=$(apt-cache "${apt_options[@]}" depends linux-image-cloud-amd64 |
  sed -nE 's/^ *Depends: (linux-image-[^ ]+).*/\1/p' | head -n 1)
test -n "$package" || { echo "fetch.sh: $suite has no linux-image-cloud-amd64" >&2; exit 1; }
echo "fetch.sh: downloading $package" >&2
(cd "$work" && apt-get "${apt_options[@]}" download "$package" >&2)
dpkg -x "$work"/*.deb "$work/root"

release=$(basename "$work"/root/boot/vmlinuz-*)
release=${release#vmlinuz-}
mkdir -p "$work/home"
mv "$work/root/boot/vmlinuz-$release" "$work/home/vmlinuz"
mv "$work/root/boot/config-$release" "$work/home/config"
# trixie has lib below usr.
if [ -d "$work/root/usr/lib/modules" ]; then mv "$work/root/usr/lib" "$work/home/lib"; else mv "$work/root/lib" "$work/home/lib"; fi
depmod -b "$work/home" "$release"
echo "$release" >"$work/home/release"
rm -rf "$home"
mv "$work/home" "$home"
echo "$home"
