"""Error handling of our datasets for image files that cannot be read."""

from typing import Any

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
            ValueError: if the file cannot be decoded.
        """
        try:
            return super().prepare_data(idx)
        except Exception as error:
            if not is_decoding_error(error):
                raise
            path = self.get_data_info(idx)['img_path']
            raise ValueError(describe_unreadable(path, getattr(self, 'backend_args', None))) from error
