#!/usr/bin/env bash
# Everything that wants a real graphics card, for whoever has one: golden cases in both precisions, the tests of the
# operations and of the commands, speed at JiT-B/16, and a short training.
#
#   tests/gpu.sh vulkan          any card, through Vulkan with SPIR-V
#   tests/gpu.sh wgpu            any card, through Vulkan, Metal or DirectX with WGSL
#
# NVIDIA's own way has benches/gpu/run.sh. Golden cases from elsewhere may follow: tests/gpu.sh wgpu CASE.safetensors …
set -euo pipefail
cd "$(dirname "$0")/.."
feature=${1:?usage: tests/gpu.sh vulkan|wgpu [CASE …]}
shift
case $feature in
  vulkan | wgpu) device=wgpu ;;
  *) echo "no such feature: $feature" >&2; exit 1 ;;
esac

cargo build --release --features "$feature"
jit() { target/release/jit --device "$device" "$@"; }
runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT

target/release/jit doctor
cases=(crates/jit-cli/tests/golden/*.safetensors crates/jit-train/tests/golden/training.safetensors
  crates/jit-model/tests/golden/checkpoint-last.pth "$@")
jit verify --precision f32 "${cases[@]}"
# Where the device multiplies bf16; else it says that it does not.
jit verify --precision bf16 "${cases[@]}" || echo "bf16: see above"

cargo test --release -p jit-gpu --features "$feature"
cargo test --release -p jit-cli --features "$feature" --test gpu

for precision in f32 bf16; do
  for batch in 32 128; do
    jit bench train --preset JiT-B/16 --precision $precision --batch-size $batch --steps 20 || true
    jit bench sample --preset JiT-B/16 --precision $precision --batch-size $batch --steps 20 || true
  done
done
jit bench kernels --preset JiT-B/16 --batch-size 32 || true

jit train --preset digits --out "$runs/digits"
jit eval --checkpoint "$runs/digits" --count 2000
