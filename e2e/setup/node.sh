#!/usr/bin/env bash
# The image of a kind node: Debian with systemd and containerd, our Kubernetes
# programs, and, already in containerd's store, every image that a pod of the
# tests asks for, so that a new cluster neither pulls nor loads any.
# Makes the part `node-image`, which names an image in the container engine.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=../kind/engine.sh
source "$e2e_dir/kind/engine.sh"
# shellcheck source=../images/lib.sh
source "$e2e_dir/images/lib.sh"
# shellcheck source=../images/components.sh
source "$e2e_dir/images/components.sh"

ingredients=(tools kafka debezium clickhouse rootfs-node rootfs-kube rootfs-base rootfs-java rootfs-postgres)

# node_hash changes with every part and every file that is in the image.
node_hash() {
  local part inputs=("$IMAGE_KIND_NODE" "$IMAGE_POSTGRES" "$IMAGE_KAFKA" "$IMAGE_CONNECT" "$IMAGE_CLICKHOUSE")
  for part in "${ingredients[@]}"; do inputs+=("$(readlink "$cache_dir/current/$part" || true)"); done
  mapfile -t -O "${#inputs[@]}" inputs < <(find "$e2e_dir/node" "$e2e_dir/images" -type f | sort)
  part_hash "${inputs[@]}" "${BASH_SOURCE[0]}"
}

# node_system TREE unpacks and sets up the node's own files.
node_system() {
  local tree=$1 bin=$cache_dir/current/tools/bin program pause
  tar -C "$tree" --numeric-owner -xf "$cache_dir/current/rootfs-node/rootfs.tar"
  cp -a --no-preserve=ownership "$e2e_dir/node/files/." "$tree/"
  cp "$bin/kube" "$bin/crictl" "$tree/usr/bin/"
  for program in kubelet kubeadm kubectl; do ln -s kube "$tree/usr/bin/$program"; done
  pause=$("$bin/kubeadm" config images list --kubernetes-version "v$KUBERNETES_VERSION" | grep /pause:)
  sed -i "s#@PAUSE_IMAGE@#$pause#" "$tree/etc/containerd/config.toml"
  printf 'v%s\n' "$KUBERNETES_VERSION" >"$tree/kind/version"
  chroot "$tree" /bin/bash -euxo pipefail <<'INSIDE'
mkdir -p /etc/kubernetes/manifests /etc/cni/net.d /opt/cni
ln -sfn /usr/lib/cni /opt/cni/bin
# containerd's own idea of a container, without its limit of open files.
ctr oci spec | jq 'del(.process.rlimits)' >/etc/containerd/container.json
update-alternatives --set iptables /usr/sbin/iptables-nft
update-alternatives --set ip6tables /usr/sbin/ip6tables-nft
# A container has no consoles, disks or devices to look after.
rm -f /lib/systemd/system/multi-user.target.wants/* /etc/systemd/system/*.wants/* \
  /lib/systemd/system/local-fs.target.wants/* /lib/systemd/system/basic.target.wants/* \
  /lib/systemd/system/sockets.target.wants/*udev* /lib/systemd/system/sockets.target.wants/*initctl* \
  /lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service
systemctl enable containerd kubelet pod-network
systemctl mask systemd-binfmt systemd-udevd
echo ReadKMsg=no >>/etc/systemd/journald.conf
INSIDE
}

# fill_store TREE FOLDER imports the archives of a folder with the tree's own
# containerd, in mount and process namespaces that vanish with it.
fill_store() {
  local tree=$1 folder=$2
  mkdir -p "$tree/mnt/images"
  # shellcheck disable=SC2016 # expanded inside
  unshare --mount --pid --fork --mount-proc="$tree/proc" -- /bin/bash -euo pipefail -c '
    mount --bind "$2" "$1/mnt/images"
    mount -t tmpfs tmpfs "$1/run"
    exec chroot "$1" /bin/bash -euxo pipefail -c "$3"
  ' -- "$tree" "$folder" '
    export PATH=/usr/sbin:/usr/bin
    # The defaults, less what serves the kubelet.
    echo "disabled_plugins = [\"io.containerd.grpc.v1.cri\"]" >/run/containerd.toml
    containerd --config /run/containerd.toml >/run/containerd.log 2>&1 &
    daemon=$!
    for ((try = 0; try < 100; try++)); do
      if ctr version >/dev/null 2>&1; then break; fi
      sleep 0.1
    done
    for archive in /mnt/images/*.tar; do
      ctr -n k8s.io images import --digests --snapshotter=overlayfs "$archive"
    done
    ctr -n k8s.io images ls -q
    # The packed layers are of no more use once they are unpacked.
    ctr -n k8s.io content prune references
    kill "$daemon"
    wait "$daemon" || true
    du -sh /var/lib/containerd'
  rmdir "$tree/mnt/images"
}

make_images() {
  local folder=$1
  kubernetes_images "$folder"
  postgres_image "$folder"
  jvm_image "$folder"
  clickhouse_image "$folder"
}

# import_node TREE hands the tree to the engine as an image of one layer.
import_node() {
  local old
  tar -C "$1" --numeric-owner --xattrs --one-file-system -cf - . |
    docker import --change 'ENV container=docker' --change 'LABEL tidemark=node' \
      --change 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]' - "$IMAGE_KIND_NODE"
  # Earlier versions of this image are now without a name.
  for old in $(docker images --quiet --filter label=tidemark=node --filter dangling=true); do
    docker rmi "$old" || true # a running cluster may use it
  done
}

make_node() {
  local part=$1 tree=$1/tree
  mkdir -m 755 "$tree" "$part/images"
  step "node system" node_system "$tree"
  step "component images" make_images "$part/images"
  step "images into the node's store" fill_store "$tree" "$part/images"
  rm -r "$part/images"
  step "node image into the container engine" import_node "$tree"
  rm -rf --one-file-system "$tree"
  docker image inspect --format '{{.Id}}' "$IMAGE_KIND_NODE" >"$part/image-id"
}

# node_present: the part may outlive the image, where the user empties the engine.
node_present() {
  part_ready node-image "$1" || return 1
  # Without a running engine the part is believed; `cluster up` looks again.
  engine_use || return 0
  [ "$(docker image inspect --format '{{.Id}}' "$IMAGE_KIND_NODE" 2>/dev/null)" = \
    "$(cat "$cache_dir/current/node-image/image-id")" ] && return 0
  rm -rf "$cache_dir/node-image-$1"
  return 1
}

hash=$(node_hash)
if ! node_present "$hash"; then
  folder=$(part_begin node-image)
  step_advice="Unpacking and mounting need root; about 8 GB of disk must be free below $cache_dir."
  engine_start
  trap '[ -z "$engine_started" ] || engine_stop; rm -rf --one-file-system "$folder"' EXIT
  make_node "$folder"
  part_publish node-image "$hash" "$folder"
fi
