"""One plain module per task around a trained model of either host: images in, results out.

Normalisation and padding are included, so that the file takes images as they are read. Sizes are never compared and
never converted to Python numbers, so that exporters keep batch, height and width free.
"""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmaskformer.export.attention import make_portable
from mmmaskformer.export.panoptic import fixed_panoptic_inference
from mmmaskformer.export.windows import first_of, make_windows_portable

RAW_OUTPUTS = ('class_logits', 'mask_logits')
OUTPUTS = {
    'raw': RAW_OUTPUTS,
    'semantic': ('labels', *RAW_OUTPUTS),
    'panoptic': ('segment_ids', 'segment_labels', 'segment_scores', 'segment_valid', *RAW_OUTPUTS),
}
"""The outputs of each task, in order."""


class InputLayer(nn.Module):
    """The preprocessing of a host's data preprocessor for test images, for batches of one size.

    Args:
        mean: mean of the three channels, in the order of the network.
        std: likewise.
        swap_channels: whether the network takes BGR.
        divisor: height and width are padded on the right and at the bottom to a multiple of it.
        pad_value: value of the padding, after normalisation.
    """

    def __init__(
        self, *, mean: Sequence[float], std: Sequence[float], swap_channels: bool, divisor: int, pad_value: float
    ):
        super().__init__()
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))
        self.swap_channels = swap_channels
        self.divisor = divisor
        self.pad_value = pad_value

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) uint8 RGB to float32 at the padded size."""
        x = images.flip(1) if self.swap_channels else images
        x = (x.float() - self.mean) / self.std
        if self.divisor == 1:
            return x
        height, width = (side + (-side) % self.divisor for side in images.shape[-2:])
        # Pad too much, then crop, so that no size is a special case.
        return first_of(F.pad(x, (0, self.divisor, 0, self.divisor), value=self.pad_value), (height, width))


class RawModule(nn.Module):
    """Class logits and mask logits of the last layer; the base of the modules with results.

    Args:
        model: a built `EncoderDecoder` or detector `MaskFormer` with one of our heads.
        input_layer: preprocessing of the model.
        head: the head within the model.
    """

    def __init__(self, model: nn.Module, input_layer: InputLayer, head: nn.Module):
        super().__init__()
        self.input_layer = input_layer
        self.model = model
        self.head = head

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Predict.

        Args:
            images: (B, 3, H, W) uint8 RGB.

        Returns:
            The tensors that `OUTPUTS` names: class_logits (B, Q, K + 1) float, mask_logits (B, Q, h, w) float on the
            grid of the finest feature, padding included.
        """
        return self.predict(self.input_layer(images))

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits and mask logits of normalised, padded images."""
        prediction = self.head.classifier(self.head.prepare(self.model.extract_feat(x)), all_layers=False)[-1]
        return prediction.class_logits, prediction.masks.multiplied_out()


class SemanticModule(RawModule):
    """Semantic inference and its arg-max, at the size of the images; arguments as `RawModule`."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Predict.

        Args:
            images: (B, 3, H, W) uint8 RGB.

        Returns:
            labels (B, H, W) int32 in [0, K), then the outputs of `RawModule`.
        """
        x = self.input_layer(images)
        class_logits, mask_logits = self.predict(x)
        mask_probs = _at_size_of(x, mask_logits).sigmoid()
        scores = torch.einsum('bqk,bqhw->bkhw', class_logits.softmax(-1)[..., :-1], mask_probs)
        labels = scores.argmax(1).to(torch.int32)
        return first_of(labels, images.shape[-2:]), class_logits, mask_logits


class PanopticModule(RawModule):
    """Panoptic inference with its table of segments, at the size of the images.

    Args:
        model, input_layer, head: see `RawModule`.
        settings: ``is_thing`` and, if they differ from the defaults, the thresholds of `fixed_panoptic_inference`.
    """

    def __init__(self, model: nn.Module, input_layer: InputLayer, head: nn.Module, settings: dict):
        super().__init__(model, input_layer, head)
        self.thresholds = {key: value for key, value in settings.items() if key != 'is_thing'}
        self.register_buffer('is_thing', settings['is_thing'].clone())

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Predict.

        Args:
            images: (B, 3, H, W) uint8 RGB.

        Returns:
            segment_ids (B, H, W) int32, segment_labels (B, Q) int32, segment_scores (B, Q) float and segment_valid
            (B, Q) bool, see `SegmentTable`; then the outputs of `RawModule`.
        """
        x = self.input_layer(images)
        class_logits, mask_logits = self.predict(x)
        height, width = images.shape[-2:]
        rows, columns = (torch.arange(side, device=x.device) for side in x.shape[-2:])
        inside = (rows < height)[:, None] & (columns < width)
        table = fixed_panoptic_inference(
            class_logits, _at_size_of(x, mask_logits), inside, is_thing=self.is_thing, **self.thresholds
        )
        return first_of(table.segment_ids, (height, width)), *table[1:], class_logits, mask_logits


def _at_size_of(x: Tensor, maps: Tensor) -> Tensor:
    return F.interpolate(maps, size=x.shape[-2:], mode='bilinear', align_corners=False)


def export_module(model: nn.Module, task: str) -> RawModule:
    """Build the module to export from a copy of a trained model.

    Args:
        model: a built `EncoderDecoder` or detector `MaskFormer` with one of our heads.
        task: one of `OUTPUTS`.

    Returns:
        The module in evaluation mode, on the CPU, without gradients.

    Raises:
        ValueError: if the model does not support the task, has another head, or its preprocessor does something that
            cannot be exported.
    """
    if task not in OUTPUTS:
        raise ValueError(f'task={task!r} is unknown; expected one of {list(OUTPUTS)}')
    settings = _settings(model, task)
    model = copy.deepcopy(model).cpu().train().eval().requires_grad_(False)  # training mode undoes the fusion
    make_portable(model)
    make_windows_portable(model)
    parts = (model, _input_layer(model.data_preprocessor), head_of(model))
    if task == 'panoptic':
        return PanopticModule(*parts, settings).eval()
    return (SemanticModule if task == 'semantic' else RawModule)(*parts).eval()


def head_of(model: nn.Module) -> nn.Module:
    """The mask classification head of a host's model.

    Raises:
        ValueError: if there is none.
    """
    for key in ('panoptic_head', 'decode_head'):
        head = getattr(model, key, None)
        if hasattr(head, 'classifier'):
            return head
    raise ValueError(
        f'model: found {type(model).__name__} without a head of this package; expected decode_head of type '
        'mmmaskformer.MaskFormerHead or panoptic_head of type mmmaskformer.MaskFormerPanopticHead'
    )


def _settings(model: nn.Module, task: str) -> dict:
    """Settings of panoptic inference; for other tasks only a check that the graph computes the same as the model."""
    if not getattr(head_of(model), 'has_class_logits', True):
        raise ValueError(
            f'model.decode_head: {type(model.decode_head).__name__} is a per-pixel model without queries that have '
            "classes, which is not exported. Expected a mask classification head, such as 'mmmaskformer.MaskFormerHead'"
        )
    fusion = getattr(model, 'panoptic_fusion_head', None)
    if fusion is None:
        if task == 'panoptic':
            raise ValueError(
                "task='panoptic': the model is semantic and cannot separate things. Fix: use --task semantic "
                'or a config with a panoptic head'
            )
        if task == 'semantic':
            _require_plain_semantic(model.test_cfg or {})
        return {}
    if task != 'panoptic':
        return {}
    if 'panoptic' not in getattr(fusion, 'outputs', {}):
        raise ValueError(
            f"task='panoptic': model.test_cfg requests {list(getattr(fusion, 'outputs', {}))} only. Fix: add "
            "'panoptic' with its thresholds, such as --cfg-options model.test_cfg.panoptic.object_threshold=0.8"
        )
    return fusion.settings('panoptic')


def _require_plain_semantic(test_cfg: dict) -> None:
    for key, expected in (('mode', 'whole'), ('inference', 'semantic')):
        found = test_cfg.get(key, expected)
        if found != expected:
            raise ValueError(
                f"task='semantic': model.test_cfg.{key}={found!r} is not in the graph; expected {expected!r}. Fix: "
                f'use --task raw and compute it outside of the file, or --cfg-options model.test_cfg.{key}={expected}'
            )


def _input_layer(preprocessor: nn.Module) -> InputLayer:
    """A host's data preprocessor as a part of the graph."""
    test_cfg = getattr(preprocessor, 'test_cfg', None) or {}
    if test_cfg.get('size') is not None:
        raise ValueError(
            f'model.data_preprocessor.test_cfg.size={test_cfg["size"]} pads to one size; the file takes any. Fix: '
            'use size_divisor'
        )
    divisor = getattr(preprocessor, 'pad_size_divisor', None) or test_cfg.get('size_divisor') or 1
    normalised = preprocessor._enable_normalize
    swapped = getattr(preprocessor, 'channel_conversion', None) or getattr(preprocessor, '_channel_conversion', False)
    return InputLayer(
        mean=preprocessor.mean.flatten().tolist() if normalised else [0.0] * 3,
        std=preprocessor.std.flatten().tolist() if normalised else [1.0] * 3,
        # The hosts read BGR; without a conversion, the network takes BGR.
        swap_channels=not swapped,
        divisor=divisor,
        pad_value=float(getattr(preprocessor, 'pad_val', getattr(preprocessor, 'pad_value', 0))),
    )
