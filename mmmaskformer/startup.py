"""Run at every start of Python in an environment with this package: waits for the first import of ``mmcv.ops``.

MMDetection's test script imports mmcv's compiled ops before it reads the config that would import
`mmmaskformer.registry`. With mmcv-lite, `mim test mmdet` would end there. So the stand-in of `mmmaskformer.compat` is
put in place when ``mmcv.ops`` is imported, whoever does it; where mmcv has its ops nothing happens. The file
``mmmaskformer-startup.pth`` in site-packages imports this module. It must stay small: every Python program pays for it.
"""

import sys


class OpsWatch:
    """A finder that finds nothing, but sees ``mmcv.ops`` being looked for."""

    @classmethod
    def find_spec(cls, name: str, path=None, target=None) -> None:
        """Put the stand-in in place before ``mmcv.ops`` needs it."""
        if name == 'mmcv.ops':
            sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not cls]
            from mmmaskformer.compat import install_op_stand_in  # only now: it takes longer than the rest

            install_op_stand_in()


if OpsWatch not in sys.meta_path:
    sys.meta_path.insert(0, OpsWatch)
