"""Comparison of a checkpoint with its conversion, by the outputs of both models if their packages are installed."""

import tempfile
from collections.abc import Collection, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmmaskformer.apis.model_configs import NoConfigError, host_config, own_config
from mmmaskformer.checkpoints.classes import inverse
from mmmaskformer.checkpoints.convert import Conversion, convert
from mmmaskformer.checkpoints.key_maps import NAMES
from mmmaskformer.checkpoints.neutral import spelt_as_in_table
from mmmaskformer.checkpoints.preprocessors import hub_preprocessor
from mmmaskformer.checkpoints.settings import Settings
from mmmaskformer.checkpoints.sizes import Architecture
from mmmaskformer.checkpoints.transformers_files import hub_config
from mmmaskformer.checkpoints.writers import write_transformers

IMAGE_SIZE = (96, 160)
"""(H, W) of the image; not a multiple of most window sizes."""

LIMIT = 1e-4
"""Tolerance for rounding, relative to the largest value, or to 1 if that is smaller."""

HOSTS = {'mmseg': 'mmseg', 'mmdet': 'mmdet', 'mmmaskformer': 'mmseg', 'mmmaskformer-panoptic': 'mmdet'}


class Outputs(NamedTuple):
    """Logits of one image: class logits (Q, K + 1), mask logits (Q, h, w)."""

    class_logits: Tensor
    mask_logits: Tensor


class Difference(NamedTuple):
    """One line of a comparison.

    Attributes:
        what: what was compared.
        largest: largest absolute difference.
        scale: largest absolute value.
    """

    what: str
    largest: float
    scale: float

    @property
    def is_rounding(self) -> bool:
        """Whether the difference is within rounding; False if a value is inf or NaN."""
        return self.largest <= LIMIT * max(1.0, self.scale)

    def describe(self) -> str:
        """One line."""
        return f'verified: {self.what} differ by at most {self.largest:.1e}, values up to {self.scale:.1f}'


def compare_outputs(
    source: tuple[str, Mapping[str, Tensor]],
    target: tuple[str, Mapping[str, Tensor]],
    architecture: Architecture,
    settings: Settings,
    order: list[int] | None,
    folder: Path | None = None,
    left_out: Collection[str] = (),
) -> list[Difference]:
    """Run both models on one image.

    Args:
        source: package and weights of the source.
        target: package and weights of the target.
        architecture: architecture of both.
        settings: settings of both, with the classes of the target.
        order: for each class of the target, its label in the source; None if they are the same.
        folder: folder of the source if it is a model of transformers, which then loads it with its own config.
        left_out: names in the source that were not converted.

    Returns:
        The differences of class logits and of mask logits; empty if a package is not installed or has no config.
    """
    image = make_image()
    if folder is not None and find_spec('transformers'):
        one: Outputs | None = _outputs_of_folder(folder, image)
    else:
        one = outputs(*source, architecture, settings, image, left_out)
    other = outputs(*target, architecture, settings, image) if one is not None else None
    if one is None or other is None:
        return []
    if order is not None:
        one = one._replace(class_logits=one.class_logits[:, [*order, len(order)]])
    return [
        Difference(name.replace('_', ' '), float((a - b).abs().max()), float(a.abs().max()))
        for name, a, b in zip(Outputs._fields, one, other, strict=True)
    ]


def compare_weights(
    source: tuple[str, Mapping[str, Tensor]], conversion: Conversion, target: str, order: list[int] | None
) -> list[Difference]:
    """Convert back and compare every weight that was used, for packages that are not installed.

    Args:
        source: package and weights of the source.
        conversion: the conversion of these weights.
        target: package of the target.
        order: see `compare_outputs`.

    Returns:
        One difference, 0 if all weights are bitwise equal.
    """
    package, weights = source
    undone = convert(conversion.weights, target, package, permutation=None if order is None else inverse(order))
    weights = spelt_as_in_table(weights, NAMES[package])
    used = {name: value for name, value in weights.items() if name not in conversion.dropped}
    pairs = [(value.double(), undone.weights[name].double()) for name, value in used.items()]
    # torch's maximum propagates NaN; Python's max does not.
    largest = float(torch.stack([(a - b).abs().max() for a, b in pairs]).max())
    scale = float(torch.stack([a.abs().max() for a, _ in pairs]).max())
    return [Difference(f'{len(pairs)} weights, converted back,', largest, scale)]


def make_image() -> Tensor:
    """A normalised image of noise, (1, 3, H, W)."""
    return torch.randn(1, 3, *IMAGE_SIZE, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def outputs(
    package: str,
    weights: Mapping[str, Tensor],
    architecture: Architecture,
    settings: Settings,
    image: Tensor,
    left_out: Collection[str] = (),
) -> Outputs | None:
    """Run a model of a package on an image.

    Args:
        package: a key of `key_maps.NAMES`.
        weights: weights by name in the package.
        architecture: architecture of the model.
        settings: settings that do not show in the weights.
        image: (1, 3, H, W).
        left_out: names of weights that the model need not have.

    Returns:
        The outputs; None if the package is not installed, or no config is known for the model.
    """
    if architecture.head.kind != 'mask':  # other packages have no per-pixel baselines
        return None
    if package == 'transformers':
        return _hub_outputs(weights, architecture, settings, image) if find_spec('transformers') else None
    host = HOSTS.get(package)
    if host is None or find_spec(host) is None:
        return None
    try:
        model = _host_model(package, architecture, settings)
    except NoConfigError:
        return None
    own = model.state_dict()
    model.load_state_dict({name: value for name, value in weights.items() if name in own or name not in left_out})
    size = tuple(image.shape[2:])
    sample = BaseDataElement(metainfo=dict(img_shape=size, batch_input_shape=size, pad_shape=size, ori_shape=size))
    head: Any = getattr(model, 'decode_head', None) or model.panoptic_head
    features = model.extract_feat(image)  # type: ignore[operator]
    if package == host:  # the host's own head takes data samples and returns all layers
        class_logits, mask_logits = head(features, [sample])
        return Outputs(class_logits[-1][0], mask_logits[-1][0])
    class_logits, mask_logits = head(features)
    return Outputs(class_logits[0], mask_logits[0])


def build(cfg: Config) -> nn.Module:
    """Build the model of a config in evaluation mode, without pre-trained backbone weights."""
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'):
        return MODELS.build(cfg.model).eval()


def _host_model(package: str, architecture: Architecture, settings: Settings) -> nn.Module:
    if package in ('mmseg', 'mmdet'):
        import_module(f'{package}.models')
        return build(host_config(package, architecture, settings))
    task = 'panoptic' if package.endswith('panoptic') else 'semantic'
    import_module(f'{HOSTS[package]}.models')
    return build(own_config(architecture, settings, task))


def _hub_outputs(
    weights: Mapping[str, Tensor], architecture: Architecture, settings: Settings, image: Tensor
) -> Outputs:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'model'
        write_transformers(path, weights, hub_config(architecture, settings), hub_preprocessor(settings))
        return _outputs_of_folder(path, image)


@torch.no_grad()
def _outputs_of_folder(path: Path, image: Tensor) -> Outputs:
    library = import_module('transformers')
    model = library.MaskFormerForInstanceSegmentation.from_pretrained(str(path)).float().eval()
    found = model(pixel_values=image)
    return Outputs(found.class_queries_logits[0], found.masks_queries_logits[0])
