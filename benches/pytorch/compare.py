"""Runs this project, PyTorch and OpenVINO in turn on this machine and prints the ratios.

    python3 benches/pytorch/compare.py [--venv DIR] [--rounds 3] [--only train] [--skip-bf16]

Makes a throw-away environment with torch and openvino (gigabytes; --venv keeps it), builds the
release binary, checks that the twin agrees with the golden cases, then runs every variant of a
measurement one after the other, round after round, each in a process of its own. Nothing else
should run meanwhile. Prints a table of medians over all rounds, and writes compare.json.
"""

import argparse
import glob
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PACKAGES = ["torch", "numpy", "safetensors", "openvino"]

AVERAGES = "optim.ema_decay=[0.9999,0.9996]"
PASS = ["--method", "euler", "--cfg", "1"]
GUIDED = ["--method", "euler", "--cfg", "2.9", "--interval", "0,1"]
B16 = ["--preset", "JiT-B/16", "--batch-size"]

# Name: (arguments of `jit bench`, arguments of bench.py, PyTorch's modes). `sample` counts steps, of
# which the reference takes 25 with both passes; ours leaves out the null pass of the first three.
MEASUREMENTS = {
    "train": (["train", *B16, "8", "--set", AVERAGES], ["train"], ["eager", "compile"]),
    "forward": (["sample", *B16, "8", *PASS], ["forward"], ["eager", "compile", "openvino"]),
    "forward-1": (
        ["sample", *B16, "1", *PASS],
        ["forward", "--batch", "1"],
        ["eager", "compile", "openvino"],
    ),
    "sample": (["sample", *B16, "8", *GUIDED], ["sample"], ["eager", "compile"]),
    "digits": (
        ["train", "--preset", "digits", "--set", AVERAGES],
        ["train", "--model", "digits", "--batch", "64"],
        ["eager", "compile"],
    ),
}
STEPS = {"train": 2, "forward": 3, "forward-1": 10, "sample": 2, "digits": 40}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--venv", help="folder of the environment, kept [default: a temporary one]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=MEASUREMENTS)
    parser.add_argument("--skip-bf16", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        python = environment(pathlib.Path(args.venv or temporary))
        run(["cargo", "build", "--release"], cwd=ROOT)
        cases = sorted(glob.glob(str(ROOT / "crates/jit-cli/tests/golden/model_*.safetensors")))
        run([python, "check.py", *cases], cwd=HERE)
        compare(python, args)


def environment(folder):
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    run([python, "-m", "pip", "install", "--quiet", *PACKAGES])
    run([python, "-m", "pip", "freeze", "--quiet"])
    return python


def run(command, **options):
    subprocess.run([str(word) for word in command], check=True, **options)


def compare(python, args):
    precisions = ["f32"] if args.skip_bf16 else ["f32", "bf16"]
    if "avx512_bf16" not in cpu_flags() and not args.skip_bf16:
        print("note: this processor has no bf16 product; every bf16 figure is an emulation")
    results = []
    for name in args.only or MEASUREMENTS:
        ours, theirs, modes = MEASUREMENTS[name]
        for precision in precisions:
            common = ["--precision", precision, "--steps", STEPS[name], "--threads", args.threads]
            variants = {"jit": [ROOT / "target/release/jit", "bench", *ours, *common, "--json"]}
            for mode in modes:
                variants[mode] = [python, HERE / "bench.py", *theirs, *common, "--mode", mode]
            runs = {variant: [] for variant in variants}
            for _ in range(args.rounds):
                for variant, command in variants.items():
                    runs[variant].append(measure(command))
            results.append({"name": name, "precision": precision, "runs": runs})
            report(results[-1])
            # What has been measured is kept, however long the rest takes.
            pathlib.Path("compare.json").write_text(json.dumps(results, indent=1))


def measure(command):
    command = [str(word) for word in command]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def report(result):
    print(f"\n{result['name']}, {result['precision']}, {platform.machine()}")
    print("| variant | seconds a step | against jit | peak memory | share of peak |")
    print("|---|---|---|---|---|")
    ours = None
    for variant, runs in result["runs"].items():
        seconds = statistics.median(s for r in runs for s in r["seconds"])
        memory = max(r["peak_memory_bytes"] for r in runs) / 2**30
        shares = [r["share_of_peak"] for r in runs if "share_of_peak" in r]
        share = f"{statistics.median(shares):.0%}" if shares else ""
        ours = ours or seconds
        print(f"| {variant} | {seconds:.3f} | {seconds / ours:.2f}x | {memory:.2f} GiB | {share} |")
    sys.stdout.flush()


def cpu_flags():
    try:
        return pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


if __name__ == "__main__":
    main()
