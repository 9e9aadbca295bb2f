#!/usr/bin/env bash
# One process with two threads against two with one: images per second of training, medians over the steps, and how
# long the network waited for the other process. Needs a build with `--features mpi`, two cores and nothing else to do.
#
#   benches/processes.sh [ROUNDS] -- OPTIONS OF jit train …
set -euo pipefail
jit=$(realpath "${JIT:-$(dirname "$0")/../target/release/jit}")
rounds=3
[ "$1" = -- ] || { rounds=$1; shift; }
shift
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

for round in $(seq "$rounds"); do
  "$jit" train --out "$place/1x2-$round" --threads 2 "$@" >/dev/null 2>&1
  mpirun -n 2 --oversubscribe --bind-to core "$jit" train --out "$place/2x1-$round" --threads 1 "$@" >/dev/null 2>&1
done
python3 - "$place" <<'EOF'
import json, pathlib, statistics, sys
for kind, name in (("1x2", "1 process × 2 threads"), ("2x1", "2 processes × 1 thread")):
    medians, waits = [], []
    for run in sorted(pathlib.Path(sys.argv[1]).glob(kind + "-*")):
        lines = [json.loads(line) for line in open(run / "metrics.jsonl")][2:]
        medians.append(statistics.median(line["images_per_second"] for line in lines))
        batch = [sum(line["images_by_t"]) / line["images_per_second"] for line in lines]
        waits.append(statistics.median(line.get("merge_wait", 0) / s for line, s in zip(lines, batch)))
    rates = " ".join(f"{rate:.2f}" for rate in medians)
    print(f"{name}: {statistics.median(medians):.2f} images/s ({rates}); waited {100 * statistics.median(waits):.1f} % of a step")
EOF
