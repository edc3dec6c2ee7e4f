# shellcheck shell=bash disable=SC2154 # of setup/lib.sh and versions.env
# The images that a node starts with: Kubernetes' own, and the components of
# e2e/manifests under the names, paths and user ids of the upstream images, so
# that the same manifests run on either. Sourced after lib.sh.

parts=$cache_dir/current
images_dir=$e2e_dir/images
path_variable=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# single_program FILE TAG PROGRAM PATH: an image that holds one static program.
single_program() {
  local file=$1 tag=$2 program=$3 path=$4 work
  work=$(mktemp -d "$cache_dir/.tree.XXXXXX")
  chmod 755 "$work"
  mkdir -p "$work$(dirname "$path")"
  cp "$program" "$work$path"
  layer_of "$work" "$work.tar"
  image_archive "$file" "$(jq -n --arg path "$path" --arg env "$path_variable" \
    '{Env: [$env], Entrypoint: [$path]}')" "$tag" "$work.tar"
  rm -r "$work" "$work.tar"
}

# kubernetes_images FOLDER writes the images of the control plane, under the
# names that kubeadm asks for.
kubernetes_images() {
  local folder=$1 bin=$parts/tools/bin image work pods=() program
  work=$(mktemp -d "$cache_dir/.tree.XXXXXX")
  chmod 755 "$work"
  mkdir -p "$work/usr/local/bin" "$work/usr/sbin"
  cp "$bin/kube" "$work/usr/local/bin/"
  # Installation scripts would make these links.
  for program in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
    ln -s xtables-nft-multi "$work/usr/sbin/$program"
  done
  for image in $("$bin/kubeadm" config images list --kubernetes-version "v$KUBERNETES_VERSION"); do
    program=$(basename "${image%:*}")
    case $program in
      kube-*)
        pods+=("$image")
        ln -s kube "$work/usr/local/bin/$program"
        ;;
      etcd) single_program "$folder/etcd.tar" "$image" "$bin/etcd" /usr/local/bin/etcd ;;
      pause) single_program "$folder/pause.tar" "$image" "$bin/pause" /pause ;;
      coredns) single_program "$folder/coredns.tar" "$image" "$bin/coredns" /coredns ;;
      *)
        echo "kubeadm asks for an image that is not built here: $image" >&2
        return 1
        ;;
    esac
  done
  layer_of "$work" "$work.tar"
  image_archive "$folder/kube.tar" "$(jq -n --arg env "$path_variable" '{Env: [$env]}')" \
    "${pods[*]}" "$parts/rootfs-kube/rootfs.tar" "$work.tar"
  rm -r "$work" "$work.tar"
}

# with_files NAME prints a new tree that holds images/NAME/files.
with_files() {
  local work
  work=$(mktemp -d "$cache_dir/.tree.XXXXXX")
  chmod 755 "$work"
  cp -a --no-preserve=ownership "$images_dir/$1/files/." "$work/"
  printf '%s\n' "$work"
}

postgres_image() {
  local folder=$1 work programs=/usr/lib/postgresql/$POSTGRES_MAJOR/bin
  work=$(with_files postgres)
  add_user "$work" postgres 999
  owned_folder "$work" 999 var/lib/postgresql/data
  owned_folder "$work" 999 var/run/postgresql
  mkdir -p "$work/docker-entrypoint-initdb.d"
  layer_of "$work" "$work.tar"
  image_archive "$folder/postgres.tar" "$(
    # First on the path: Debian's programs of these names are wrappers in Perl.
    jq -n --arg path "PATH=$programs:${path_variable#PATH=}" \
      '{Env: [$path, "PGDATA=/var/lib/postgresql/data", "LANG=C.UTF-8"],
        Entrypoint: ["docker-entrypoint.sh"], Cmd: ["postgres"], StopSignal: "SIGINT"}'
  )" "$IMAGE_POSTGRES" "$parts/rootfs-postgres/rootfs.tar" "$work.tar"
  rm -r "$work" "$work.tar"
}

# Kafka and Connect are the same Java programs: one image under two names.
jvm_image() {
  local folder=$1 work
  work=$(with_files jvm)
  add_user "$work" appuser 1000
  mkdir -p "$work/kafka/connect/debezium-connector-postgres"
  cp -r --preserve=mode "$(realpath "$parts/kafka/libs")" "$work/opt/kafka/libs"
  ln -s ../opt/kafka/libs "$work/kafka/libs"
  cp --preserve=mode "$parts/debezium/"*.jar "$work/kafka/connect/debezium-connector-postgres/"
  layer_of "$work" "$work.tar"
  image_archive "$folder/jvm.tar" "$(
    jq -n --arg path "$path_variable:/usr/lib/jvm/java-17-openjdk-amd64/bin" \
      '{Env: [$path, "LANG=C.UTF-8"], User: "1000", WorkingDir: "/tmp"}'
  )" "$IMAGE_KAFKA $IMAGE_CONNECT" "$parts/rootfs-java/rootfs.tar" "$work.tar"
  rm -r "$work" "$work.tar"
}

clickhouse_image() {
  local folder=$1 work
  work=$(with_files clickhouse)
  add_user "$work" clickhouse 101
  owned_folder "$work" 101 var/lib/clickhouse
  mkdir -p "$work/usr/lib/clickhouse"
  cp "$parts/clickhouse/"{libchdb.so,clickhouse-server} "$work/usr/lib/clickhouse/"
  layer_of "$work" "$work.tar"
  image_archive "$folder/clickhouse.tar" "$(
    jq -n --arg path "$path_variable" \
      '{Env: [$path], User: "101", WorkingDir: "/tmp", Entrypoint: ["/usr/bin/clickhouse-server"]}'
  )" "$IMAGE_CLICKHOUSE" "$parts/rootfs-base/rootfs.tar" "$work.tar"
  rm -r "$work" "$work.tar"
}
