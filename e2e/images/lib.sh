# shellcheck shell=bash disable=SC2154 # cache_dir comes from setup/lib.sh
# Makes container images without a container engine: an archive of layers, as
# `docker save` writes it, which containerd and `kind load image-archive` read.
# Sourced after setup/lib.sh.

# layer_of TREE FILE packs a folder as a layer that depends on its contents only.
layer_of() {
  tar -C "$1" --sort=name --mtime=@0 --numeric-owner -cf "$2" .
}

# image_archive FILE CONFIG TAGS LAYER... writes an image. CONFIG is the JSON of
# an image's "config" (Env, Entrypoint, User ...), TAGS are separated by spaces,
# the layers are tar files, the lowest one first.
image_archive() {
  local file=$1 config=$2 tags=$3 work layer name names=() diff_ids='[]'
  shift 3
  work=$(mktemp -d "$cache_dir/.image.XXXXXX")
  for layer in "$@"; do
    name=layer-${#names[@]}.tar
    names+=("$name")
    ln -s "$(realpath "$layer")" "$work/$name"
    diff_ids=$(jq -c --arg sum "sha256:$(sha256sum <"$layer" | cut -d' ' -f1)" '. + [$sum]' <<<"$diff_ids")
  done
  jq -n --argjson config "$config" --argjson diff_ids "$diff_ids" \
    '{architecture: "amd64", os: "linux", created: "1970-01-01T00:00:00Z", config: $config,
      rootfs: {type: "layers", diff_ids: $diff_ids},
      history: [$diff_ids[] | {created: "1970-01-01T00:00:00Z"}]}' >"$work/config.json"
  jq -n --arg tags "$tags" \
    '[{Config: "config.json", RepoTags: ($tags | split(" ")), Layers: $ARGS.positional}]' \
    --args "${names[@]}" >"$work/manifest.json"
  tar -C "$work" --dereference -cf "$file" manifest.json config.json "${names[@]}"
  rm -r "$work"
}

# add_user TREE NAME ID gives a tree the one user that its program runs as.
add_user() {
  mkdir -p "$1/etc"
  printf 'root:x:0:0:root:/root:/bin/sh\n%s:x:%s:%s::/tmp:/bin/sh\n' "$2" "$3" "$3" >"$1/etc/passwd"
  printf 'root:x:0:\n%s:x:%s:\n' "$2" "$3" >"$1/etc/group"
  chmod 644 "$1/etc/passwd" "$1/etc/group"
}

# owned_folder TREE ID PATH makes a folder that the program may write to.
owned_folder() {
  mkdir -p "$1/$3"
  chown "$2:$2" "$1/$3"
}
