"""MMDetection's visualizer for our results; a registry location for `VISUALIZERS` if MMDetection is installed."""

import logging

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.structures import PixelData

from mmmaskformer.core.checks import FRACTION, PATH, POSITIVE, TEXT, checked
from mmmaskformer.formats.mmdet_codes import (
    MOST_CLASSES,
    encode_index_map,
    has_segments,
    with_present_classes,
    with_void_restored,
)
from mmmaskformer.hosts.file_backend import write_host_files_whole
from mmmaskformer.hosts.picture_files import PictureFiles
from mmmaskformer.hosts.vis_backends import writable_backends
from mmmaskformer.registry import VISUALIZERS

# After our registry, which makes mmdet importable with mmcv-lite.
from mmdet.visualization import DetLocalVisualizer as HostVisualizer  # isort: skip
from mmdet.visualization.palette import get_palette  # isort: skip


@VISUALIZERS.register_module()
@checked(name=TEXT, save_dir=PATH.or_none(), alpha=FRACTION, line_width=POSITIVE)
class DetLocalVisualizer(HostVisualizer):
    """MMDetection's visualizer, which also draws our ground truth and empty panoptic results.

    The host's class fails on both. A map without segments is drawn as the plain image. If a sample has both a panoptic
    and a semantic result, the host would draw one over the other; this class draws the panoptic one and logs that once.
    Images with the same name get different pictures, see `mmmaskformer.hosts.picture_files.PictureFiles`.

    Args:
        name: name of the visualizer.
        image: as in the host's class.
        vis_backends: destinations of pictures and scalars; local files need ``save_dir``.
        save_dir: folder of local files.
        settings: all other arguments of the host's class.
    """

    _logged_one_of_two = False

    def __init__(self, name: str = 'visualizer', image=None, vis_backends=None, save_dir=None, **settings) -> None:
        write_host_files_whole()  # for the pictures of the host's inferencers, which run without a runner
        super().__init__(name, image, writable_backends(vis_backends, save_dir), save_dir, **settings)
        self._files = PictureFiles()

    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample=None,
        *args,
        out_file: str | None = None,
        step: int = 0,
        **kwargs,
    ) -> None:
        """Draw ground truth and prediction; arguments of the host's method.

        Args:
            name: name of the picture.
            image: (H, W, 3) uint8, RGB.
            data_sample: a `DetDataSample` of our model or of a host's model; it is not modified.
            args: arguments of the host's method.
            out_file: file to write; None passes the picture to the backends.
            step: step under which the backends record it.
            kwargs: arguments of the host's method.

        Raises:
            ValueError: if ``out_file`` is the image itself.
        """
        name, out_file = self._files.distinct(name, out_file, step, data_sample)
        classes = self.dataset_meta.get('classes')
        if classes is not None:
            classes, colours = self._classes_and_colours(classes, self.dataset_meta.get('palette'))
            self.dataset_meta = dict(self.dataset_meta, classes=classes, palette=colours)
        if data_sample is not None and classes is not None:
            data_sample = self._drawable(data_sample.new(), len(classes))
        settings = dict(kwargs, out_file=out_file, step=step)
        super().add_datasample(name, np.ascontiguousarray(image), data_sample, *args, **settings)

    def _classes_and_colours(self, classes, palette) -> tuple[tuple[str, ...], list[tuple[int, ...]]]:
        """Class names and as many colours, as tuples, which the host requires."""
        if palette is None or isinstance(palette, str) or not len(palette):
            palette = get_palette(palette or None, len(classes))
        if len(palette) < len(classes):
            # The palette is from the config; without names in the checkpoint, MMDetection assumes those of COCO.
            print_log(
                f'DetLocalVisualizer: found {len(classes)} class names, {classes[0]!r} to {classes[-1]!r}, but '
                f'{len(palette)} colours; classes are drawn as numbers. Fix: set model.dataset_meta, or use a '
                'checkpoint that stores its classes.',
                'current',
                logging.WARNING,
            )
            classes = [f'class {label}' for label in range(len(palette))]
        return tuple(classes), [tuple(colour) for colour in palette]

    def _draw_panoptic_seg(self, image, panoptic_seg, classes, palette) -> np.ndarray:
        """Draw a panoptic map; the host reads labels modulo 1000, so of more classes it gets those that occur."""
        if len(classes) > MOST_CLASSES:
            codes, present = with_present_classes(np.asarray(panoptic_seg.sem_seg), len(classes))
            panoptic_seg = PixelData(sem_seg=codes)
            classes, palette = ([values[label] for label in present] for values in (classes, palette))
        return super()._draw_panoptic_seg(image, panoptic_seg, classes, palette)

    def _drawable(self, sample, num_classes: int):
        """Convert a sample in place to the form that the host can draw."""
        if 'pred_panoptic_seg' in sample and 'pred_sem_seg' in sample:
            del sample.pred_sem_seg
            self._log_one_of_two()
        for key in ('gt_panoptic_seg', 'pred_panoptic_seg'):
            if key not in sample:
                continue
            codes = panoptic_map(sample.get(key), num_classes)
            if has_segments(codes, num_classes):
                data = codes if key.startswith('gt_') else torch.from_numpy(codes)
                setattr(sample, key, PixelData(sem_seg=data))
            else:
                delattr(sample, key)
        return sample

    def _log_one_of_two(self) -> None:
        if not self._logged_one_of_two:
            self._logged_one_of_two = True
            print_log(
                'DetLocalVisualizer draws pred_panoptic_seg, not pred_sem_seg, of samples that have both. To draw the '
                'other: --cfg-options model.test_cfg.panoptic=None, or mmmaskformer draw --field pred_sem_seg.',
                'current',
            )


def panoptic_map(panoptic: PixelData, num_classes: int) -> np.ndarray:
    """Convert a panoptic map to MMDetection's encoding.

    Args:
        panoptic: our ground truth (``segment_map`` (1, H, W), -1 for none, and ``labels``), or ``sem_seg`` (1, H, W).
        num_classes: K.

    Returns:
        (1, H, W) integer numpy array, label + offset * instance, K for void; see `instance_offset`.
    """
    if 'segment_map' in panoptic:
        return encode_index_map(np.asarray(panoptic.segment_map), panoptic.labels, num_classes)
    listed = [segment['id'] for segment in panoptic.segments] if 'segments' in panoptic else None
    return with_void_restored(np.asarray(torch.as_tensor(panoptic.sem_seg).cpu()), listed, num_classes)
