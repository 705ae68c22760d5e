"""Batch-norm over the images of all processes: its mean and variance are those of the whole batch.

    synchronise(network)        # every nn.BatchNorm2d of it, in place

Ioffe & Szegedy 2015 (1502.03167), algorithm 1 and the gradients of section 3, with the sums taken over all processes.
(torch's own SyncBatchNorm runs on GPUs alone.) With it, a step does not depend on how many processes share a batch: a
single one computes in the same way, which is more exact than torch's plain sums over a channels-last batch on the CPU.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn


def synchronise(network: nn.Module) -> None:
    """Turn every nn.BatchNorm2d of a network, in place, into one over the images of all processes."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SynchronisedBatchNorm2d


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """In evaluation, and in its parameters and statistics, the same as nn.BatchNorm2d."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W) by the mean and variance over the images of all processes."""
        if not self.training:
            return super().forward(x)
        self._check_input_dim(x)
        y, mean, variance, count = _Normalise.apply(x, self.weight, self.bias, self.eps)
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return y


class _Normalise(torch.autograd.Function):
    """x (B, C, H, W), weight and bias (C,) -> y like x; mean and biased variance (C,), values per channel, of all processes."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, eps: float):
        values = x.float()
        variance, mean = torch.var_mean(values, (0, 2, 3), correction=0)
        own = torch.cat([mean, variance, mean.new_full((1,), values.numel() / len(mean))])
        gathered = [own]
        if dist.is_initialized():
            gathered = [torch.empty_like(own) for _ in range(dist.get_world_size())]
            dist.all_gather(gathered, own)
        means, variances, counts = torch.stack(gathered).split([len(mean), len(mean), 1], dim=1)
        shares = counts / counts.sum()
        mean = (shares * means).sum(0)
        variance = (shares * (variances + (means - mean).square())).sum(0)
        scale = (variance + eps).rsqrt()
        normal = (values - _wide(mean)) * _wide(scale)
        ctx.save_for_backward(normal, weight, scale)
        ctx.count = counts.sum()
        ctx.mark_non_differentiable(mean, variance, ctx.count)
        return (normal * _wide(weight) + _wide(bias)).to(x.dtype), mean, variance, ctx.count

    @staticmethod
    def backward(ctx, of_y: Tensor, *of_statistics):
        normal, weight, scale = ctx.saved_tensors
        of_y_32 = of_y.float()
        of_bias, of_weight = of_y_32.sum((0, 2, 3)), (of_y_32 * normal).sum((0, 2, 3))
        sums = torch.stack([of_bias, of_weight])
        if dist.is_initialized():
            dist.all_reduce(sums)
        centred = of_y_32 - (_wide(sums[0]) + normal * _wide(sums[1])) / ctx.count
        return (centred * _wide(weight * scale)).to(of_y.dtype), of_weight, of_bias, None


def _wide(channels: Tensor) -> Tensor:
    return channels[:, None, None]
