"""MMSegmentation's segmentor with the published behaviour and bounded memory."""

from collections.abc import Sequence

import torch
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder as HostEncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor

from mmmaskformer.core.checks import checked
from mmmaskformer.core.inference.labels.search import label_map
from mmmaskformer.core.inference.labels.views import ScoreView, class_scores, score_view, window_view
from mmmaskformer.core.inference.query_masks import DeferredMaskLogits, QueryMasks
from mmmaskformer.heads.settings import check_segmentor_test_cfg
from mmmaskformer.hosts.windows import require_windows, window_shares, windows_of


class LabelSample(SegDataSample):
    """A data sample with labels, whose class scores are computed only when they are read.

    MMSegmentation's `SegTTAModel` reads them for every view of an image. The data for that is stored only in samples of
    views, recognised by their entry ``flip``, so an inferencer that collects many samples does not fill the memory.
    """

    @classmethod
    def claim(cls, sample: SegDataSample, views: Sequence[ScoreView]) -> None:
        """Convert a sample of the host's class to this class; the sample of a view stores ``views``."""
        if type(sample) not in (SegDataSample, cls):
            return
        if hasattr(sample, '_seg_logits'):
            del sample.seg_logits  # from an earlier prediction
        # The host's own method would store data fields.
        object.__setattr__(sample, '__class__', cls)
        object.__setattr__(sample, '_views', views if 'flip' in sample.metainfo_keys() else None)

    @SegDataSample.seg_logits.getter
    def seg_logits(self) -> PixelData:
        """Class scores (K, height, width) float at the size of the image file.

        Raises:
            AttributeError: if the sample is not one of a view.
        """
        if not hasattr(self, '_seg_logits'):
            if getattr(self, '_views', None) is None:
                raise AttributeError(
                    f"{self.get('img_path')}: the data sample has no 'seg_logits', since mmmaskformer.EncoderDecoder "
                    "computes labels without class scores. Fix: set model.type='EncoderDecoder'; for test-time "
                    "augmentation, set tta_model=dict(type='mmmaskformer.SemanticTTAModel') or add a RandomFlip to "
                    'tta_pipeline.'
                )
            self.seg_logits = PixelData(data=class_scores(self._views))
        return self._seg_logits


@checked()
class EncoderDecoder(HostEncoderDecoder):
    """MMSegmentation's segmentor that computes label maps without storing the class scores.

    The host resizes scores (K, H, W) to the size of the image file and takes their arg-max. This class finds the same
    labels with bounded memory, but the samples get no ``seg_logits``, see `LabelSample`. It uses the host's method with
    ``test_cfg.inference='general'``, with inputs padded at the top or left, and with heads of other projects.

    Args:
        decode_head: a `MaskFormerHead` or `PerPixelHead`; with any other head this class behaves like the host's.
        settings: all other arguments of the host's class.

    Raises:
        TypeError: if ``test_cfg`` has an unknown key.
        ValueError: if a value of ``test_cfg`` is wrong, or ``train_cfg`` is not empty.
    """

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        own_head = hasattr(self.decode_head, 'predict_masks')
        check_segmentor_test_cfg(self.test_cfg, own_head=own_head)
        require_windows(self.test_cfg or {})
        if own_head and self.train_cfg:
            raise ValueError(
                f'model.train_cfg: found {sorted(self.train_cfg)}, expected no keys: matcher and criterion belong to '
                'model.decode_head. Fix: remove train_cfg'
            )

    @property
    def labels_only(self) -> bool:
        """Whether predictions are label maps without scores."""
        factorised = hasattr(self.decode_head, 'predict_masks')
        return factorised and (self.test_cfg or {}).get('inference', 'semantic') == 'semantic'

    def predict(self, inputs: Tensor, data_samples: Sequence | None = None) -> Sequence:
        """Predict label maps of a batch, without gradients.

        Args:
            inputs: (B, 3, H, W) float, padded at the right and bottom.
            data_samples: B samples with ``ori_shape`` and padding; without them the host's method is used.

        Returns:
            The samples, with ``pred_sem_seg`` (1, height, width) int32 at the size of the image file.
        """
        if data_samples is None or not self.labels_only or any(map(_starts_padded, data_samples)):
            return super().predict(inputs, data_samples)
        for sample, views in zip(data_samples, self.score_views(inputs, data_samples), strict=True):
            sample.pred_sem_seg = PixelData(data=label_map(views)[None])
            LabelSample.claim(sample, views)
        return data_samples

    @torch.no_grad()
    def score_views(self, inputs: Tensor, data_samples: Sequence) -> list[list[ScoreView]]:
        """The summands of the class scores of each image, without gradients: one, or in mode 'slide' one per window.

        Args:
            inputs: (B, 3, H, W) float.
            data_samples: B samples.

        Returns:
            One list per image, at the size of the image file and with flips undone.

        Raises:
            ValueError: if sliding windows do not cover the image.
        """
        # The host's benchmark.py pads as in training, where the host stores the size of the labels in `pad_shape`.
        padded = tuple(inputs.shape[2:])
        metas = [dict(sample.metainfo, pad_shape=padded) for sample in data_samples]
        check_segmentor_test_cfg(self.test_cfg)
        find = self._window_views if self.test_cfg.get('mode', 'whole') == 'slide' else self._whole_views
        found = zip(find(inputs, metas), metas, strict=True)
        return [[_mirrored_back(view, meta) for view in views] for views, meta in found]

    @torch.no_grad()
    def query_masks(self, inputs: Tensor, data_samples: Sequence) -> list[tuple[Tensor | None, QueryMasks]]:
        """Class logits and masks of the queries, for analyses, without gradients.

        Args:
            inputs: (B, 3, H, W) float, padded at the right and bottom.
            data_samples: B samples.

        Returns:
            For each image the class logits (Q, K + 1), None for a per-pixel head, and the masks at the size of the
            file.

        Raises:
            ValueError: if the model uses sliding windows or images are padded at the left or top, since the queries
                then have no mask of the whole image.
        """
        if (self.test_cfg or {}).get('mode', 'whole') != 'whole' or any(map(_starts_padded, data_samples)):
            raise ValueError(
                "the masks of queries are available for whole images only. Fix: set model.test_cfg.mode='whole', and "
                'do not pad at the left or top'
            )
        return self._whole_masks(inputs, [dict(sample.metainfo) for sample in data_samples])

    def _whole_views(self, inputs: Tensor, metas: Sequence[dict]) -> list[list[ScoreView]]:
        return [[score_view(class_logits, masks)] for class_logits, masks in self._whole_masks(inputs, metas)]

    def _whole_masks(self, inputs: Tensor, metas: Sequence[dict]) -> list[tuple[Tensor | None, QueryMasks]]:
        class_logits, masks = self._outputs(inputs, metas, sliding=False)
        return [
            (class_logits[i], masks.of_image(i, _image_size(meta, inputs), tuple(meta['ori_shape'][:2])))
            for i, meta in enumerate(metas)
        ]

    def _outputs(
        self, inputs: Tensor, metas: Sequence[dict], *, sliding: bool
    ) -> tuple[Sequence[Tensor | None], DeferredMaskLogits]:
        """Class logits of each image, None for a per-pixel head, and the masks of the batch."""
        class_logits, masks = self.decode_head.predict_masks(self.extract_feat(inputs), metas, sliding=sliding)
        return [None] * len(masks) if class_logits is None else class_logits, masks

    def _window_views(self, inputs: Tensor, metas: Sequence[dict]) -> list[list[ScoreView]]:
        require_windows(self.test_cfg)
        sides = zip(inputs.shape[2:], self.test_cfg['crop_size'], self.test_cfg['stride'], strict=True)
        windows = [windows_of(*side) for side in sides]
        weights = tuple(window_shares(axis, length) for axis, length in zip(windows, inputs.shape[2:], strict=True))
        views = [[] for _ in metas]
        for rows in windows[0]:
            for columns in windows[1]:
                crop = inputs[:, :, rows, columns]
                window = [dict(img_shape=tuple(crop.shape[2:]), img_path=meta.get('img_path')) for meta in metas]
                class_logits, masks = self._outputs(crop, window, sliding=True)
                for i, (meta, found) in enumerate(zip(metas, views, strict=True)):
                    found.append(
                        window_view(
                            class_logits[i],
                            masks.coarse_logits(i),
                            padded_size=masks.input_size,
                            rows=rows,
                            columns=columns,
                            weights=weights,
                            image_size=_image_size(meta, inputs),
                            out_size=tuple(meta['ori_shape'][:2]),
                        )
                    )
        return views


def _padding(meta: dict) -> Sequence[int]:
    """Padding at the left, right, top and bottom, from the same entries that the host reads."""
    return meta.get('img_padding_size', meta.get('padding_size', [0] * 4))


def _starts_padded(sample) -> bool:
    """Whether an image is padded at the left or top."""
    left, _, top, _ = _padding(sample.metainfo)
    return bool(left or top)


def _image_size(meta: dict, inputs: Tensor) -> tuple[int, int]:
    """Height and width of an image within the padded input."""
    _, right, _, bottom = _padding(meta)
    return inputs.shape[2] - bottom, inputs.shape[3] - right


def _mirrored_back(view: ScoreView, meta: dict) -> ScoreView:
    if not meta.get('flip'):
        return view
    axis = {'horizontal': 'columns', 'vertical': 'rows'}[meta['flip_direction']]
    return view._replace(**{axis: getattr(view, axis).mirrored()})
