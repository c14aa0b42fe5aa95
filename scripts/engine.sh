#!/usr/bin/env bash
# A container engine of the tests' own, apart from any other of this machine. As root, with docker.io and runsc.
# Usage: scripts/engine.sh DIRECTORY OWNER-PID [GROUP]
# Its socket is DIRECTORY/socket (for GROUP, if one is named); DIRECTORY/ready appears when it answers. It runs until
# the process OWNER-PID is gone or DIRECTORY/stop appears, and leaves nothing: no process, mount or file.
set -euo pipefail
directory=$1 owner=$2 group=${3:-root}
mkdir -p "$directory/data" "$directory/exec"
chmod 0755 "$directory"

runsc=$(command -v runsc || echo /usr/bin/runsc)
platform=ptrace
if "$runsc" flags 2>&1 | grep -q systrap; then platform=systrap; fi
arguments="\"--platform=$platform\", \"--network=none\", \"--host-uds=open\", \"--oci-seccomp\""
cat >"$directory/daemon.json" <<END
{
  "hosts": ["unix://$directory/socket"], "group": "$group",
  "data-root": "$directory/data", "exec-root": "$directory/exec", "pidfile": "$directory/pid",
  "iptables": false, "ip6tables": false, "ip-forward": false, "bridge": "none",
  "runtimes": {
    "runsc": {"path": "$runsc", "runtimeArgs": [$arguments]},
    "runsc-unlimited": {"path": "$runsc", "runtimeArgs": [$arguments, "--ignore-cgroups"]},
    "runsc-forgetful": {"path": "$runsc", "runtimeArgs": [$arguments, "--overlay2=all:memory"]}
  }
}
END
dockerd --config-file "$directory/daemon.json" >"$directory/log" 2>&1 &
engine=$!

finish() {
  kill "$engine" 2>/dev/null || true
  wait "$engine" 2>/dev/null || true
  # Shims of an engine that a test killed are not its children.
  for process in $(grep -lsa -- "$directory/" /proc/[0-9]*/cmdline | cut -d/ -f3); do
    case $(cat "/proc/$process/comm" 2>/dev/null) in
    containerd* | docker* | runsc* | exe) kill -KILL "$process" 2>/dev/null || true ;;
    esac
  done
  while read -r mounted; do
    umount -l "$mounted" 2>/dev/null || true
  done < <(awk -v top="$directory/" 'index($5, top) == 1 { print $5 }' /proc/self/mountinfo | sort -r)
  rm -rf "$directory"
}
trap finish EXIT

while kill -0 "$owner" 2>/dev/null && [ ! -e "$directory/stop" ]; do
  if [ ! -e "$directory/ready" ] && grep -q "API listen on" "$directory/log"; then touch "$directory/ready"; fi
  kill -0 "$engine" 2>/dev/null || [ -e "$directory/restart" ] || exit 1
  sleep 0.1
done
