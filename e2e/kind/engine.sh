# shellcheck shell=bash disable=SC2154,SC2034 # variables of the scripts around it
# The container engine that kind runs on: the machine's own where one answers,
# else one of ours, with its data under the cache and a socket of its own, so
# that nothing of the user's is touched. Sourced after setup/lib.sh.

run_dir=$cache_dir/run
mkdir -p "$run_dir"
engine_pid_file=$run_dir/dockerd.pid
engine_socket=$run_dir/docker.sock
engine_log=$log_dir/dockerd.log
# Debian's engine 20.10 has the classic builder and no other.
export DOCKER_BUILDKIT=0

# engine_lacks_resource_capability: a process that lacks CAP_SYS_RESOURCE (bit
# 24), as in some virtual machines, cannot give it to a privileged container.
engine_lacks_resource_capability() {
  local bounding
  bounding=$(awk '$1 == "CapBnd:" { print $2 }' /proc/self/status)
  ((((16#$bounding >> 24) & 1) == 0))
}

# engine_hold says that this script uses the engine, until the script ends: a
# shared lock, which engine_stop must get for itself alone.
engine_hold() {
  [ -z "${engine_hold_fd:-}" ] || return 0
  exec {engine_hold_fd}>"$cache_dir/locks/engine-in-use"
  flock --shared "$engine_hold_fd"
}

# engine_use points docker and kind at a running engine, or fails.
engine_use() {
  engine_hold
  if docker info >/dev/null 2>&1; then return 0; fi
  DOCKER_HOST=unix://$engine_socket docker info >/dev/null 2>&1 || return 1
  export DOCKER_HOST=unix://$engine_socket
}

engine_write_config() {
  local runtime='{}' default=runc
  if engine_lacks_resource_capability; then
    runtime=$(jq -n --arg path "$e2e_dir/kind/runc-without-resource" '{lesscaps: {path: $path}}')
    default=lesscaps
  fi
  # No default bridge: kind makes the only network that is needed.
  jq -n --arg data "$cache_dir/docker" --arg exec "$run_dir/docker" --arg pid "$engine_pid_file" \
    --arg host "unix://$engine_socket" --argjson runtimes "$runtime" --arg default "$default" \
    '{"data-root": $data, "exec-root": $exec, "pidfile": $pid, "hosts": [$host], "bridge": "none",
      "runtimes": $runtimes, "default-runtime": $default,
      "log-opts": {"max-size": "20m"}}' >"$run_dir/dockerd.json"
}

engine_answers() {
  DOCKER_HOST=unix://$engine_socket docker info >/dev/null 2>&1
}

engine_answers_or_ended() {
  engine_answers || ! grep -q 'State:.[^Z]' "/proc/$1/status"
}

engine_launch() {
  local fd pid
  engine_write_config
  # An engine that was killed leaves these, and the next one takes a zombie or
  # another process of that number for a running engine.
  runs "$run_dir/docker/containerd/containerd.pid" containerd ||
    rm -f "$run_dir/docker/containerd/containerd.pid"
  rm -f "$engine_socket" "$engine_pid_file"
  # What the engine changes for all and does not undo. A file that is there is of
  # an engine that died: it knows the policy from before.
  [ -f "$run_dir/forward-policy" ] || iptables -S FORWARD | head -1 >"$run_dir/forward-policy"
  # A session of its own, so that an interrupt at the terminal does not reach
  # it; without this script's locks, which would live as long as the engine.
  (
    for fd in "${lock_fd:-}" "${engine_hold_fd:-}" "${engine_start_fd:-}"; do
      [ -z "$fd" ] || exec {fd}>&-
    done
    exec setsid dockerd --config-file "$run_dir/dockerd.json" >"$engine_log" 2>&1 </dev/null
  ) &
  # After a crash it first ends the containers of the last time, one by one.
  pid=$!
  await 150 engine_answers_or_ended "$pid" || kill "$pid"
  engine_answers || { cat "$engine_log" && return 1; }
}

# engine_start makes an engine answer; engine_started says whether it is new.
engine_started=
engine_start() {
  if engine_use; then return 0; fi
  # Another script may be starting it at this moment.
  exec {engine_start_fd}>"$cache_dir/locks/engine-start"
  flock "$engine_start_fd"
  if ! engine_use; then
    step_advice="See $engine_log. It runs as root and needs iptables, cgroups and overlayfs." \
      step "container engine" engine_launch
    engine_started=yes
    engine_use
  fi
  exec {engine_start_fd}>&-
  unset engine_start_fd
}

# runs PID_FILE PROGRAM: the process named in the file runs. One that was killed
# may stay in the process table as a zombie until the first process reaps it.
runs() {
  local status
  [ -f "$1" ] || return 1
  status=$(cat "/proc/$(cat "$1")/status" 2>/dev/null) || return 1
  [[ $status == *"$2"* && $status != *State:?Z* ]]
}

engine_is_ours() { runs "$engine_pid_file" dockerd; }

engine_is_not_ours() { ! engine_is_ours; }

# engine_stop ends our engine, unless it is in use, and takes away the packet
# filter's chains that it leaves behind.
engine_stop() {
  local pid
  engine_is_ours || return 0
  pid=$(cat "$engine_pid_file")
  engine_hold
  if ! flock --exclusive --nonblock "$engine_hold_fd"; then
    say "the container engine goes on: another script uses it"
    return 0
  fi
  if [ -n "$(DOCKER_HOST=unix://$engine_socket docker ps -q 2>/dev/null)" ]; then
    say "the container engine goes on: another cluster runs in it"
    flock --shared "$engine_hold_fd"
    return 0
  fi
  kill "$pid"
  await 30 engine_is_not_ours || kill -9 "$pid"
  rm -f "$engine_socket" "$engine_pid_file"
  # Another engine on this machine would lose its own chains of the same names.
  pgrep -x dockerd >/dev/null || engine_clear_packet_filter
}

engine_clear_packet_filter() {
  local table rule chain
  for table in nat filter; do
    iptables -t "$table" -S | sed -n 's/^-A \([A-Z]* .*-j DOCKER.*\)/\1/p' |
      while IFS= read -r rule; do
        # shellcheck disable=SC2086 # a rule is words
        iptables -t "$table" -D $rule
      done
    for chain in $(iptables -t "$table" -S | sed -n 's/^-N \(DOCKER.*\)/\1/p'); do
      iptables -t "$table" -F "$chain"
    done
    for chain in $(iptables -t "$table" -S | sed -n 's/^-N \(DOCKER.*\)/\1/p'); do
      iptables -t "$table" -X "$chain"
    done
  done
  if [ -f "$run_dir/forward-policy" ]; then
    # shellcheck disable=SC2046 # "-P FORWARD ACCEPT" is words
    iptables $(cat "$run_dir/forward-policy")
    rm "$run_dir/forward-policy"
  fi
}
