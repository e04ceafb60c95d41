"""Reference tensors of the published system, and its parameter names in ours."""

import re
from pathlib import Path

import torch
from torch import Tensor

DATA = Path(__file__).parent.parent / 'data'

# Official name -> ours, for heads without the transformer encoder. N counts pyramid levels from 1, finest first.
RULES = (
    (r'pixel_decoder\.layer_4\.norm\.', 'pixel_decoder.top_conv.norm.'),
    (r'pixel_decoder\.layer_4\.', 'pixel_decoder.top_conv.conv.'),
    (r'pixel_decoder\.adapter_(\d)\.norm\.', r'pixel_decoder.lateral_convs.<\1>.norm.'),
    (r'pixel_decoder\.adapter_(\d)\.', r'pixel_decoder.lateral_convs.<\1>.conv.'),
    (r'pixel_decoder\.layer_(\d)\.norm\.', r'pixel_decoder.output_convs.<\1>.norm.'),
    (r'pixel_decoder\.layer_(\d)\.', r'pixel_decoder.output_convs.<\1>.conv.'),
    (r'pixel_decoder\.mask_features\.', 'pixel_decoder.mask_conv.'),
    (r'predictor\.transformer\.decoder\.layers\.(\d+)\.multihead_attn\.', r'transformer_decoder.layers.\1.cross_attn.'),
    (r'predictor\.transformer\.decoder\.', 'transformer_decoder.'),
    (r'predictor\.query_embed\.', 'transformer_decoder.query_embed.'),
    (r'predictor\.input_proj\.', 'transformer_decoder.memory_proj.'),
    (r'predictor\.', ''),
)


def our_name(official: str) -> str:
    """Name in `MaskClassifier` of a parameter of the official head."""
    for pattern, replacement in RULES:
        name, count = re.subn(f'^{pattern}', replacement, official)
        if count:
            return re.sub(r'<(\d)>', lambda level: str(int(level[1]) - 1), name)
    raise KeyError(official)


def our_state_dict(official: dict[str, Tensor]) -> dict[str, Tensor]:
    """State dict of `MaskClassifier` from the one of the official head."""
    return {our_name(key): value for key, value in official.items()}


def load(name: str) -> dict:
    """Read a file of reference tensors, such as 'semantic_head'."""
    return torch.load(DATA / f'{name}.pt', weights_only=True)


def our_losses(official: dict[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """Loss names in our criterion from the official ones."""
    names = {'loss_ce': 'loss_cls', 'loss_mask': 'loss_mask', 'loss_dice': 'loss_dice'}
    renamed = {}
    for key, value in official.items():
        kind, _, layer = key.rpartition('_') if key[-1].isdigit() else (key, '', '')
        assert not layer or int(layer) < num_layers - 1
        renamed[f'd{layer}.{names[kind]}' if layer else names[kind]] = value
    return renamed
