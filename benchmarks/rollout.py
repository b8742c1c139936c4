"""Gradient Attention Rollout written plainly: one image at a time, full token-by-token matrices."""

import torch
from torch import Tensor

from pipeline.models.build import Classifier


def plain_rollout(classifier: Classifier, images: Tensor, targets: Tensor) -> Tensor:
    """Maps [n, rows, columns] of a class-token ViT, as vit-explain means them."""
    return torch.stack(
        [_one(classifier, image[None], int(target)) for image, target in zip(images, targets, strict=True)]
    )


def _one(classifier: Classifier, image: Tensor, target: int) -> Tensor:
    blocks, held = classifier.backbone.blocks, []
    handles = [block.attn.attn_drop.register_forward_hook(lambda *call: held.append(call[2])) for block in blocks]
    for block in blocks:
        block.attn.fused_attn = False
    try:
        score = classifier(image)[0, target]
        for attention in held:
            attention.retain_grad()
        classifier.zero_grad()
        score.backward()
    finally:
        for handle, block in zip(handles, blocks, strict=True):
            handle.remove()
            block.attn.fused_attn = True
    result = torch.eye(held[0].shape[-1])
    for attention in held:
        fused = (attention.detach() * attention.grad).mean(dim=1)[0].clamp_min(0)
        lowest = fused.flatten().topk(int(fused.numel() * 0.9), largest=False).indices
        fused.view(-1)[lowest] = 0
        layer = fused + torch.eye(len(fused))
        result = layer / layer.sum(dim=-1, keepdim=True) @ result
    return result[0, 1:].view(classifier.backbone.patch_embed.grid_size)
