"""Every metric and its speed beside torch-fidelity's: the same files, the same weights, two threads.

    cargo build --release && cargo build --release -p jit-eval --example features_bench
    python3 benches/torch_fidelity/compare.py [--images 300] [--venv DIR] [--only PART] [--rounds 3]

Sets up a throw-away environment unless --venv names one, makes two folders of pictures, the weights of a
formula and random features (nothing is downloaded but the packages), runs all programs as whole processes,
alternately, and prints two tables. Neither program's features are kept between runs. The parts are

    metrics           every metric of both folders, once
    inception         Inception features of a folder, also by OpenVINO (in f32); once more of a quarter of it,
                      so that the rate without starting and compiling is known, too
    vgg16             VGG16 features of both folders, with precision and recall
    fid               FID of 2 x 10000 features of 2048 values
    precision-recall  precision and recall of 2 x 10000 features of 4096 values
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

PACKAGES = ["torch", "torchvision", "torch-fidelity==0.4.0", "openvino", "numpy", "pillow"]
PARTS = ["metrics", "inception", "vgg16", "fid", "precision-recall"]
# Rows and values of the random features.
FEATURES = {"fid": (10000, 2048), "precision-recall": (10000, 4096)}
BATCH = 16
INCEPTION = "inception, {} pictures"


def main():
    args = parser().parse_args()
    if args.worker:
        return worker(args)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = args.scratch or Path(scratch)
        scratch.mkdir(exist_ok=True)
        python = environment(args.venv or scratch / "venv")
        rows, speeds = [], []
        for part in args.only or PARTS:
            run([python, *worker_command(args, scratch, f"prepare {part}")])
            if part == "metrics":
                rows += all_metrics(args, python, scratch)
            elif part == "inception":
                for folder, count in (("generated", args.images), ("few", args.images // 4)):
                    speeds += race(args, INCEPTION.format(count), extraction(args, python, scratch, folder))
            else:
                speeds += race(args, describe(args, part), programs(args, python, scratch, part))
        if rows:
            print("\n| metric | torch-fidelity | jit | difference |\n|---|---|---|---|")
        for name, theirs, ours in rows:
            print(f"| {name} | {theirs:.9g} | {ours:.9g} | {abs(ours - theirs) / max(abs(theirs), 1e-12):.1e} |")
        if speeds:
            print("\n| whole process | program | time | of jit's | peak memory |\n|---|---|---|---|---|")
        for name, program, seconds, ratio, memory in speeds:
            print(f"| {name} | {program} | {seconds:.1f} s | {ratio:.2f}x | {memory:.2f} GiB |")
        whole = {program: seconds for name, program, seconds, *_ in speeds if name == INCEPTION.format(args.images)}
        few = {program: seconds for name, program, seconds, *_ in speeds if name == INCEPTION.format(args.images // 4)}
        for program in whole:
            rate = (args.images - args.images // 4) / (whole[program] - few[program])
            print(f"{program}: {rate:.1f} pictures a second once it runs")


def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--jit", type=Path, default="target/release/jit")
    p.add_argument("--venv", type=Path, help="an environment to use or to make")
    p.add_argument("--scratch", type=Path, help="a folder to keep the pictures and weights in")
    p.add_argument("--images", type=int, default=300, help="pictures of each folder")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--only", action="append", choices=PARTS, help="a part; repeatable")
    p.add_argument("--worker", help=argparse.SUPPRESS)
    p.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return p


def worker_command(args, scratch, work):
    return [__file__, "--worker", work, "--folder", scratch, "--images", args.images]


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
    env = dict(os.environ, OMP_NUM_THREADS="2", MKL_NUM_THREADS="2", RAYON_NUM_THREADS="2")
    started = time.time()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen([str(c) for c in command], stdout=out, env=env)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.time() - started
        out.seek(0)
        if status:
            sys.exit(f"{command[0]} failed")
        return out.read(), seconds, usage.ru_maxrss / 2**20


def programs(args, python, scratch, part):
    """The name and the command of each program that does this work; ours comes first."""
    theirs = [python, *worker_command(args, scratch, part)]
    if part in FEATURES:
        example = args.jit.parent / "examples" / "features_bench"
        return [("jit", [example, part, scratch / f"{part}.npz"]), ("torch-fidelity", theirs)]
    ours = [*evaluation(args, scratch, ["precision-recall"]), *network(scratch, part)]
    return [("jit", ours), ("torch-fidelity", theirs)]


def extraction(args, python, scratch, folder):
    """The same for the Inception features of a folder."""
    ours = [args.jit, "stats", scratch / folder, scratch / "stats.npz", *network(scratch, "inception")]
    peers = {"torch-fidelity": "inception", "OpenVINO": "openvino"}
    commands = {name: [python, *worker_command(args, scratch, f"{work} {folder}")] for name, work in peers.items()}
    return [("jit", ours), *commands.items()]


def network(scratch, name):
    return ["--extractor", "inception", "--weights", scratch / f"{name}.pth", "--threads", "2"]


def describe(args, part):
    return "{}, 2 x {} x {}".format(part, *FEATURES[part]) if part in FEATURES else f"{part}, {2 * args.images} pictures"


def evaluation(args, scratch, metrics):
    return [args.jit, "eval", scratch / "generated", "--reference", scratch / "real", "--json", "--resamples", "0",
            "--kid-subset", str(args.images // 2), "--metrics", ",".join(metrics)]


def race(args, what, programs):
    """Runs the programs in turn, and returns the rows of the table."""
    times, memory = {name: [] for name, _ in programs}, {name: 0 for name, _ in programs}
    for _ in range(args.rounds):
        for name, command in programs:
            _, seconds, peak = timed(command)
            times[name].append(seconds)
            memory[name] = max(memory[name], peak)
    median = {name: statistics.median(times[name]) for name in times}
    ours = median["jit"]
    return [(what, name, median[name], median[name] / ours, memory[name]) for name in median]


def all_metrics(args, python, scratch):
    """Name, their value and ours of every metric."""
    subset, rows = args.images // 2, []
    for which, metrics in (("inception", ["fid", "is", "kid"]), ("vgg16", ["precision-recall"])):
        a = json.loads(timed([python, *worker_command(args, scratch, f"metrics {which}")])[0])
        b = json.loads(timed([*evaluation(args, scratch, metrics), *network(scratch, which)])[0])["metrics"]
        names = [
            ("FID", "frechet_inception_distance", "fid", "mean"),
            ("IS, mean", "inception_score_mean", "inception_score", "mean"),
            ("IS, deviation", "inception_score_std", "inception_score", "spread"),
            (f"KID, mean of 100 subsets of {subset}", "kernel_inception_distance_mean", "kid", "mean"),
            ("KID, deviation", "kernel_inception_distance_std", "kid", "spread"),
            ("precision", "precision", "precision", "mean"),
            ("recall", "recall", "recall", "mean"),
        ]
        rows += [(name, a[key], b[ours][part]) for name, key, ours, part in names if key in a]
    return rows


# In the environment.


def worker(args):
    work, *rest = args.worker.split()
    if work == "prepare":
        return prepare(args.folder, args.images, rest[0])
    import torch

    torch.set_num_threads(2)
    if work == "openvino":
        return openvino(args.folder, rest[0])
    if work in FEATURES:
        return of_features(args.folder, work)
    if work == "metrics":
        metrics = ["isc", "fid", "kid"] if rest == ["inception"] else ["prc"]
        values = torch_fidelity(args, rest[0], metrics)
        return print(json.dumps(values))
    if work == "inception":
        return torch_fidelity(args, work, ["isc"], *rest)
    return torch_fidelity(args, work, ["prc"])


def torch_fidelity(args, extractor, metrics, folder="generated"):
    import torch_fidelity

    return torch_fidelity.calculate_metrics(
        input1=str(args.folder / folder),
        input2=None if metrics == ["isc"] else str(args.folder / "real"),
        cuda=False,
        batch_size=BATCH,
        kid_subset_size=args.images // 2,
        samples_shuffle=False,
        cache=False,
        verbose=False,
        feature_extractor="inception-v3-compat" if extractor == "inception" else "vgg16",
        feature_extractor_weights_path=str(args.folder / f"{extractor}.pth"),
        **{metric: True for metric in metrics},
    )


def openvino(folder, pictures):
    """Inception features by OpenVINO in f32, pictures decoded in the background."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    import openvino
    import torch
    from PIL import Image
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    network = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(folder / "inception.pth")
    )
    example = torch.zeros(BATCH, 3, 256, 256, dtype=torch.uint8)
    with torch.no_grad():
        model = openvino.convert_model(network, example_input=example, input=[-1, 3, 256, 256])
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(model, "CPU", config)
    paths = sorted((folder / pictures).iterdir())
    read = lambda path: np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1)
    load = lambda first: np.stack([read(path) for path in paths[first : first + BATCH]])
    with ThreadPoolExecutor(1) as pool:
        for batch in pool.map(load, range(0, len(paths), BATCH)):
            compiled(batch)


def of_features(folder, metric):
    import numpy as np
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    arrays = np.load(folder / f"{metric}.npz")
    generated, real = (torch.from_numpy(arrays[name]) for name in ("generated", "real"))
    if metric == "fid":
        values = fid_statistics_to_metric(fid_features_to_statistics(generated), fid_features_to_statistics(real), False)
    else:
        values = prc_features_to_metric(generated, real, verbose=False)
    print(json.dumps(values))


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


def prepare(folder, count, part):
    """Makes what a part needs and is not there."""
    import numpy as np

    if part in FEATURES:
        path = folder / f"{part}.npz"
        if not path.exists():
            draw = lambda seed, scale: scale * np.random.default_rng(seed).standard_normal(FEATURES[part], np.float32)
            np.savez(path, generated=draw(0, 0.9), real=draw(1, 1.0))
        return
    pictures(folder, count)
    for name in ("inception", "vgg16"):
        if part in ("metrics", name) and not (folder / f"{name}.pth").exists():
            weights(folder, name)


def pictures(folder, count):
    """Smooth ones, with more contrast among the real ones; and a few of the generated ones."""
    import numpy as np
    from PIL import Image

    for which, contrast, seed, number in (
        ("generated", 50.0, 0, count),
        ("few", 50.0, 0, count // 4),
        ("real", 60.0, 1, count),
    ):
        (folder / which).mkdir(exist_ok=True)
        for path in (folder / which).iterdir():
            if int(path.stem) >= number:
                path.unlink()
        for i in range(number):
            path = folder / which / f"{i:05}.png"
            if not path.exists():
                rng = np.random.default_rng([seed, i])
                small = np.clip(128 + contrast * rng.standard_normal((12, 12, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(small).resize((256, 256), Image.Resampling.BICUBIC).save(path)


def weights(folder, name):
    import torch
    import torchvision
    from torch_fidelity import feature_extractor_inceptionv3 as inception

    state = (torchvision.models.vgg16() if name == "vgg16" else untrained(inception)).state_dict()
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
