"""Channels, strides, order and layout of the input features of a head, and the corresponding input size."""

import logging
from collections.abc import Sequence
from numbers import Real

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmmaskformer.core.modeling.feature_pyramid import channels_first
from mmmaskformer.core.torch_versions import is_compiling
from mmmaskformer.heads.features import (
    COARSE_STRIDE,
    PUBLISHED_STRIDES,
    DryRunError,
    FeatureMap,
    measure,
    misfit,
    require_maps,
    source_of,
)


class FeatureInput:
    """The features of backbone and neck, as described by the config or measured.

    Args:
        in_channels: channels in the order of the backbone, or None to measure them.
        strides: strides in the same order, or None to measure them.

    Attributes:
        channels: channels, finest feature first; None until known.
        strides: strides, finest feature first; None until known. Before the model is measured, strides that the config
            does not set are assumed to be 4, 8, 16, …

    Raises:
        ValueError: if the two differ in length.
    """

    def __init__(self, in_channels: Sequence[int] | None, strides: Sequence[Real] | None):
        self._given = [None if values is None else list(values) for values in (in_channels, strides)]
        channels, strides = self._given
        if channels is not None and strides is not None and len(channels) != len(strides):
            raise ValueError(
                f'in_channels={channels} and feature_strides={strides} differ in length; expected one entry per '
                'backbone feature in both. Fix: set both to None to measure them'
            )
        self._measured = False
        self._channels_last = None
        self.channels = self.strides = None
        if channels is not None:
            doubled = [PUBLISHED_STRIDES[0] * 2**level for level in range(len(channels))]
            self._set_order(channels, strides or doubled)

    def fit(self, model: nn.Module, head: str) -> None:
        """Measure the features of a model, adopt values that the config does not set, and check the others.

        Args:
            model: model with ``backbone`` and ``extract_feat``.
            head: config key of the head, for messages.

        Raises:
            ValueError: if the model returns no list of feature maps, or other ones than in the config, or if it cannot
                be measured and the config does not set the channels.
        """
        channels, strides = self._given
        try:
            rows = measure(model, head)
        except DryRunError as error:
            if channels is None:
                raise ValueError(
                    f'{error}. Fix: correct the backbone (TIMMBackbone needs features_only=True) or, if it accepts '
                    f'only other sizes, set {head}.in_channels and {head}.feature_strides'
                ) from error
            print_log(f'{head} is not checked at start-up: {error}', logger='current', level=logging.WARNING)
            return
        self._check(rows, source_of(model), head)
        if channels is None or strides is None:
            found = f'channels {[row.channels for row in rows]} and strides {[row.stride for row in rows]}'
            print_log(f'{head}: measured features of {found}.', logger='current')
        self._set_order([row.channels for row in rows], strides or [row.stride for row in rows])
        self._channels_last = [rows[index].channels_last for index in self._order]
        self._measured = True
        if self.strides[0] > COARSE_STRIDE:
            print_log(
                f'{head}: the finest feature, and thus the masks, have stride {self.strides[0]}; published models have '
                "4. A neck such as 'mmmaskformer.SimpleFeaturePyramid' provides finer features.",
                logger='current',
                level=logging.WARNING,
            )

    def prepare(self, features: Sequence[Tensor], head: str) -> list[Tensor]:
        """Bring features into the form of the pixel decoder.

        Args:
            features: as the model's ``extract_feat`` returns them, (B, C_i, h_i, w_i) or (B, h_i, w_i, C_i).
            head: config key of the head, for messages.

        Returns:
            (B, C_i, h_i, w_i), finest first.

        Raises:
            ValueError: if they are not maps, or do not match the channels or, in an unmeasured head, the strides.
        """
        if isinstance(features, Tensor):
            raise ValueError(
                f'the backbone returns one tensor {tuple(features.shape)}; {head} needs a list of feature maps. Fix: '
                "add a neck such as 'mmmaskformer.SimpleFeaturePyramid'"
            )
        require_maps(features, 'the backbone')
        if len(features) == len(self._order):
            features = [features[index] for index in self._order]
            layouts = self._channels_last or [None] * len(features)
            features = [_to_channels_first(*row) for row in zip(features, self.channels, layouts, strict=True)]
        found = [feature.shape[1] for feature in features]
        if found != self.channels:
            raise ValueError(_channels_message('the backbone', found, self.channels, head))
        if not (self._measured or torch.jit.is_tracing() or is_compiling()):
            self._check_sizes(features, head)
        return features

    def input_size(self, metas: Sequence[dict], finest: Tensor, head: str, *, sliding: bool) -> tuple[int, int]:
        """Height and width of the padded network input of the features.

        Sliding inference stores the size of each window only in ``metas[0]['img_shape']``; whole inference stores the
        un-padded size there and the padded one in ``pad_shape``.

        Args:
            metas: meta information of the samples of the batch.
            finest: (B, C, h, w) the finest feature.
            head: config key of the head, for the message.
            sliding: whether the batch is a window.

        Returns:
            (H, W); the features' size times the stride if ``metas`` has no size.

        Raises:
            ValueError: if no size in ``metas`` fits the features.
        """
        keys = ('img_shape', 'pad_shape') if sliding else ('pad_shape', 'img_shape')
        sizes = [tuple(metas[0][key][:2]) for key in keys if metas and metas[0].get(key) is not None]
        if not sizes:
            height, width = (round(side * self.strides[0]) for side in finest.shape[-2:])
            return height, width
        return self.require_stride(finest, sizes, head)

    def require_stride(self, finest: Tensor, sizes: Sequence[tuple[int, int]], head: str) -> tuple[int, int]:
        """The first input size that the finest feature fits, rounded either way.

        Args:
            finest: (B, C, h, w).
            sizes: candidates (H, W).
            head: config key of the head, for the message.

        Raises:
            ValueError: if none fits a head that was not measured; names the stride that fits.
        """
        sides = tuple(finest.shape[-2:])
        for size in sizes:
            if misfit(size, sides, self.strides[0]) < 1:
                return int(size[0]), int(size[1])
        # Convolutions without padding lose a few more pixels.
        if self._measured or misfit(sizes[0], sides, self.strides[0]) < 2:
            return int(sizes[0][0]), int(sizes[0][1])
        found = round(sizes[0][0] / sides[0])
        raise ValueError(
            f'the finest feature of the backbone is {sides} for an input of {tuple(sizes[0])}, a stride of about '
            f'{found}; the head has feature_strides[0]={self.strides[0]}. Fix: set {head}.feature_strides to the '
            "strides of the backbone, or choose other features with the backbone's out_indices."
        )

    def _set_order(self, channels: Sequence[int], strides: Sequence[Real]) -> None:
        self._order = sorted(range(len(strides)), key=lambda index: strides[index])
        self.channels = [channels[index] for index in self._order]
        self.strides = [strides[index] for index in self._order]

    def _check(self, rows: Sequence[FeatureMap], source: str, head: str) -> None:
        channels, strides = self._given
        found_channels, found_strides = ([getattr(row, key) for row in rows] for key in ('channels', 'stride'))
        measured = f'{source} returns {len(rows)} features of strides {found_strides} with channels {found_channels}'
        if channels is not None and channels != found_channels:
            raise ValueError(_channels_message(source, found_channels, channels, head, found_strides))
        if strides is not None and not _agree(strides, found_strides):
            raise ValueError(
                f'{measured}, but the head has feature_strides={strides}. Fix: set {head}.feature_strides='
                f'{found_strides}, or to None to have it measured.'
            )

    def _check_sizes(self, features: Sequence[Tensor], head: str) -> None:
        """Compare with the finest feature, since the input size is not known here."""
        finest = tuple(features[0].shape[-2:])
        for level, (feature, stride) in enumerate(zip(features, self.strides, strict=True)):
            sides = tuple(feature.shape[-2:])
            # Each side may be rounded by less than one of its pixels, and by one more without padding.
            slack = 2 * (stride + self.strides[0])
            if any(abs(a * stride - b * self.strides[0]) > slack for a, b in zip(sides, finest, strict=True)):
                about = [max(1, round(finest[0] / f.shape[-2])) * self.strides[0] for f in features]
                raise ValueError(
                    f'feature {level} of the backbone is {sides} where the finest is {finest}; the features have '
                    f'strides of about {about}, but the head has feature_strides={self.strides}. Fix: set '
                    f'{head}.feature_strides to the strides of the backbone.'
                )


def _to_channels_first(feature: Tensor, channels: int, channels_last: bool | None) -> Tensor:
    if channels_last is None:
        return channels_first(feature, channels)
    return feature.permute(0, 3, 1, 2) if channels_last else feature


def _agree(given: Sequence[Real], found: Sequence[Real]) -> bool:
    """Whether strides equal the measured ones, within the rounding of a small image."""
    return len(given) == len(found) and all(2 / 3 < a / b < 3 / 2 for a, b in zip(given, found, strict=True))


def _channels_message(
    source: str, found: Sequence[int], given: Sequence[int], head: str, strides: Sequence[Real] | None = None
) -> str:
    of_strides = '' if strides is None else f' of strides {list(strides)}'
    return (
        f'{source} returns {len(found)} features{of_strides} with channels {list(found)}, but the head has '
        f'in_channels={list(given)}. Fix: set {head}.in_channels={list(found)}, or in_channels and feature_strides to '
        "None to measure them, or choose other features with the backbone's out_indices."
    )
