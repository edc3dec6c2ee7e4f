#!/usr/bin/env bash
# Kubernetes, etcd, CoreDNS, helm, kind: every Go program, from one Go module
# (../tools), so that the packages they share are compiled once. Makes the part
# `tools`: bin/ with the programs and, as links to `kube`, Kubernetes' own seven.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

tools_dir=$e2e_dir/tools
kubernetes_programs=(
  kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubeadm kubectl
)

# check_version MODULE VERSION fails when go.mod says otherwise than versions.env.
check_version() {
  grep -qE "^\s*(require )?$1 v$2( //.*)?$" "$tools_dir/go.mod" || {
    echo "e2e/tools/go.mod and e2e/versions.env disagree on $1: the latter says v$2" >&2
    return 1
  }
}

check_versions() {
  check_version k8s.io/kubernetes "$KUBERNETES_VERSION"
  check_version go.etcd.io/etcd/server/v3 "$ETCD_VERSION"
  check_version github.com/coredns/coredns "$COREDNS_VERSION"
  check_version helm.sh/helm/v4 "$HELM_VERSION"
  check_version sigs.k8s.io/kind "$KIND_VERSION"
}

check_go() {
  command -v go >/dev/null || {
    echo "Go is not installed: install Go 1.26 or newer (https://go.dev/dl) and put it on the PATH" >&2
    return 1
  }
}

# link_flags prints what `kubectl version`, the API server and kubeadm report:
# without them a build calls itself v0.0.0, which kubeadm refuses.
link_flags() {
  local package minor=${KUBERNETES_VERSION#*.}
  printf -- '-s -w'
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    printf -- ' -X %s.gitVersion=v%s -X %s.gitMajor=%s -X %s.gitMinor=%s -X %s.gitTreeState=clean -X %s.gitCommit=module' \
      "$package" "$KUBERNETES_VERSION" "$package" "${KUBERNETES_VERSION%%.*}" \
      "$package" "${minor%%.*}" "$package" "$package"
  done
}

# go_build FOLDER PACKAGE... compiles static programs into a folder.
go_build() {
  local folder=$1
  shift
  cd "$tools_dir"
  CGO_ENABLED=0 go build -trimpath -buildvcs=false -mod=readonly \
    -ldflags "$(link_flags)" -o "$folder/" "$@"
}

link_programs() {
  local folder=$1 program
  mv "$folder/server" "$folder/etcd" # named by its import path
  for program in "${kubernetes_programs[@]}"; do ln -s kube "$folder/$program"; done
  "$folder/kubectl" version --client
  "$folder/helm" version --short
  "$folder/kind" version
  "$folder/etcd" --version
  "$folder/coredns" -version
}

mapfile -t sources < <(find "$tools_dir" -name '*.go' | sort)
hash=$(part_hash "$tools_dir/go.mod" "$tools_dir/go.sum" "${sources[@]}" "${BASH_SOURCE[0]}")
if ! part_ready tools "$hash"; then
  check_go
  check_versions
  folder=$(part_begin tools)
  step_advice="The Go module proxy must be reachable by go's usual settings (go env GOPROXY); a link needs 4 GB of memory."
  # The API server and etcd alone serve most tests, so they are built first.
  step "Kubernetes $KUBERNETES_VERSION and etcd $ETCD_VERSION from Go modules" \
    go_build "$folder/bin" ./kube go.etcd.io/etcd/server/v3
  step "helm $HELM_VERSION, kind $KIND_VERSION, CoreDNS $COREDNS_VERSION from Go modules" \
    go_build "$folder/bin" helm.sh/helm/v4/cmd/helm sigs.k8s.io/kind ./coredns ./crictl ./pause
  step "Go programs start" link_programs "$folder/bin"
  part_publish tools "$hash" "$folder"
fi
