"""The vision transformer of `fedsign.models.vit` as torch modules (imported where it is built)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-6  # of the layer normalisations, as in the original


class Attention(nn.Module):
    """Multi-head self-attention.

    Written out: with few tokens it is as fast as torch's fused kernels, whose gradients on a GPU may differ from run
    to run.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, width] to [B, T, width]."""
        heads = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # [B, T, 3, heads, width / heads]
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        shares = (self.scale * q @ k.transpose(-2, -1)).softmax(dim=-1)  # [B, heads, T, T]
        return self.proj((shares @ v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a hidden layer with GELU, each normalised before and added to its input."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, width] to [B, T, width]."""
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Transformer(nn.Module):
    """Patches and a class token with learned positions, blocks, and a linear layer on the class token."""

    def __init__(
        self, shape: tuple[int, ...], classes: int, patch: int, width: int, depth: int, heads: int, hidden: int
    ):
        super().__init__()
        channels, height, columns = shape
        tokens = (height // patch) * (columns // patch) + 1
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, tokens, width))
        self.blocks = nn.Sequential(*(Block(width, heads, hidden) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.head = nn.Linear(width, classes)
        for tensor in (self.token, self.positions):
            nn.init.trunc_normal_(tensor, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] to one value per class, [B, classes]."""
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), patches], dim=1) + self.positions
        return self.head(self.norm(self.blocks(tokens))[:, 0])
