# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# For the scripts beside it: a small initramfs of this machine's programs and one of Debian's kernels, and QEMU to boot it.
PATH=$PATH:/usr/sbin:/sbin # depmod and modprobe, also for those who are not root

# need_tools WHO PROGRAM…: says which one is missing, and how to get it.
need_tools() {
  local who=$1 tool
  shift
  for tool in qemu-system-x86_64 cpio depmod modprobe busybox ip "$@"; do
    command -v "$tool" >/dev/null || { echo "$who: $tool is missing: run scripts/install-deps.sh --kernels" >&2; exit 1; }
  done
  if [[ "$(LC_ALL=C ldd "$(command -v busybox)" 2>&1 || true)" != *"not a dynamic"* ]]; then
    echo "$who: $(command -v busybox) is not static: install busybox-static" >&2
    exit 1
  fi
}

# copy_libraries ROOT FILE: what a program or a plugin is linked with, as it is on this machine.
copy_libraries() {
  local root=$1
  { ldd "$2" || true; } | sed -nE 's/.*(=> |^\s*)(\/[^ ]+) .*/\2/p' | while read -r library; do
    mkdir -p "$root/$(dirname "$library")"
    cp -L "$library" "$root/$library"
  done
}

# copy_program ROOT PROGRAM: into its /sbin. busybox has some of the same names in /bin.
copy_program() {
  local root=$1 program
  program=$(readlink -f "$(command -v "$2")")
  cp "$program" "$root/sbin/$2"
  copy_libraries "$root" "$program"
}

# copy_base ROOT: the directories, a shell and ip.
copy_base() {
  local root=$1
  mkdir -p "$root"/{bin,sbin,proc,sys,dev,run,modules}
  cp "$(command -v busybox)" "$root/bin/busybox"
  ln -s busybox "$root/bin/sh"
  copy_program "$root" ip
}

# copy_modules HOME ROOT MODULE…: of the kernel in HOME, with what they need; /modules/order has the order in which to load them.
copy_modules() {
  local home=$1 root=$2 module path name
  shift 2
  for module in "$@"; do
    modprobe -d "$home" -S "$(<"$home/release")" --show-depends "$module"
  done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$root/modules/paths"
  while read -r path; do
    name=$(basename "$path")
    case "$name" in
      *.xz) name=${name%.xz}; xz -dc "$path" >"$root/modules/$name" ;;
      *) cp "$path" "$root/modules/$name" ;;
    esac
    echo "/modules/$name" >>"$root/modules/order"
  done <"$root/modules/paths"
}

# pack ROOT: writes ROOT.cpio.gz.
pack() {
  (cd "$1" && find . | cpio --quiet -o -H newc) | gzip -1 >"$1.cpio.gz"
}

# boot HOME INITRAMFS CONSOLE SECONDS [OPTION…]: until the machine ends itself, or for so long. Becomes QEMU: for `&`.
boot() {
  local home=$1 initramfs=$2 console=$3 seconds=$4
  shift 4
  exec timeout --kill-after=5 "$seconds" qemu-system-x86_64 -M pc -accel tcg -cpu max -smp 1 \
    -nodefaults -no-user-config -display none -serial "file:$console" -no-reboot \
    -kernel "$home/vmlinuz" -initrd "$initramfs" \
    -append "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off" "$@" </dev/null
}
