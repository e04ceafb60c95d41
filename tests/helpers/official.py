"""Reference tensors of the published system, and the translation of its parameter names."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mmmaskformer.checkpoints.convert import renamed

DATA = Path(__file__).parent.parent / 'data'

ENCODER = 'sem_seg_head.input_proj.weight'
"""A parameter name that identifies a head with an encoder."""


def our_name(official: str, *, encoder: bool = False) -> str:
    """Name in `MaskClassifier` or a per-pixel network for a parameter of the official head, with or without encoder."""
    return our_full_name(f'sem_seg_head.{official}', encoder=encoder).removeprefix('decode_head.classifier.')


def our_full_name(official: str, *, panoptic: bool = False, encoder: bool = False) -> str:
    """Name in our `EncoderDecoder` or `MaskFormer` detector for a parameter of the whole official model."""
    return our_full_names([official], panoptic=panoptic, encoder=encoder)[official]


def our_full_names(official: Sequence[str], *, panoptic: bool = False, encoder: bool = False) -> dict[str, str]:
    """The same for several names, which together identify the stem of the backbone."""
    released = {name: name.replace('sem_seg_head.pixel_decoder.', 'sem_seg_head.') for name in official}
    target = 'mmmaskformer-panoptic' if panoptic else 'mmmaskformer'
    ours = renamed([*released.values(), ENCODER] if encoder else released.values(), 'official', target)
    return {name: ours[other] for name, other in released.items()}


def our_state_dict(official: dict[str, Tensor], *, encoder: bool = False) -> dict[str, Tensor]:
    """State dict for `MaskClassifier` from that of the official head, with or without transformer encoder."""
    return {our_name(key, encoder=encoder): value for key, value in official.items()}


def load(name: str) -> dict:
    """Read a file of reference tensors, such as 'semantic_head'."""
    return torch.load(DATA / f'{name}.pt', weights_only=True)


def our_losses(official: dict[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """Loss names of our criterion for the official ones."""
    names = {'loss_ce': 'loss_cls', 'loss_mask': 'loss_mask', 'loss_dice': 'loss_dice', 'loss_sem_seg': 'loss_ce'}
    renamed = {}
    for key, value in official.items():
        kind, _, layer = key.rpartition('_') if key[-1].isdigit() else (key, '', '')
        assert not layer or int(layer) < num_layers - 1
        renamed[f'd{layer}.{names[kind]}' if layer else names[kind]] = value
    return renamed
