"""Weights of a plain ViT, such as DINOv2's, for MMSegmentation's `VisionTransformer`."""

import math
import re
from collections.abc import Mapping

from torch import Tensor

from mmmaskformer.checkpoints.names import Names, find_row
from mmmaskformer.checkpoints.neutral import SHOWN, ConversionError
from mmmaskformer.formats.messages import some

SCALED = {'ls1': 'attn.proj', 'ls2': 'mlp.fc2'}
"""Each LayerScale and the linear layer whose output it multiplies."""

SCALE_REASON = 'a factor per channel, merged into the layer before it'


def read_vit(weights: Mapping[str, Tensor], names: Names) -> tuple[dict[str, Tensor], dict[str, str], str]:
    """Rename the weights of a ViT to neutral names and check that they are complete and consistent.

    LayerScale multiplies the output of a linear layer by a factor per channel. The factors are merged into the weights
    of that layer, since MMSegmentation's blocks have no LayerScale.

    Args:
        weights: weights by name in the released file.
        names: the table of ViTs.

    Returns:
        The weights; the reason for each weight that was dropped; the model in words.

    Raises:
        ConversionError: if a name is unknown, a weight is missing or its shape contradicts the others.
    """
    folded, dropped = _without_scales(weights)
    found: dict[str, Tensor] = {}
    unknown = []
    for name, value in folded.items():
        if fits := find_row(names.rows, name, neutral=False):
            found[fits.row.neutral.fill(fits.match.indices)[0]] = value
        elif reason := next((made.reason for made in names.made if made.theirs.match(name)), None):
            dropped[name] = reason
        else:
            unknown.append(name)
    if unknown:
        raise ConversionError(
            f'{len(unknown)} of its weights are not part of {names.title}: {some(unknown, SHOWN)}. Fix: use '
            "TIMMBackbone; MMSegmentation's VisionTransformer has no register tokens and no gated layers"
        )
    return found, dropped, _checked(found, names.title)


def _without_scales(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    folded, dropped = dict(weights), {}
    for name, gamma in weights.items():
        match = re.fullmatch(r'(blocks\.\d+)\.(ls[12])\.gamma', name)
        if match is None:
            continue
        layer = f'{match[1]}.{SCALED[match[2]]}'
        for part in ('weight', 'bias'):
            value = folded.get(f'{layer}.{part}')
            if value is None or value.shape[0] != gamma.shape[0]:
                raise ConversionError(f'{layer}.{part} is missing or does not match {name}. Fix: copy the file again')
            folded[f'{layer}.{part}'] = (value.T * gamma).T
        del folded[name]
        dropped[name] = SCALE_REASON
    return folded, dropped


def _checked(found: Mapping[str, Tensor], title: str) -> str:
    """Compare the shape of every weight with what the others imply; return the model in words."""
    patch = found.get('backbone.patch_embed.projection.weight')
    hidden = found.get('backbone.layers.0.ffn.layers.0.0.weight')
    if patch is None or patch.dim() != 4 or hidden is None or found.get('backbone.pos_embed', patch).dim() != 3:
        raise ConversionError(f'{title} is incomplete: its patches, positions or first block are missing')
    places = found['backbone.pos_embed'].shape[-2]
    if math.isqrt(places) ** 2 == places and math.isqrt(max(0, places - 1)) ** 2 != places - 1:
        raise ConversionError(
            f"it has {places} positions, one for each patch and none for the class token, but MMSegmentation's "
            'VisionTransformer needs one for it. Fix: use TIMMBackbone'
        )
    blocks = 1 + max(int(match[1]) for name in found if (match := re.match(r'backbone\.layers\.(\d+)\.', name)))
    width, wide = patch.shape[0], hidden.shape[0]
    expected: dict[str, tuple[int, ...]] = {'cls_token': (1, 1, width), 'ln1.weight': (width,), 'ln1.bias': (width,)}
    expected['pos_embed'] = (1, places, width)
    expected |= {'patch_embed.projection.weight': tuple(patch.shape), 'patch_embed.projection.bias': (width,)}
    linear = {'attn.attn.in_proj_': (3 * width, width), 'attn.attn.out_proj.': (width, width)}
    linear |= {'ffn.layers.0.0.': (wide, width), 'ffn.layers.1.': (width, wide)}
    for block in range(blocks):
        for norm in ('ln1', 'ln2'):
            expected |= {f'layers.{block}.{norm}.{part}': (width,) for part in ('weight', 'bias')}
        for layer, shape in linear.items():
            expected |= {f'layers.{block}.{layer}weight': shape, f'layers.{block}.{layer}bias': shape[:1]}
    shapes = {name.removeprefix('backbone.'): tuple(value.shape) for name, value in found.items()}
    wrong = [name for name in expected.keys() | shapes.keys() if expected.get(name) != shapes.get(name)]
    if wrong:
        name = min(wrong)
        raise ConversionError(
            f'{title} is incomplete: {len(wrong)} weights are missing or of another shape, such as {name}: '
            f'{shapes.get(name, "absent")}, expected {expected.get(name, "no such weight")}. Fix: copy the file again'
        )
    return f'ViT with {width} channels, {blocks} blocks, patches of {patch.shape[-1]} pixels'
