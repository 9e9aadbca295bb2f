"""Checks the PyTorch twin against golden cases, so that the benchmark compares equal work.

    python check.py ../../crates/jit-cli/tests/golden/model_*.safetensors
"""

import json
import sys

import torch
from safetensors import safe_open

from jit import Config, Net, losses


def check(path):
    with safe_open(path, "pt") as file:
        meta = file.metadata()
        case = {name: file.get_tensor(name) for name in file.keys()}
    shape = json.loads(meta["config"])
    shape["image_size"] = shape.pop("input_size")
    net = Net(Config(**shape, patch_embed=meta["patch_embed"], mlp=meta["mlp"]))
    prefix = "param.net."
    state = {k[len(prefix) :]: v for k, v in case.items() if k.startswith(prefix)}
    net.load_state_dict(state, strict=True)
    x_pred = net(case["z"], case["in.t"], case["in.y"])
    output = error(x_pred, case["x_pred"])
    assert output < 1e-5, f"{path}: x_pred is off by {output:.1e}"
    if any(name.startswith("aux.") for name in case):
        return f"outputs {output:.1e} (the twin has no auxiliary head)"
    loss = losses(net, case["in.x"], case["in.noise"], case["in.t"], case["in.y"])
    assert error(loss, case["loss.per_sample"]) < 1e-5, f"{path}: losses differ"
    loss.mean().backward()
    trained = [(name, p.grad) for name, p in net.named_parameters() if p.requires_grad]
    gradient = max(error(grad, case[f"grad.net.{name}"]) for name, grad in trained)
    assert gradient < 1e-4, f"{path}: gradients are off by {gradient:.1e}"
    return f"outputs {output:.1e}, gradients {gradient:.1e}"


def error(have, want):
    return ((have - want).abs().max() / want.abs().max()).item()


for path in sys.argv[1:]:
    print(path.rsplit("/", 1)[-1], check(path))
