"""Every metric and its speed beside torch-fidelity's: the same files, the same weights, two threads.

    python3 benches/torch_fidelity/compare.py [--jit target/release/jit] [--images 300] [--venv DIR]

Sets up a throw-away environment unless --venv names one, makes two folders of pictures and the weights of a
formula (nothing is downloaded but the packages), runs both programs as whole processes, alternately, and
prints two tables. Neither program's features are kept between runs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
import zlib
from pathlib import Path

PACKAGES = ["torch", "torchvision", "torch-fidelity==0.4.0", "numpy", "pillow"]


def main():
    args = parser().parse_args()
    if args.worker:
        return worker(args)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        python = environment(args.venv or scratch / "venv")
        run([python, __file__, "--worker", "prepare", "--folder", scratch, "--images", str(args.images)])
        rows, speeds = [], []
        for extractor in ("inception", "vgg16"):
            rows += compare(args, python, scratch, extractor, speeds)
        print("\n| metric | torch-fidelity | jit | difference |\n|---|---|---|---|")
        for name, theirs, ours in rows:
            print(f"| {name} | {theirs:.9g} | {ours:.9g} | {abs(ours - theirs) / max(abs(theirs), 1e-12):.1e} |")
        print("\n| whole process | torch-fidelity | jit | ratio | memory |\n|---|---|---|---|---|")
        for name, theirs, ours, memory in speeds:
            print(f"| {name} | {theirs:.1f} s | {ours:.1f} s | {theirs / ours:.2f}x | {memory[0]:.2f} / {memory[1]:.2f} GiB |")


def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--jit", default="target/release/jit")
    p.add_argument("--venv", type=Path, help="an environment to use or to make")
    p.add_argument("--images", type=int, default=300, help="pictures of each folder")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--worker", help=argparse.SUPPRESS)
    p.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return p


def environment(folder):
    python = Path(folder) / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        run([python, "-m", "pip", "install", "--quiet", *PACKAGES])
    return python


def run(command, **kwargs):
    return subprocess.run([str(c) for c in command], check=True, **kwargs)


def timed(command):
    """Output, seconds and peak memory in GiB of a whole process."""
    env = dict(os.environ, OMP_NUM_THREADS="2", MKL_NUM_THREADS="2")
    started = time.time()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen([str(c) for c in command], stdout=out, env=env)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.time() - started
        out.seek(0)
        if status:
            sys.exit(f"{command[0]} failed")
        return json.loads(out.read()), seconds, usage.ru_maxrss / 2**20


def compare(args, python, scratch, extractor, speeds):
    subset = args.images // 2
    theirs = [python, __file__, "--worker", extractor, "--folder", scratch, "--images", str(args.images)]
    ours = [args.jit, "eval", scratch / "generated", "--reference", scratch / "real", "--json", "--threads", "2",
            "--weights", "formula", "--extractor", "inception", "--resamples", "0", "--kid-subset", str(subset)]
    if extractor == "inception":
        ours += ["--metrics", "fid,is,kid"]
    else:
        ours += ["--metrics", "precision-recall"]
    seconds, memory, results = ([], []), ([], []), [None, None]
    for _ in range(args.rounds):
        for side, command in enumerate((theirs, ours)):
            results[side], spent, peak = timed(command)
            seconds[side].append(spent)
            memory[side].append(peak)
    a, b = results[0], results[1]["metrics"]
    median = [statistics.median(s) for s in seconds]
    speeds.append((f"{extractor}, 2 × {args.images} pictures", *median, [max(m) for m in memory]))
    if extractor == "inception":
        return [
            ("FID", a["frechet_inception_distance"], b["fid"]["mean"]),
            ("IS, mean", a["inception_score_mean"], b["inception_score"]["mean"]),
            ("IS, deviation", a["inception_score_std"], b["inception_score"]["spread"]),
            (f"KID, mean of 100 subsets of {subset}", a["kernel_inception_distance_mean"], b["kid"]["mean"]),
            ("KID, deviation", a["kernel_inception_distance_std"], b["kid"]["spread"]),
        ]
    return [("precision", a["precision"], b["precision"]["mean"]), ("recall", a["recall"], b["recall"]["mean"])]


# In the environment.


def worker(args):
    if args.worker == "prepare":
        return prepare(args.folder, args.images)
    import torch
    import torch_fidelity

    torch.set_num_threads(2)
    inception = args.worker == "inception"
    metrics = torch_fidelity.calculate_metrics(
        input1=str(args.folder / "generated"),
        input2=str(args.folder / "real"),
        cuda=False,
        batch_size=16,
        isc=inception,
        fid=inception,
        kid=inception,
        prc=not inception,
        kid_subset_size=args.images // 2,
        samples_shuffle=False,
        cache=False,
        verbose=False,
        feature_extractor="inception-v3-compat" if inception else "vgg16",
        feature_extractor_weights_path=str(args.folder / f"{args.worker}.pth"),
    )
    print(json.dumps(metrics))


def formula(name, shape):
    """The values that `jit … --weights formula` has."""
    import numpy as np

    with np.errstate(over="ignore"):
        h = np.arange(int(np.prod(shape)), dtype=np.uint32) * np.uint32(2654435761) + np.uint32(zlib.crc32(name.encode()))
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
        h ^= h >> np.uint32(16)
    u = h.astype(np.float64) / 2**32 * 2 - 1
    if name.endswith("running_var"):
        u = 1 + 0.5 * abs(u)
    elif name.endswith("bn.weight"):
        u = 1 + 0.1 * u
    elif name.endswith(("running_mean", "bias")):
        u = 0.1 * u
    else:
        u = u * np.sqrt(6 / np.prod(shape[1:]))
    return u.astype(np.float32).reshape(shape)


def prepare(folder, count):
    import numpy as np
    import torch
    import torchvision
    from PIL import Image
    from torch_fidelity import feature_extractor_inceptionv3 as inception

    # Smooth pictures, more contrast among the real ones.
    for which, contrast in (("generated", 50.0), ("real", 60.0)):
        (folder / which).mkdir()
        for i in range(count):
            rng = np.random.default_rng([len(which), i])
            small = np.clip(128 + contrast * rng.standard_normal((12, 12, 3)), 0, 255).astype(np.uint8)
            picture = Image.fromarray(small).resize((256, 256), Image.Resampling.BICUBIC)
            picture.save(folder / which / f"{i:05}.png")
    names = {
        "vgg16": torchvision.models.vgg16().state_dict(),
        "inception": untrained(inception).state_dict(),
    }
    for name, state in names.items():
        values = {
            key: tensor if key.endswith("num_batches_tracked") else torch.from_numpy(formula(key, tuple(tensor.shape)))
            for key, tensor in state.items()
        }
        torch.save(values, folder / f"{name}.pth")


def untrained(inception):
    """torch-fidelity's Inception before any weights are loaded."""
    cls = inception.FeatureExtractorInceptionV3
    load, cls.load_state_dict = cls.load_state_dict, lambda self, state: None
    fetch, inception.load_state_dict_from_url = inception.load_state_dict_from_url, lambda *a, **k: {}
    try:
        return cls("inception-v3-compat", ["2048"])
    finally:
        cls.load_state_dict, inception.load_state_dict_from_url = load, fetch


if __name__ == "__main__":
    main()
