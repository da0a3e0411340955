#!/bin/sh
# Checks what this machine lacks to build images and run VMs. On Debian and Ubuntu it installs that, given root or a
# passwordless sudo; elsewhere it prints exactly what to install. With --cluster also the servers that machines share,
# with --test also those and what only the test suite needs.
# $missing and $as_root are lists of words and stand unquoted for that.
set -eu

want_test=no want_cluster=no
case "${1:-}" in
--cluster) want_cluster=yes ;;
--test) want_test=yes want_cluster=yes ;;
esac
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { printf 'system packages: %s\n' "$*" >&2; }

missing=""
need() { # need PACKAGE COMMAND…: any of the commands will do
  package=$1
  shift
  for command in "$@"; do command -v "$command" >/dev/null 2>&1 && return 0; done
  missing="$missing $package"
}
postgresql() { # Debian keeps its programs, one directory a version, out of the PATH
  command -v initdb >/dev/null 2>&1 && return 0
  for initdb in /usr/lib/postgresql/*/bin/initdb; do [ -x "$initdb" ] && return 0; done
  return 1
}
static_busybox() {
  [ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1
}

os=$(uname -s) machine=$(uname -m)
if [ "$os" != Linux ] || [ "$machine" != x86_64 ]; then
  say "this is $os on $machine; images are built and VMs run on Linux on x86-64 alone, so there is nothing to install."
  exit 0
fi

need buildah buildah
need runc runc
need uidmap newuidmap
need slirp4netns slirp4netns
need fuse-overlayfs fuse-overlayfs
need qemu-system-x86 qemu-system-x86_64
need qemu-utils qemu-img
need e2fsprogs mke2fs
need iproute2 ip
need iptables iptables
need util-linux setpriv
# Others do not package it; without it, what failed pulls leave is not removed.
! command -v apt-get >/dev/null 2>&1 || need containers-storage containers-storage
static_busybox || missing="$missing busybox-static"
if [ "$want_cluster" = yes ]; then
  need nats-server nats-server
  postgresql || missing="$missing postgresql"
fi
if [ "$want_test" = yes ]; then
  need systemd systemd-analyze
  need docker-registry docker-registry
  need mmdebstrap mmdebstrap
  need passwd useradd
  need curl curl
  need chromium chromium
fi

if [ -z "$missing" ]; then
  exit 0
fi

as_root=""
if [ "$(id -u)" != 0 ]; then
  if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
  else
    as_root=no
  fi
fi

if command -v apt-get >/dev/null 2>&1 && [ "$as_root" != no ]; then
  say "installing$missing"
  # An update that fails in part (a stranger's source is down) need not stop the install; its words are kept. Another
  # apt-get may hold the lock: a freshly booted machine updates itself.
  $as_root env DEBIAN_FRONTEND=noninteractive sh -c '
    log=$(mktemp)
    trap "rm -f \"$log\"" EXIT
    { apt-get update -q || :; apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=120 "$@"; } >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
  ' sh $missing || {
    say "apt-get could not install them (its words are above). Install by hand:$missing"
    exit 1
  }
  say "installed"
  exit 0
fi

say "this machine lacks:$missing"
if command -v apt-get >/dev/null 2>&1; then
  say "run as root:  apt-get install -y --no-install-recommends$missing"
elif command -v dnf >/dev/null 2>&1; then
  say "run as root (for the cluster also nats-server and postgresql-server, for the tests a docker-registry and mmdebstrap):"
  say "  dnf install buildah runc shadow-utils slirp4netns fuse-overlayfs qemu-system-x86-core qemu-img e2fsprogs iproute iptables-nft busybox"
elif command -v pacman >/dev/null 2>&1; then
  say "run as root (for the cluster also nats-server and postgresql, for the tests a docker-registry and mmdebstrap):"
  say "  pacman -S buildah runc shadow slirp4netns fuse-overlayfs qemu-system-x86 qemu-img e2fsprogs iproute2 iptables busybox"
else
  say "install them with your package manager (the names above are Debian's), then run this command again."
fi
exit 1
