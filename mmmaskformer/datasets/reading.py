"""Error handling of our datasets for image files that cannot be read."""

from typing import Any

from mmengine import fileio

from mmmaskformer.formats.png_chunks import find_damage, is_png
from mmmaskformer.formats.unreadable import describe_unreadable, is_decoding_error


class NamesUnreadableImages:
    """Mixin for datasets: an image that cannot be decoded raises an error with its path and the reason.

    For an empty file, the hosts' loader fails with an error of OpenCV without path or reason.
    """

    def prepare_data(self, idx: int) -> Any:
        """Load an image and apply the pipeline.

        Args:
            idx: of the image.

        Raises:
            ValueError: if the file cannot be decoded, or is a PNG with a wrong checksum.
        """
        self._require_whole_png(idx)
        try:
            return super().prepare_data(idx)
        except Exception as error:
            if not is_decoding_error(error):
                raise
            path = self.get_data_info(idx)['img_path']
            raise ValueError(describe_unreadable(path, getattr(self, 'backend_args', None))) from error

    def _require_whole_png(self, idx: int) -> None:
        """Check the checksums of a PNG that Pillow will decode; OpenCV refuses it, Pillow gives some other pixels."""
        transforms = getattr(getattr(self, 'pipeline', None), 'transforms', [])
        if not any(getattr(transform, 'imdecode_backend', None) == 'pillow' for transform in transforms):
            return
        path, backend_args = self.get_data_info(idx)['img_path'], getattr(self, 'backend_args', None)
        content = fileio.get(path, backend_args=backend_args)
        if is_png(content) and find_damage(content) is not None:
            raise ValueError(describe_unreadable(path, backend_args))
