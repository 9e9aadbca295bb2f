"""Loads the same photographs with this project and with Pillow and torchvision, in turn on this
machine, and prints images a second; then the same images from every form of data set.

    python3 benches/data/compare.py [--venv DIR] [--work DIR] [--rounds 3] [--images 1000]

Makes a throw-away environment with torch and torchvision (gigabytes; --venv keeps it), the
photographs (--work keeps them) and the release binary, then runs every variant one after the other,
round after round, each in a process of its own, with two threads or processes. Nothing else should
run meanwhile. Prints medians over all rounds.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tarfile
import tempfile
import venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
JIT = ROOT / "target/release/jit"
PACKAGES = ["torch", "torchvision", "pillow", "numpy", "scikit-image", "scikit-learn", "pyarrow"]
WORKERS = 2


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--venv", help="folder of the environment, kept [default: a temporary one]")
    parser.add_argument("--work", help="folder of the images, kept [default: a temporary one]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=1000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        temporary = pathlib.Path(temporary)
        python = environment(pathlib.Path(args.venv) if args.venv else temporary / "venv")
        run(["cargo", "build", "--release"], cwd=ROOT)
        work = pathlib.Path(args.work) if args.work else temporary / "work"
        forms = make(python, work, args.images)
        compare(python, forms, args)


def environment(folder):
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        run([python, "-m", "pip", "install", "--quiet", *PACKAGES])
    return python


def run(command, **options):
    subprocess.run([str(word) for word in command], check=True, **options)


def make(python, work, images):
    """The photographs in every form, by name."""
    photos, tar = work / "photos", work / "photos.tar"
    forms = {"folder": photos, "tar archive": tar}
    if not photos.exists():
        run([python, HERE / "photos.py", photos, images])
        with tarfile.open(tar, "w", format=tarfile.USTAR_FORMAT) as archive:
            archive.add(photos, arcname=".")
    for name, options in {"snappy": [], "stored": ["--stored"]}.items():
        forms[f"Parquet, {name}"] = work / f"{name}.parquet"
        if not forms[f"Parquet, {name}"].exists():
            run([python, HERE / "parquet.py", photos, forms[f"Parquet, {name}"], *options])
    forms["pack"] = work / "photos.jitpack"
    run([JIT, "data", "pack", photos, forms["pack"], "--size", 256], stdout=subprocess.DEVNULL)
    return forms


def compare(python, forms, args):
    batch, steps = 100, 5 * args.images // 100
    bench = [JIT, "bench", "data", "--preset", "JiT-B/16", "--json"]
    bench += ["--batch-size", batch, "--steps", steps, "--set", f"data.workers={WORKERS}"]
    variants = {f"jit, {name}": [*bench, "--data", path] for name, path in forms.items()}
    for what in ["loader", "bare"]:
        variants[f"Pillow, {what}"] = [python, HERE / "bench.py", forms["folder"], what]
    runs = {name: [] for name in variants}
    for _ in range(args.rounds):
        for name, command in variants.items():
            runs[name].append(measure(command))
    print("| variant | images a second | from | to |\n|---|---|---|---|")
    for name, rates in runs.items():
        print(f"| {name} | {statistics.median(rates):.0f} | {min(rates):.0f} | {max(rates):.0f} |")
    median = {name: statistics.median(rates) for name, rates in runs.items()}
    for what in ["loader", "bare"]:
        ratio = median["jit, folder"] / median[f"Pillow, {what}"]
        print(f"\nagainst Pillow, {what}: {ratio:.2f}x")


def measure(command):
    command = [str(word) for word in command]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    result = json.loads(done.stdout.splitlines()[-1])
    return result["images_per_second"] if isinstance(result, dict) else result


if __name__ == "__main__":
    main()
