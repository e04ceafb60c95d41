"""Runs at every start of Python in an environment with this package, and reacts to three imports of other packages.

The file ``mmmaskformer-startup.pth`` in site-packages imports this module, unless MMMASKFORMER_STARTUP is 0. It must
be small, since it costs time in every Python program.

- ``mmcv.ops``: MMDetection's test script imports mmcv's compiled ops, which mmcv-lite lacks, before it reads the config
  that imports `mmmaskformer.registry`. Its ``DetInferencer``, given only a checkpoint, reads that first, which torch
  2.6 and newer refuse. Both hosts import ``mmcv.ops`` before either, so `mmmaskformer.compat` makes both changes then,
  if they are needed.
- mmengine: this package is added to its list of packages whose configs can be inherited, as in ``_base_ = 'mmdet::…'``.
- mim: it no longer prints its own traceback after the error of a script that it runs, and its error for a missing
  config suggests one that exists.
"""

import sys


def _repair_ops_and_checkpoints() -> None:
    from mmmaskformer import compat  # imported late, since it is slow

    compat.install_op_stand_in()
    compat.allow_mmengine_checkpoints()


def _announce_configs() -> None:
    # what `mmmaskformer.compat.announce_configs` does, without importing it in every program that uses mmengine
    utils = sys.modules.get('mmengine.config.utils')
    if utils is not None:
        utils.MODULE2PACKAGE.setdefault('mmmaskformer', 'mmmaskformer')


def _keep_the_error_of_the_script_last() -> None:
    from mmmaskformer.launcher import keep_the_error_of_the_script_last, warn_of_a_config_with_the_same_name

    keep_the_error_of_the_script_last()
    warn_of_a_config_with_the_same_name()


class ImportWatch:
    """A finder that finds nothing, but is notified of every import."""

    # module → function to call once, when it is about to be imported
    waiting = {
        'mmcv.ops': _repair_ops_and_checkpoints,
        # the first module that is imported after mmengine's list is defined
        'mmengine.registry.root': _announce_configs,
        'mim.cli': _keep_the_error_of_the_script_last,
    }

    @classmethod
    def find_spec(cls, name: str, path=None, target=None) -> None:
        """Call the function of this module."""
        action = cls.waiting.pop(name, None)
        if action is not None:
            action()


if ImportWatch not in sys.meta_path:
    sys.meta_path.insert(0, ImportWatch)
