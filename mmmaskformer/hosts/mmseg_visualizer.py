"""MMSegmentation's visualizer; a registry location for `VISUALIZERS` if MMSegmentation is installed."""

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
    """MMSegmentation's visualizer for images of any memory layout, and for equal names in several folders.

    The host draws on an array with the memory layout of the image, which OpenCV refuses unless it is contiguous; its
    browse_dataset.py passes views of channels-first images. The host's names of pictures lack the folders of the
    images; see `mmmaskformer.hosts.picture_files.PictureFiles`.

    Args:
        name: name of the visualizer.
        image: as in the host's class.
        vis_backends: destinations of pictures and scalars; local files need ``save_dir``.
        save_dir: folder of local files.
        settings: all other arguments of the host's class.
    """

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
            data_sample: a `SegDataSample`.
            args: arguments of the host's method.
            out_file: file to write; None passes the picture to the backends.
            step: step under which the backends record it.
            kwargs: arguments of the host's method.

        Raises:
            ValueError: if ``out_file`` is the image itself.
        """
        name, out_file = self._files.distinct(name, out_file, step, data_sample)
        settings = dict(kwargs, out_file=out_file, step=step)
        super().add_datasample(name, np.ascontiguousarray(image), data_sample, *args, **settings)
