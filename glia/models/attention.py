"""Scaled dot-product attention, the faster way round for where it runs."""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention over [B, heads, N, D], [B, heads, M, D], [B, heads, M, D] to [B, heads, N, D].

    On the CPU the plain products are faster than PyTorch's fused kernel: a training step of ViT-tiny on 80 x 98
    tokens in bfloat16 took 1.0 s against 1.6 s on two cores (torch 2.15). On a GPU the fused kernel is. A graph in
    float16 is traced for a GPU, wherever that is done.
    """
    if query.is_cuda or query.dtype == torch.float16:
        return scaled_dot_product_attention(query, key, value)
    weights = (query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)).softmax(-1)
    attended: Tensor = weights.to(value.dtype) @ value
    return attended
