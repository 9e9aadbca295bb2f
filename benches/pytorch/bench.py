"""Times the PyTorch twin, and OpenVINO for the forward pass; prints one JSON object.

    python bench.py train --model b16 --batch 8 --precision f32 --mode eager --steps 3
    python bench.py forward --model b16 --batch 8 --precision f32 --mode openvino
    python bench.py train --model b16 --batch 128 --precision bf16 --mode compile --device cuda

The settings are PyTorch's fastest: fused AdamW, averages by one foreach call, scaled dot product
attention, denormals flushed; `--mode compile` adds torch.compile (inductor, weights frozen in
inference).
"""

import argparse
import json
import resource
import statistics
import time

import torch

from jit import Config, Net, losses

MODELS = {
    "b16": Config(),
    "l16": Config(hidden_size=1024, depth=24, num_heads=16, bottleneck_dim=128, in_context_start=8),
    "h16": Config(
        hidden_size=1280, depth=32, num_heads=16, bottleneck_dim=256, in_context_start=10
    ),
    # The preset `digits` of this project.
    "digits": Config(28, 1, 7, 144, 4, 4, 32, 10, 1, 1),
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["train", "forward", "sample"])
    parser.add_argument("--model", choices=MODELS, default="b16")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--mode", choices=["eager", "compile", "openvino"], default="eager")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--checkpoint-blocks", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    for key in ["hidden_size", "num_heads", "depth", "in_context_len"]:
        parser.add_argument("--" + key.replace("_", "-"), type=int)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    torch.set_default_device(args.device)
    config = MODELS[args.model]
    for key in ["hidden_size", "num_heads", "depth", "in_context_len"]:
        if getattr(args, key) is not None:
            setattr(config, key, getattr(args, key))
    net = Net(config)
    net.checkpoint_blocks = args.checkpoint_blocks
    wait = torch.cuda.synchronize if args.device == "cuda" else lambda: None
    step = {"train": training, "forward": forward, "sample": sampling}[args.what](net, args)
    warm_up = 2 if args.mode == "compile" else 1
    for _ in range(warm_up):
        step()
    wait()
    seconds = []
    for _ in range(args.steps):
        started = time.perf_counter()
        step()
        wait()
        seconds.append(time.perf_counter() - started)
    if args.device == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result = dict(vars(args), seconds_per_step=statistics.median(seconds), seconds=seconds)
    print(json.dumps(dict(result, peak_memory_bytes=peak)), flush=True)


def autocast(args):
    return torch.autocast(args.device, torch.bfloat16, enabled=args.precision == "bf16")


def batch(config, n):
    x = torch.rand(n, config.channels, config.image_size, config.image_size) * 2 - 1
    t = torch.sigmoid(torch.randn(n) * 0.8 - 0.8)
    return x, torch.randn_like(x), t, torch.arange(n) % config.num_classes


def training(net, args):
    """Loss, backward, AdamW and two averages."""
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, 1e-4, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    averages = {decay: [p.detach().clone() for p in trained] for decay in (0.9999, 0.9996)}
    loss_of = torch.compile(losses) if args.mode == "compile" else losses
    data = batch(net.config, args.batch)

    def step():
        with autocast(args):
            loss = loss_of(net, *data).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for decay, average in averages.items():
                torch._foreach_lerp_(average, trained, 1 - decay)

    return step


def inference(net, args):
    """The network as a function of (z, t, y) without gradients, in the mode asked for."""
    net.eval().requires_grad_(False)
    if args.mode == "openvino":
        import openvino

        z, _, t, y = batch(net.config, args.batch)
        core = openvino.Core()
        hint = {"f32": "f32", "bf16": "bf16"}[args.precision]
        options = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": args.threads}
        model = openvino.convert_model(net, example_input=(z, t, y))
        compiled = core.compile_model(model, "CPU", dict(options, PERFORMANCE_HINT="LATENCY"))
        return lambda z, t, y: torch.from_numpy(compiled((z, t, y))[0])
    if args.mode == "compile":
        import torch._inductor.config as inductor

        inductor.freezing = True
        net = torch.compile(net)

    def run(z, t, y):
        with torch.no_grad(), autocast(args):
            return net(z, t, y)

    return run


def forward(net, args):
    run = inference(net, args)
    z, _, t, y = batch(net.config, args.batch)
    return lambda: run(z, t, y)


def sampling(net, args):
    """One Euler step with guidance as the reference takes it: class and null pass, always both."""
    run = inference(net, args)
    _, z, _, y = batch(net.config, args.batch)
    null = torch.full_like(y, net.config.num_classes)

    def velocity(z, t, y):
        return (run(z, t.expand(len(y)), y).float() - z) / (1 - t).clamp_min(0.05)

    def step():
        t = torch.tensor(0.5)
        v, v_null = velocity(z, t, y), velocity(z, t, null)
        return z + 0.04 * (v_null + 2.9 * (v - v_null))

    return step


main()
