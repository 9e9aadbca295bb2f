#!/usr/bin/env bash
# Trains on two hosts that talk by TCP, and cuts the cable while they do.
#
#   cargo build --release --features mpi
#   sudo tests/two-hosts.sh
#
# The hosts are two network namespaces of this machine with a name each and a virtual cable between them; what starts a
# process on one of them is a three-line script in place of ssh. Needs root, iproute2 and Open MPI.
set -euo pipefail

jit=$(realpath "${JIT:-$(dirname "$0")/../target/release/jit}")
place=$(mktemp -d)
cd "$place"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

down() {
  ip netns del jit-a 2>/dev/null || true
  ip netns del jit-b 2>/dev/null || true
}
trap 'down; rm -rf "$place"' EXIT
down
ip netns add jit-a
ip netns add jit-b
ip link add cable-a netns jit-a type veth peer name cable-b netns jit-b
for host in a:1 b:2; do
  name=jit-${host%:*} cable=cable-${host%:*}
  ip -n "$name" link set lo up
  ip -n "$name" address add "10.77.0.${host#*:}/24" dev "$cable"
  ip -n "$name" link set "$cable" up
done

# on HOST COMMAND…, as ssh would
cat > on <<'EOF'
#!/bin/sh
case $1 in 10.77.0.1) name=jit-a ;; 10.77.0.2) name=jit-b ;; *) exit 1 ;; esac
shift
exec ip netns exec $name unshare --uts sh -c "hostname $name; $*"
EOF
chmod +x on

cat > hosts.toml <<'EOF'
[model]
image_size = 28
channels = 1
patch_size = 7
hidden_size = 128
depth = 4
num_heads = 4
bottleneck_dim = 16
in_context_len = 4
in_context_start = 1
[data]
path = "digits"
[optim]
lr = 1e-3
[train]
precision = "f32"
global_batch = 64
epochs = 1000
sample_count = 0
EOF

# Keepalive lets mpirun and its daemons notice within 10 + 3 × 5 seconds that the other host is gone. ‑‑mca btl: TCP
# alone, as between machines; the processes share a machine and would find the quicker way through its memory.
two_hosts() {
  ./on 10.77.0.1 mpirun -n 2 --host 10.77.0.1,10.77.0.2 --mca plm_rsh_agent "$place/on" --bind-to none \
    --mca btl tcp,self --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24 \
    --mca oob_tcp_keepalive_time 10 --mca oob_tcp_keepalive_intvl 5 --mca oob_tcp_keepalive_probes 3 \
    "$jit" "$@" --threads 1
}
weights() { cat "$1"/checkpoints/step-*/model.safetensors | sha256sum | cut -c1-16; }

echo "== 40 steps on two hosts, and by two processes on one"
two_hosts train --config hosts.toml --out two --max-steps 40
ip netns exec jit-a cat /sys/class/net/cable-a/statistics/tx_bytes | sed 's/$/ bytes sent by the first host/'
mpirun -n 2 --oversubscribe --bind-to none "$jit" train --config hosts.toml --out one --max-steps 40 --threads 1 2>/dev/null
echo "weights on two hosts $(weights two), on one $(weights one)"
[ "$(weights two)" = "$(weights one)" ]

echo "== the process on the second host is killed"
two_hosts train --config hosts.toml --out killed --max-steps 1000000 --set train.save_every=20 > killed.log 2>&1 &
job=$!
until [ -d killed/checkpoints/step-00000040 ]; do sleep 0.1; done
for process in $(pgrep -f "out killed"); do
  if tr '\0' '\n' < "/proc/$process/environ" | grep -qx OMPI_COMM_WORLD_RANK=1; then kill -9 "$process"; fi
done
killed=$(date +%s%N)
wait "$job" && exit 1
echo "mpirun ended $((($(date +%s%N) - killed) / 1000000)) ms later:"
sed 's/^/  /' killed.log

echo "== the cable is cut"
two_hosts train --config hosts.toml --out cut --max-steps 1000000 --set train.save_every=20 > cut.log 2>&1 &
job=$!
until [ -d cut/checkpoints/step-00000040 ]; do sleep 0.1; done
ip -n jit-a link set cable-a down
cut=$(date +%s%N)
wait "$job" && exit 1
echo "mpirun ended $((($(date +%s%N) - cut) / 1000000)) ms after the cut:"
sed 's/^/  /' cut.log
ended=$(date +%s%N)
while pgrep -f "out cut" >/dev/null; do
  sleep 0.1
  [ $((($(date +%s%N) - ended) / 1000000)) -lt 60000 ] || { echo "processes are left"; exit 1; }
done
echo "the last process ended $((($(date +%s%N) - cut) / 1000000)) ms after the cut"

echo "== and goes on when it is mended"
ip -n jit-a link set cable-a up
last=$(ls cut/checkpoints | tail -1)
two_hosts train --config hosts.toml --out cut --max-steps $((10#${last#step-} + 20)) --set train.save_every=20
