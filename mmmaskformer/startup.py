"""Run at every start of Python in an environment with this package: waits for the first import of ``mmcv.ops``.

Two things of `mmmaskformer.compat` are needed before a config imports `mmmaskformer.registry`: MMDetection's test
script imports mmcv's compiled ops, which mmcv-lite lacks, before it reads the config; and its ``DetInferencer``, given
only a checkpoint, reads that first, which torch 2.6 and newer refuse. Both hosts import ``mmcv.ops`` before either, so
both repairs are made then; where nothing is missing they change nothing. The file ``mmmaskformer-startup.pth`` in
site-packages imports this module. It must stay small: every Python program pays for it.
"""

import sys


class OpsWatch:
    """A finder that finds nothing, but sees ``mmcv.ops`` being looked for."""

    @classmethod
    def find_spec(cls, name: str, path=None, target=None) -> None:
        """Make the repairs before ``mmcv.ops`` needs the first of them."""
        if name == 'mmcv.ops':
            sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not cls]
            from mmmaskformer import compat  # only now: it takes longer than the rest

            compat.install_op_stand_in()
            compat.allow_mmengine_checkpoints()


if OpsWatch not in sys.meta_path:
    sys.meta_path.insert(0, OpsWatch)
