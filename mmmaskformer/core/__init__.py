"""The MaskFormer model, its matching, losses and inference in plain PyTorch; imports nothing of OpenMMLab."""
