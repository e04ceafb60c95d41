"""Where a visualizer writes to, for the visualizers of both hosts."""

from collections.abc import Sequence


def writable_backends(vis_backends: Sequence | dict | None, save_dir: str | None) -> list | None:
    """Leave out local files where no folder is given for them, as when an inferencer builds the visualizer.

    mmengine leaves them out as well, but warns of it, and the inferencers write their pictures by themselves.

    Args:
        vis_backends: as in the config: dicts or built backends, or one of them.
        save_dir: the folder, None if there is none.

    Returns:
        The backends as a list, or None if ``vis_backends`` is.
    """
    if vis_backends is None:
        return None
    backends = list(vis_backends) if isinstance(vis_backends, (list, tuple)) else [vis_backends]
    return [backend for backend in backends if save_dir is not None or not _needs_folder(backend)]


def _needs_folder(backend) -> bool:
    """Whether a backend is described as local files in a folder that the visualizer has to give."""
    is_local = isinstance(backend, dict) and str(backend.get('type')).rpartition('.')[2] == 'LocalVisBackend'
    return is_local and backend.get('save_dir') is None
