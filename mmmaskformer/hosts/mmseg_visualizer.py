"""MMSegmentation's visualizer; a location for `VISUALIZERS` where MMSegmentation is installed."""

import numpy as np

from mmmaskformer.core.checks import FRACTION, PATH, TEXT, checked
from mmmaskformer.hosts.file_backend import write_host_files_whole
from mmmaskformer.hosts.picture_files import PictureFiles
from mmmaskformer.hosts.vis_backends import writable_backends
from mmmaskformer.registry import VISUALIZERS

# After our registry, which makes mmseg importable with mmcv-lite.
from mmseg.visualization import SegLocalVisualizer as HostVisualizer  # isort: skip


@VISUALIZERS.register_module()
@checked(name=TEXT, save_dir=PATH.or_none(), alpha=FRACTION)
class SegLocalVisualizer(HostVisualizer):
    """MMSegmentation's visualizer for images of any memory layout, and of one name in several folders.

    The host draws on an array laid out as the image is, which OpenCV refuses unless rows follow one another; its
    browse_dataset.py passes views of channels-first images. Its names of pictures lack the folders of the images; see
    `mmmaskformer.hosts.picture_files.PictureFiles`.

    Args:
        name: of the visualizer.
        image: of the host.
        vis_backends: where pictures and scalars go; local files only with ``save_dir``.
        save_dir: folder of local files.
        settings: all other arguments of the host's class.
    """

    def __init__(self, name: str = 'visualizer', image=None, vis_backends=None, save_dir=None, **settings) -> None:
        write_host_files_whole()  # the pictures that the host's inferencers write, without a runner
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
            name: of the picture.
            image: (H, W, 3) uint8, RGB.
            data_sample: a `SegDataSample`.
            args: of the host.
            out_file: to write; None hands the picture to the backends.
            step: under which the backends record it.
            kwargs: of the host.

        Raises:
            ValueError: if ``out_file`` is the image itself.
        """
        name, out_file = self._files.distinct(name, out_file, step, data_sample)
        settings = dict(kwargs, out_file=out_file, step=step)
        super().add_datasample(name, np.ascontiguousarray(image), data_sample, *args, **settings)
