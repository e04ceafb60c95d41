"""MMSegmentation's drawing hook; a registry location for `HOOKS` if MMSegmentation is installed."""

import warnings

from mmmaskformer.core.checks import BOOLEAN, MAPPING, checked, number, whole
from mmmaskformer.registry import HOOKS

# After our registry, which makes mmseg importable with mmcv-lite.
from mmseg.engine.hooks import SegVisualizationHook as HostHook  # isort: skip


@HOOKS.register_module()
@checked(
    draw=BOOLEAN,
    interval=whole(1),
    show=BOOLEAN,
    wait_time=number(0),
    backend_args=MAPPING.or_none(),
)
class SegVisualizationHook(HostHook):
    """MMSegmentation's hook without its warning when drawing is off.

    The host's scripts need the hook in every config, for ``--show-dir``; without that option the host's hook warns in
    every run that it draws nothing.

    Args:
        draw: whether to draw during validation and test.
        settings: all other arguments of the host's hook.
    """

    def __init__(self, draw: bool = False, **settings) -> None:
        with warnings.catch_warnings():
            if not draw:
                warnings.filterwarnings('ignore', message='The draw is False')
            super().__init__(draw=draw, **settings)
