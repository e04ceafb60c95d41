"""What our data sets do where an image file cannot be read."""

from typing import Any

from mmmaskformer.formats.unreadable import describe_unreadable, is_decoding_error


class NamesUnreadableImages:
    """A data set whose error for an image that cannot be decoded names the file and the reason.

    The hosts' loader fails with an error of OpenCV that names neither for an empty file.
    """

    def prepare_data(self, idx: int) -> Any:
        """An image after the pipeline.

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
