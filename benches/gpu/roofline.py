"""What a training step of JiT must cost on a card: bytes and operations of every kernel of `jit-cuda`, against the card's limits.

    python3 benches/gpu/roofline.py [--model b16|l16|h16] [--batch 128] [--bandwidth 3.0] [--tflops 798]

Nothing is measured: the times are those of a card that moves every byte once at its bandwidth and multiplies at the rate that
cuBLAS reaches. Bandwidth in TB/s and operations in TFLOP/s are those of an H100 SXM.
"""

import argparse

# depth, width, heads, bottleneck, first block with class tokens
MODELS = {
    "b16": (12, 768, 12, 128, 4),
    "l16": (24, 1024, 16, 128, 8),
    "h16": (32, 1280, 16, 256, 10),
}
CONTEXT, CHANNELS, SIDE, PATCH, CLASSES = 32, 3, 256, 16, 1000
F32, BF16 = 4, 2


class Step:
    """Sums of (calls, bytes, operations) by kernel."""

    def __init__(self):
        self.kernels = {}

    def add(self, name, moved, operations=0):
        calls, b, f = self.kernels.get(name, (0, 0, 0))
        self.kernels[name] = (calls + 1, b + moved, f + operations)

    def linear(self, rows, inputs, outputs, out=BF16, input_gradient=True):
        """y = x·wᵀ + b and both gradients; operands in bf16."""
        flops = 2 * rows * inputs * outputs
        x, w, y = rows * inputs * BF16, inputs * outputs * BF16, rows * outputs
        self.add("product, forward", x + w + y * out, flops)
        if input_gradient:
            self.add("product, gradient of the input", x + w + y * BF16, flops)
        # Added into an f32 gradient.
        self.add("product, gradient of the weight", x + y * BF16 + inputs * outputs * 2 * F32, flops)
        self.add("column_sum", y * BF16)
        if out == F32:
            self.add("cast_to_bf16", 2 * y * (F32 + BF16))

    def norm(self, values, passes=2):
        """Forward, again in the backward pass, and the gradient."""
        for _ in range(passes):
            self.add("rms_norm_modulate", values * (F32 + BF16))
        self.add("rms_norm_modulate_grad", values * (F32 + BF16 + 2 * F32))

    def attention(self, images, tokens, heads, head):
        values = images * tokens * heads * head
        product = 2 * images * heads * tokens * tokens * head
        self.add("attention_mma", values * 4 * BF16, 2 * product)
        # Logits and dP twice, once for each half: seven products.
        self.add("attention_mma_grad", values * 8 * BF16, 7 * product)


def step(model, batch):
    depth, d, heads, narrow, start = MODELS[model]
    tokens, pixels = (SIDE // PATCH) ** 2, CHANNELS * SIDE * SIDE
    patch, m, s = CHANNELS * PATCH * PATCH, 4 * d * 2 // 3, Step()
    images = batch * pixels
    s.add("normal_noise", images * F32)
    s.add("interpolate", 3 * images * F32)
    s.add("patchify", images * (F32 + BF16))
    s.linear(batch * tokens, patch, narrow, input_gradient=False)
    s.linear(batch * tokens, narrow, d, out=F32)
    s.add("add_rows", 2 * batch * tokens * d * F32)
    for block in range(depth):
        n = tokens + (CONTEXT if block >= start else 0)
        rows, values = batch * n, batch * n * d
        if block == start:
            s.add("concat_tokens", 2 * 2 * values * F32)
        s.linear(batch, d, 6 * d, out=F32)
        s.norm(values)
        s.norm(values)
        s.linear(rows, d, 3 * d)
        s.attention(batch, n, heads, d // heads)
        s.linear(rows, d, d)
        s.linear(rows, d, 2 * m)
        s.add("swiglu", rows * m * 3 * BF16)
        s.add("swiglu_grad", rows * m * 6 * BF16)
        s.linear(rows, m, d)
        for _ in range(2):
            s.add("gated_residual", values * (2 * F32 + BF16))
            s.add("gated_residual_grad", values * (F32 + 2 * BF16))
    values = batch * tokens * d
    s.add("split_tokens", 2 * 2 * values * F32)
    s.norm(values)
    s.linear(batch * tokens, d, patch, out=F32)
    s.add("unpatchify", 2 * images * F32)
    s.add("unpatchify_grad", images * (F32 + BF16))
    s.add("diffusion_loss", 4 * images * F32)
    s.add("diffusion_loss_grad", 5 * images * F32)
    blocks = depth * (6 * d * d + 4 * d * d + 3 * d * m)
    parameters = blocks + patch * narrow + narrow * d + d * patch + 3 * d * d + CLASSES * d
    s.add("sum_squares", parameters * F32)
    # Weight, moments and two averages read and written, the gradient read and cleared, the rounded copy written.
    s.add("adamw", parameters * (2 * 5 * F32 + 2 * F32 + BF16))
    return s, parameters


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="b16")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--bandwidth", type=float, default=3.0, help="TB/s")
    parser.add_argument("--tflops", type=float, default=798, help="of bf16 products, TFLOP/s")
    args = parser.parse_args()
    s, parameters = step(args.model, args.batch)
    print(f"JiT-{args.model}, batch {args.batch}, {parameters / 1e6:.0f} M parameters\n")
    print("| kernel | calls | GB | TFLOP | ms | bound by |\n|---|---|---|---|---|---|")
    total = [0.0] * 3
    rows = []
    for name, (calls, moved, operations) in s.kernels.items():
        by_memory, by_products = moved / args.bandwidth / 1e9, operations / args.tflops / 1e9
        ms = max(by_memory, by_products)
        bound = "products" if by_products > by_memory else "memory"
        rows.append((ms, f"| {name} | {calls} | {moved / 1e9:.2f} | {operations / 1e12:.2f} | {ms:.2f} | {bound} |"))
        total = [a + b for a, b in zip(total, (moved / 1e9, operations / 1e12, ms))]
    for _, row in sorted(rows, reverse=True):
        print(row)
    print(f"| all | | {total[0]:.1f} | {total[1]:.2f} | {total[2]:.1f} | |")
    print(f"\nat most {args.batch / total[2] * 1e3:.0f} images/s")


main()
