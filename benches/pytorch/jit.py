"""JiT in PyTorch, as plain and as fast as its own operators allow: the other side of the benchmark.

Names of the parameters are the reference's, so that golden cases load with strict=True (check.py).
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint


@dataclass
class Config:
    image_size: int = 256
    channels: int = 3
    patch_size: int = 16
    hidden_size: int = 768
    depth: int = 12
    num_heads: int = 12
    bottleneck_dim: int = 128
    num_classes: int = 1000
    in_context_len: int = 32
    in_context_start: int = 4
    patch_embed: str = "linear"  # or "silu"
    mlp: str = "swiglu"  # or "bottleneck"


def rope_tables(config, context):
    """Cosines and sines [N, head_dim]: rows = axis h, then w; context tokens have the identity."""
    head = config.hidden_size // config.num_heads
    half = head // 2
    grid = config.image_size // config.patch_size
    freqs = 1.0 / 10000 ** (torch.arange(0, half, 2)[: half // 2].float() / half)
    angles = torch.einsum("i,j->ij", torch.arange(grid).float(), freqs).repeat_interleave(2, -1)
    rows = angles[:, None, :].expand(grid, grid, half)
    columns = angles[None, :, :].expand(grid, grid, half)
    table = torch.cat([rows, columns], -1).reshape(grid * grid, head)
    cos, sin = table.cos(), table.sin()
    return (
        torch.cat([torch.ones(context, head), cos]),
        torch.cat([torch.zeros(context, head), sin]),
    )


def rotate(x, cos, sin):
    pairs = x.unflatten(-1, (-1, 2))
    half = torch.stack([-pairs[..., 1], pairs[..., 0]], -1).flatten(-2)
    return x * cos + half * sin


class RMSNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return F.rms_norm(x.float(), self.weight.shape, self.weight, 1e-6)


def modulate(x, shift, scale):
    return x * (1 + scale[:, None]) + shift[:, None]


class PatchEmbed(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.proj1 = nn.Conv2d(c.channels, c.bottleneck_dim, c.patch_size, c.patch_size, bias=False)
        self.proj2 = nn.Conv2d(c.bottleneck_dim, c.hidden_size, 1)
        self.silu = c.patch_embed == "silu"

    def forward(self, z):
        x = self.proj1(z)
        return self.proj2(F.silu(x) if self.silu else x).flatten(2).transpose(1, 2)


class TimeEmbed(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t):
        freqs = torch.exp(-math.log(10000) * torch.arange(128).float() / 128)
        angles = t[:, None] * freqs
        return self.mlp(torch.cat([angles.cos(), angles.sin()], -1))


class ClassEmbed(nn.Module):
    def __init__(self, classes, dim):
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, dim)

    def forward(self, y):
        return self.embedding_table(y)


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.q_norm, self.k_norm = RMSNorm(dim // heads), RMSNorm(dim // heads)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x, rope):
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        q, k = rotate(self.q_norm(q), *rope), rotate(self.k_norm(k), *rope)
        out = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v)
        return self.proj(out.transpose(1, 2).reshape(b, n, d))


class SwiGlu(nn.Module):
    def __init__(self, dim):
        super().__init__()
        hidden = 4 * dim * 2 // 3
        self.w12, self.w3 = nn.Linear(dim, 2 * hidden), nn.Linear(hidden, dim)

    def forward(self, x):
        a, b = self.w12(x).chunk(2, -1)
        return self.w3(F.silu(a) * b)


def bottleneck_mlp(dim):
    layers = nn.Linear(dim, dim // 2), nn.GELU(), nn.Linear(dim // 2, 4 * dim), nn.SiLU()
    return nn.Sequential(*layers, nn.Linear(4 * dim, dim))


def modulation(dim, vectors):
    return nn.Sequential(nn.SiLU(), nn.Linear(dim, vectors * dim))


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        dim = c.hidden_size
        self.norm1, self.norm2 = RMSNorm(dim), RMSNorm(dim)
        self.attn = Attention(dim, c.num_heads)
        self.mlp = SwiGlu(dim) if c.mlp == "swiglu" else bottleneck_mlp(dim)
        self.adaLN_modulation = modulation(dim, 6)

    def forward(self, x, condition, rope):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(condition).chunk(6, -1)
        x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1), rope)
        return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))


class FinalLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm_final = RMSNorm(c.hidden_size)
        self.linear = nn.Linear(c.hidden_size, c.patch_size**2 * c.channels)
        self.adaLN_modulation = modulation(c.hidden_size, 2)

    def forward(self, x, condition):
        shift, scale = self.adaLN_modulation(condition).chunk(2, -1)
        return self.linear(modulate(self.norm_final(x), shift, scale))


class Net(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.config = c
        dim, tokens = c.hidden_size, (c.image_size // c.patch_size) ** 2
        self.x_embedder = PatchEmbed(c)
        self.t_embedder = TimeEmbed(dim)
        self.y_embedder = ClassEmbed(c.num_classes, dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, dim), requires_grad=False)
        if c.in_context_len:
            self.in_context_posemb = nn.Parameter(0.02 * torch.randn(1, c.in_context_len, dim))
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.depth))
        self.final_layer = FinalLayer(c)
        self.ropes = [rope_tables(c, 0), rope_tables(c, c.in_context_len)]

    def forward(self, z, t, y):
        c = self.config
        label = self.y_embedder(y)
        condition = self.t_embedder(t) + label
        x = self.x_embedder(z) + self.pos_embed
        rope = self.ropes[0]
        for i, block in enumerate(self.blocks):
            if c.in_context_len and i == c.in_context_start:
                context = label[:, None].expand(-1, c.in_context_len, -1) + self.in_context_posemb
                x, rope = torch.cat([context.to(x.dtype), x], 1), self.ropes[1]
            if getattr(self, "checkpoint_blocks", False):
                x = checkpoint(block, x, condition, rope, use_reentrant=False)
            else:
                x = block(x, condition, rope)
        if c.in_context_len:
            x = x[:, c.in_context_len :]
        x = self.final_layer(x, condition)
        grid, p = c.image_size // c.patch_size, c.patch_size
        x = x.view(-1, grid, grid, p, p, c.channels)
        return torch.einsum("nhwpqc->nchpwq", x).reshape(-1, c.channels, c.image_size, c.image_size)


def losses(net, x, noise, t, y, t_eps=0.05):
    """The v loss of each image, for a network that predicts x."""
    s = t.view(-1, 1, 1, 1)
    z = s * x + (1 - s) * noise
    d = (1 - s).clamp_min(t_eps)
    return ((x - z) / d - (net(z, t, y).float() - z) / d).square().mean((1, 2, 3))
