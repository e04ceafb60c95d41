"""Local-file backend for the visualizers of both hosts; a registry location for `VISBACKENDS`."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.visualization import LocalVisBackend
from mmengine.visualization.vis_backend import force_init_env
from PIL import Image

from mmmaskformer.core.checks import PATH, TEXT, checked
from mmmaskformer.formats.whole_files import explaining, require_writable, write_whole
from mmmaskformer.registry import VISBACKENDS

LOCAL = ('LocalVisBackend', 'WholeVisBackend')
"""Types of backends that write files to a folder, without their registry."""


@VISBACKENDS.register_module()
@checked(save_dir=PATH.or_none(), img_save_dir=TEXT, config_save_file=TEXT, scalar_save_file=TEXT)
class WholeVisBackend(LocalVisBackend):
    """mmengine's local-file backend with atomic writes of pictures and the config.

    mmengine's own class leaves a truncated picture if it is killed, and ignores a full disk. Scalars are appended to a
    log as lines, as in mmengine.

    Args:
        save_dir: folder of the files.
        settings: all other arguments of mmengine's class.

    Raises:
        OSError: if ``save_dir`` cannot be a folder, or a file cannot be written.
    """

    def __init__(self, save_dir: str, **settings) -> None:
        if save_dir is not None:
            require_writable(save_dir, 'visualizer.save_dir', folder=True)
        super().__init__(save_dir, **settings)

    @force_init_env
    def add_config(self, config: Config, **kwargs) -> None:
        """Write the config."""
        write_whole(self._config_save_file, config.pretty_text)

    @force_init_env
    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs) -> None:
        """Write a picture.

        Args:
            name: name of the picture; may contain folders.
            image: (H, W, 3) uint8, RGB.
            step: number that becomes part of the file name.
            kwargs: unused.
        """
        file, content = Path(self._img_save_dir) / f'{name}_{step}.png', io.BytesIO()
        Image.fromarray(np.ascontiguousarray(image)).save(content, format='PNG', compress_level=1)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, content.getvalue())

    def _dump(self, value_dict: dict, file_path: str, file_format: str) -> None:
        """Append a line of scalars to a log."""
        with explaining(file_path):
            super()._dump(value_dict, file_path, file_format)


def writable_backends(vis_backends: Sequence | dict | None, save_dir: str | None) -> list | None:
    """Drop local-file backends without a folder, as when an inferencer builds the visualizer.

    mmengine drops them as well, but with a warning, although inferencers write their pictures themselves.

    Args:
        vis_backends: as in the config: dicts or built backends, or one of them.
        save_dir: the folder, or None.

    Returns:
        The backends as a list, or None if ``vis_backends`` is.
    """
    if vis_backends is None:
        return None
    backends = list(vis_backends) if isinstance(vis_backends, (list, tuple)) else [vis_backends]
    return [_whole(backend) for backend in backends if save_dir is not None or not _needs_folder(backend)]


def _whole(backend):
    """Replace mmengine's local-file backend by ours, which takes the same arguments and has the same name."""
    if isinstance(backend, dict) and backend.get('type') in ('LocalVisBackend', 'mmengine.LocalVisBackend'):
        return dict(backend, type='mmmaskformer.WholeVisBackend', name=backend.get('name', 'LocalVisBackend'))
    return backend


def _needs_folder(backend) -> bool:
    """Whether a backend writes local files to a folder that the visualizer must provide."""
    is_local = isinstance(backend, dict) and str(backend.get('type')).rpartition('.')[2] in LOCAL
    return is_local and backend.get('save_dir') is None
