"""Batch normalisations as torch modules (imported where a model is built)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class StaticBatchNorm(nn.Module):
    """Batch normalisation without parameters and without statistics: FedVote's static BN, (18).

    The statistics are those of the batch also in evaluation, so the output depends on who shares the batch. Of a
    single value per channel nothing but zero, to rounding, is left.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x of shape [B, C] or [B, C, H, W] with mean 0 and variance 1 per channel."""
        # torch.nn.functional refuses a batch of one, which is what a client's last batch may be.
        return torch.batch_norm(x, None, None, None, None, True, 0.0, 1e-5, torch.backends.cudnn.enabled)


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation of [B, C] or [B, C, H, W] that takes every batch size.

    A training batch with a single value per channel, which has no variance, is normalised by the running statistics.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x, normalised per channel, scaled and shifted."""
        training = self.training and x.numel() > x.shape[1]
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training, self.momentum or 0.0, self.eps
        )
