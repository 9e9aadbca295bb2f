#!/usr/bin/env bash
# The CUDA engine's proof on a card, in two halves.
#
#   benches/gpu/run.sh prepare DIR            here: builds all that the other machine needs into DIR, under 60 MB
#   benches/gpu/run.sh run DIR [RESULTS]      there: a Linux machine with an NVIDIA card, its driver, cuBLASLt and NVRTC (a toolkit,
#                                             or NVIDIA's wheels as PyTorch brings them). No network, no Rust.
#
# `run` ends after SECONDS_IN_ALL [default: 540], the steps that matter most first. Each has a time limit and a log of its own in
# RESULTS (default DIR/results); what fails does not stop the others, and what there is no time for is skipped. The last thing printed
# is a table.
# PYTHON names the interpreter that has torch [default: python3]; without one the twin's rows are missing.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
usage() { sed -n '2,5p' "$0" >&2; exit 1; }

prepare() {
  local dir=$1
  set -e
  mkdir -p "$dir/golden"
  cd "$root"
  cargo build --release --locked -p jit-cli --features cuda
  cp target/release/jit "$dir/jit"
  # Names of the test binaries, as cargo tells them.
  cargo test --release --locked -p jit-cuda --features card --test operations --test bf16 --no-run \
    --message-format=json 2>/dev/null |
    sed -n 's/.*"name":"\(operations\|bf16\)".*"executable":"\([^"]*\)".*/\1 \2/p' |
    while read -r name path; do cp "$path" "$dir/test-$name"; done
  strip "$dir/jit" "$dir"/test-*
  cp crates/jit-cli/tests/golden/*.safetensors crates/jit-train/tests/golden/training.safetensors \
    crates/jit-model/tests/golden/checkpoint-last.pth "$dir/golden/"
  cp benches/pytorch/bench.py benches/pytorch/jit.py "$dir/"
  cp benches/gpu/run.sh benches/gpu/table.py "$dir/"
  du -sh "$dir"
}

run() {
  local dir results python
  dir=$(cd "$1" && pwd)
  results=${2:-$dir/results}
  python=${PYTHON:-python3}
  mkdir -p "$results"
  results=$(cd "$results" && pwd)
  export XDG_CACHE_HOME=$results/cache
  libraries
  cd "$dir"
  chmod +x jit test-*

  step 20 card nvidia-smi
  step 60 doctor ./jit --device cuda doctor
  step 60 operations ./test-operations
  step 60 bf16 ./test-bf16
  step 60 verify-f32 ./jit --device cuda verify --precision f32 golden/*
  step 60 verify-bf16 ./jit --device cuda verify --precision bf16 golden/*

  # Preset, batch, further flags; ours and the twin's next to each other, so that the card is as warm.
  training b16 JiT-B/16 128
  training b16 JiT-B/16 32
  training b16 JiT-B/16 256
  training l16 JiT-L/16 64
  training h16 JiT-H/16 64 --checkpoint-blocks
  step 40 jit-forward-b16-128 ./jit --device cuda bench sample --preset JiT-B/16 --batch-size 128 \
    --method euler --cfg 1 --steps 20 --json
  twin forward b16 128 compile
  step 40 kernels ./jit --device cuda bench kernels --preset JiT-B/16 --batch-size 128

  step 60 digits ./jit --device cuda train --preset digits --out "$results/digits"
  step 60 digits-eval ./jit --device cuda eval --checkpoint "$results/digits" --count 2000
  step 60 resume resume "$results"
  "$python" table.py "$results" 2>&1 | tee "$results/table.txt"
}

# Where NVIDIA's wheels are, if there are any.
libraries() {
  local found
  found=$("$python" - <<'PY' 2>/dev/null
import glob, site, sysconfig
places = {sysconfig.get_paths()["purelib"], *site.getsitepackages()}
print(":".join(sorted(d for p in places for d in glob.glob(p + "/nvidia/*/lib"))))
PY
  )
  export LD_LIBRARY_PATH="$found:/usr/local/cuda/lib64:${LD_LIBRARY_PATH:-}"
}

# step SECONDS NAME COMMAND …: runs it under a limit, its output in NAME.log, its verdict in NAME.status.
step() {
  local limit=$1 name=$2 started=$SECONDS status left=$((${SECONDS_IN_ALL:-540} - SECONDS))
  shift 2
  if [ $left -lt 10 ]; then
    echo "skipped 0" >"$results/$name.status"
    echo "$name: skipped, no time is left"
    return
  fi
  [ $limit -le $left ] || limit=$left
  if [ "$(type -t "$1")" = function ]; then
    "$@" >"$results/$name.log" 2>&1
  else
    timeout --signal=TERM --kill-after=5 "$limit" "$@" >"$results/$name.log" 2>&1
  fi
  status=$?
  echo "$status $((SECONDS - started))" >"$results/$name.status"
  echo "$name: exit $status"
  [ $status -eq 0 ] || tail -n 5 "$results/$name.log"
}

training() {
  local twin=$1 preset=$2 batch=$3
  shift 3
  step 60 "jit-train-$twin-$batch" ./jit --device cuda bench train --preset "$preset" --batch-size "$batch" \
    --set optim.ema_decay=[0.9999,0.9996] --steps 20 --json "$@"
  twin train "$twin" "$batch" compile "$@"
  [ "$twin-$batch" != b16-128 ] || twin train "$twin" "$batch" eager "$@"
}

# twin WHAT MODEL BATCH MODE …: the same in PyTorch.
twin() {
  local what=$1 model=$2 batch=$3 mode=$4
  shift 4
  step 100 "torch-$what-$model-$batch-$mode" "$python" bench.py "$what" --model "$model" --batch "$batch" \
    --precision bf16 --mode "$mode" --device cuda --steps 20 "$@"
}

# A run that is killed and goes on ends in the same bits as one that is not.
resume() {
  local out=$1 line="./jit --device cuda train --preset digits --set train.max_steps=60 --set train.save_every=20"
  rm -rf "$out/whole" "$out/killed"
  $line --out "$out/whole" || return 1
  $line --out "$out/killed" &
  local pid=$!
  for _ in $(seq 200); do
    ls "$out"/killed/checkpoints/step-* >/dev/null 2>&1 && break
    sleep 0.1
  done
  kill -KILL $pid 2>/dev/null
  wait $pid 2>/dev/null
  $line --out "$out/killed" || return 1
  local last=checkpoints/step-00000060/model.safetensors
  ls "$out"/whole/checkpoints
  cmp "$out/whole/$last" "$out/killed/$last" && echo "the same bits"
}

case ${1:-} in
  prepare) [ $# -eq 2 ] || usage; prepare "$2" ;;
  run) [ $# -ge 2 ] || usage; run "$2" "${3:-}" ;;
  *) usage ;;
esac
