#!/usr/bin/env python3
"""The cost model of docs/scaling.md: what a training step costs on P GPUs, and what its parts are.

Every number that is assumed, not measured, stands at the top.
"""

# An H100 (SXM): dense bf16 peak, and the share of it that a whole training step is taken to sustain.
PEAK, SHARE = 989e12, 0.40
# Bytes a second: NVLink within eight, one 400 Gb/s adapter for each GPU, both at 80 %; PCIe 5 to the host.
NVLINK, NETWORK, PCIE = 0.8 * 450e9, 0.8 * 50e9, 50e9
# Of gradients that a process adds up through host memory: `mpirun -n 2 jit bench reduce --preset JiT-B/16` here.
HOST = 0.8e9
# Seconds from one GPU to the next: within a machine, between machines.
NEAR, FAR = 2e-6, 5e-6
# Memory bandwidth, and the bytes that AdamW and two averages move for a parameter.
HBM, OPTIMIZER = 2.6e12, 11 * 4
BUCKET = 25 * 2**20
# Images at once below which the matrix products no longer fill a GPU.
FULL = 8

MODELS = {"B/16": (131.3e6, 151.3e9), "H/16": (952.8e6, 1.1e12)}


def ring(size, bytes_, rate, latency):
    """A ring of `size`: every bucket passes 2·(size − 1) times, 2·(size − 1)/size of the bytes travel."""
    buckets = max(1, round(bytes_ / BUCKET))
    return 2 * (size - 1) / size * bytes_ / rate + 2 * (size - 1) * latency * buckets


def step(model, processes, batch, path):
    parameters, flops = MODELS[model]
    bytes_ = 4 * parameters
    images = batch / processes
    # Fewer images take as long as FULL do.
    compute = max(images, FULL) * flops / (PEAK * SHARE)
    within = min(8, processes)
    nodes = processes // within
    if path == "host":  # as built: to the host, MPI adds there, and back
        sum_ = 2 * bytes_ / PCIE + ring(processes, bytes_, min(HOST, NETWORK), FAR if nodes > 1 else NEAR)
    elif path == "flat":  # one ring over all GPUs, none of it through the host
        sum_ = ring(processes, bytes_, NETWORK if nodes > 1 else NVLINK, FAR if nodes > 1 else NEAR)
    else:  # scatter within the node, ring between nodes over its eight adapters, gather within
        sum_ = ring(within, bytes_, NVLINK, NEAR)
        if nodes > 1:
            sum_ += ring(nodes, bytes_ / within, NETWORK, FAR)
    # The backward pass is two thirds of a step; the last bucket has nothing to hide behind.
    hidden = min(sum_ * (1 - min(1, BUCKET / bytes_)), 2 / 3 * compute)
    optimizer = parameters * OPTIMIZER / HBM
    total = compute + sum_ - hidden + optimizer
    return compute, sum_, sum_ - hidden, optimizer, total


def main():
    print("| model | GPUs | global batch | compute | optimizer | path | sum | not hidden | images/s | efficiency |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for model in MODELS:
        one = step(model, 1, 128, "tree")
        alone = 128 / (one[0] + one[3])
        for processes, batch in ((8, 1024), (64, 1024), (512, 1024), (512, 8192)):
            for path in ("host", "flat", "tree"):
                compute, sum_, exposed, optimizer, total = step(model, processes, batch, path)
                rate = batch / total
                cells = [f"{1e3 * v:.0f} ms" if v >= 0.01 else f"{1e3 * v:.1f} ms" for v in (compute, optimizer, sum_, exposed)]
                efficiency = 100 * rate / (processes * alone)
                print(
                    f"| {model} | {processes} | {batch} | {cells[0]} | {cells[1]} | {path} | {cells[2]} | {cells[3]} "
                    f"| {rate:,.0f} | {efficiency:.0f} % |"
                )


main()
