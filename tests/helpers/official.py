"""Reference tensors of the published system, and its parameter names in ours."""

import re
from pathlib import Path

import torch
from torch import Tensor

DATA = Path(__file__).parent.parent / 'data'

# Official name -> ours. N counts pyramid levels from 1, finest first.
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
    (r'predictor\.(weight|bias)$', r'pixel_classifier.\1'),  # of the per-pixel baseline
    (r'predictor\.', ''),
)


ENCODER_RULES = (
    (r'pixel_decoder\.input_proj\.', 'pixel_decoder.memory_proj.'),
    (r'pixel_decoder\.transformer\.encoder\.layers\.', 'pixel_decoder.layers.'),
)


def our_name(official: str, *, encoder: bool = False) -> str:
    """Name in `MaskClassifier`, or in a per-pixel network, of a parameter of the official head."""
    if encoder and official.startswith('pixel_decoder.'):
        for pattern, replacement in ENCODER_RULES:
            name, count = re.subn(f'^{pattern}', replacement, official)
            if count:
                return name
        return our_name(official).replace('pixel_decoder.', 'pixel_decoder.pyramid.')
    for pattern, replacement in RULES:
        name, count = re.subn(f'^{pattern}', replacement, official)
        if count:
            return re.sub(r'<(\d)>', lambda level: str(int(level[1]) - 1), name)
    raise KeyError(official)


# Names of the official backbones in MMSegmentation's.
BACKBONE_RULES = (
    (r'stem\.conv1\.norm\.', 'bn1.'),
    (r'stem\.conv1\.', 'conv1.'),
    (r'res(\d)\.(\d+)\.shortcut\.norm\.', r'layer<\1>.\2.downsample.1.'),
    (r'res(\d)\.(\d+)\.shortcut\.', r'layer<\1>.\2.downsample.0.'),
    (r'res(\d)\.(\d+)\.conv(\d)\.norm\.', r'layer<\1>.\2.bn\3.'),
    (r'res(\d)\.(\d+)\.conv(\d)\.', r'layer<\1>.\2.conv\3.'),
    (r'patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'layers\.(\d)\.blocks\.(\d+)\.attn\.', r'stages.\1.blocks.\2.attn.w_msa.'),
    (r'layers\.(\d)\.blocks\.(\d+)\.mlp\.fc1\.', r'stages.\1.blocks.\2.ffn.layers.0.0.'),
    (r'layers\.(\d)\.blocks\.(\d+)\.mlp\.fc2\.', r'stages.\1.blocks.\2.ffn.layers.1.'),
    (r'layers\.', 'stages.'),
)


def our_full_name(official: str, *, panoptic: bool = False, encoder: bool = False) -> str:
    """Name in our `EncoderDecoder`, or `MaskFormer` detector, of a parameter of the whole official model."""
    part, _, name = official.partition('.')
    if part == 'sem_seg_head':
        head = 'panoptic_head' if panoptic else 'decode_head'
        return f'{head}.classifier.{our_name(name, encoder=encoder)}'
    for pattern, replacement in BACKBONE_RULES:
        renamed, count = re.subn(f'^{pattern}', replacement, name)
        if count:
            return 'backbone.' + re.sub(r'<(\d)>', lambda level: str(int(level[1]) - 1), renamed)
    return official


def our_state_dict(official: dict[str, Tensor], *, encoder: bool = False) -> dict[str, Tensor]:
    """State dict of `MaskClassifier` from the one of the official head, with or without transformer encoder."""
    return {our_name(key, encoder=encoder): value for key, value in official.items()}


def load(name: str) -> dict:
    """Read a file of reference tensors, such as 'semantic_head'."""
    return torch.load(DATA / f'{name}.pt', weights_only=True)


def our_losses(official: dict[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """Loss names in our criterion from the official ones."""
    names = {'loss_ce': 'loss_cls', 'loss_mask': 'loss_mask', 'loss_dice': 'loss_dice', 'loss_sem_seg': 'loss_ce'}
    renamed = {}
    for key, value in official.items():
        kind, _, layer = key.rpartition('_') if key[-1].isdigit() else (key, '', '')
        assert not layer or int(layer) < num_layers - 1
        renamed[f'd{layer}.{names[kind]}' if layer else names[kind]] = value
    return renamed
