#!/usr/bin/env bash
# Root file systems of the images, from Debian packages. `rootfs.sh NAME` makes
# the part `rootfs-NAME` (rootfs.tar); without a name, all of them.
#
# Only the node runs a package manager's scripts (it needs systemd set up). The
# others hold unpacked packages and nothing that could install more.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# shellcheck disable=SC2054 # commas are mmdebstrap's
declare -A packages=(
  # What kind, kubeadm and the kubelet call on a node.
  [node]=systemd,systemd-sysv,dbus,containerd,runc,containernetworking-plugins,conntrack,iptables,nftables,iproute2,ethtool,util-linux,mount,kmod,procps,socat,ebtables,jq,ca-certificates,bash,e2fsprogs
  # kube-proxy's tools; the three other control plane programs need none.
  [kube]=libc6,libc-bin,dash,coreutils,iptables,nftables,conntrack,kmod
  # Under Tidemark's own programs and ClickHouse.
  [base]=libc6,libc-bin,libgcc-s1,libstdc++6,libssl3,zlib1g,ca-certificates,base-files,dash,bash,coreutils
  [java]=libc6,libc-bin,base-files,dash,bash,coreutils,sed,grep,openjdk-17-jre-headless
  [postgres]=libc6,libc-bin,base-files,dash,bash,coreutils,sed,grep,tzdata,postgresql-$POSTGRES_MAJOR
)

# What no container needs: documents, the package manager's state, and what drags
# LLVM into PostgreSQL (it runs without its just-in-time compiler).
unwanted=(
  usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/i18n usr/share/lintian
  usr/share/bug usr/share/doc-base usr/share/perl usr/lib/modules lib/modules
  var/lib/apt/lists var/cache/apt var/cache/debconf
)
unwanted_globs=(
  'usr/lib/*/libLLVM*' 'usr/lib/*/libz3*' 'usr/lib/*/perl' 'usr/lib/*/libperl*' 'usr/bin/perl*'
  'usr/lib/postgresql/*/lib/llvmjit*' 'usr/lib/postgresql/*/lib/bitcode'
)

# debian_mirror prints where this machine itself gets its Debian packages from.
debian_mirror() {
  local mirror
  # shellcheck disable=SC2016 # $(...) are apt's own fields
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Identifier: Packages' |
    awk -v suite="$DEBIAN_SUITE" '$2 == suite && $3 == "main" { print $1; exit }')
  [ -n "$mirror" ] || {
    echo "no apt source on this machine serves Debian $DEBIAN_SUITE main (or its lists are missing: run apt-get update)" >&2
    return 1
  }
  printf '%s\n' "$mirror"
}

make_rootfs() {
  local name=$1 folder=$2 tree=$2/tree variant=extract mirror glob
  mirror=$(debian_mirror)
  [ "$name" != node ] || variant=minbase
  mmdebstrap --mode=root --variant="$variant" --format=directory \
    --include="${packages[$name]}" --aptopt='Acquire::Languages "none"' \
    "$DEBIAN_SUITE" "$tree" "$mirror"
  cd "$tree"
  rm -rf "${unwanted[@]}"
  if [ "$name" != node ]; then
    for glob in "${unwanted_globs[@]}"; do
      # shellcheck disable=SC2086 # a pattern
      rm -rf $glob
    done
  fi
  tar --numeric-owner --one-file-system -cf "$folder/rootfs.tar" .
  rm -rf --one-file-system "$tree"
}

[ $# -gt 0 ] || set -- node kube base java postgres
for name in "$@"; do
  hash=$(part_hash "$name" "$DEBIAN_SUITE" "${packages[$name]}" "${unwanted[@]}" "${unwanted_globs[@]}")
  if ! part_ready "rootfs-$name" "$hash"; then
    folder=$(part_begin "rootfs-$name")
    step_advice="The Debian mirror of this machine's apt sources must be reachable." \
      step "root file system '$name' from Debian packages" make_rootfs "$name" "$folder"
    part_publish "rootfs-$name" "$hash" "$folder"
  fi
done
