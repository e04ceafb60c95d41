"""Makes mmengine, mmcv-lite and the hosts work together on current torch releases.

Imported first by `mmmaskformer.registry`. It makes eight changes, each only where it is needed:

1. mmcv-lite has the Python part of ``mmcv.ops`` but not the compiled module ``mmcv._ext``, so importing the models of
   MMDetection or MMSegmentation fails. If it is absent, a replacement is installed, in which every op raises an error
   when it is called. MaskFormer needs none of them.
2. A checkpoint may contain code. mmengine is changed to read files with ``weights_only=True`` under every torch. That
   mode rejects what mmengine 0.10 stores besides the weights, so these few types are registered as safe.
3. mmengine inherits configs of other packages, ``_base_ = 'mmdet::…'``, from a fixed list. This package is added to it.
4. mmengine creates its own deprecated file client for each checkpoint, does not use it, and warns about it. It is
   replaced by its successor.
5. MMDetection's inferencer refuses panoptic results without panopticapi, of which it needs two names; these are
   provided. If a checkpoint does not store its classes, the inferencer assumes those of COCO; it now uses the config's.
6. mmengine's inferencer looks up functions in a registry that the hosts do not have, and warns each time. Each
   host gets one.
7. mmengine's launchers of several processes need GPUs. On a machine without one they use the CPU; see `without_gpu`.
8. mmengine does not check the settings of a run. They are checked before anything is built; see `run_settings`.
"""

# so that an interpreter that is too old can import this file for the doctor, which reports it
from __future__ import annotations

import importlib.util
import inspect
import pickle
import sys
import types
from importlib.machinery import ModuleSpec

from mmmaskformer.requirements import requirements

# the first torch whose `torch.load` refuses unknown types by default
FIRST_CHECKING_TORCH = (2, 6)


class _MissingOps(types.ModuleType):
    """Stand-in for ``mmcv._ext``: any attribute is a function that raises an error with an explanation."""

    def __getattr__(self, name: str):
        if name.startswith('__'):
            raise AttributeError(name)

        def missing_op(*args, **kwargs):
            needs = requirements()
            raise RuntimeError(
                f"mmcv op '{name}' was called, but the installed mmcv-lite has no compiled ops. MaskFormer itself "
                'needs none, but another part of this model does. Install full mmcv instead: '
                f"pip uninstall -y mmcv-lite && pip install '{needs['openmim']}' && mim install '{needs['mmcv']}'"
            )

        missing_op.__name__ = name
        return missing_op


def require_mmcv() -> None:
    """Check that mmcv or mmcv-lite is installed.

    Raises:
        ImportError: if neither is installed, with the command that installs one.
    """
    if not _is_installed('mmcv'):
        raise ImportError(
            'mmmaskformer needs mmcv and found none. Expected: mmcv-lite 2.1 (no compiler needed) or full mmcv '
            f"2.0 to 2.1. Fix: pip install '{requirements()['mmcv-lite']}'"
        )


def _is_installed(package: str) -> bool:
    """Whether a top-level package can be found; an empty folder left by an uninstall (origin None) does not count."""
    try:
        spec = importlib.util.find_spec(package)
    except ImportError:
        return False
    return spec is not None and spec.origin is not None


def require_versions(python: tuple[int, ...], torch_version: str) -> None:
    """Check the interpreter and torch.

    Args:
        python: version of the interpreter, such as ``sys.version_info``.
        torch_version: such as ``torch.__version__``, '2.4.1+cu121'.

    Raises:
        ImportError: if either is too old; names the versions found and needed.
    """
    oldest_python, oldest_torch = requirements()['python'].oldest, requirements()['torch'].oldest
    if tuple(python[:2]) < _release(oldest_python):
        found = '.'.join(map(str, python[:3]))
        raise ImportError(
            f'mmmaskformer needs Python {oldest_python} or newer and found {found}. '
            'Fix: create an environment with a newer Python, such as `python3.11 -m venv env`.'
        )
    if _release(torch_version) < _release(oldest_torch):
        raise ImportError(
            f'mmmaskformer needs torch {oldest_torch} or newer and found {torch_version}. '
            f"Fix: pip install -U '{requirements()['torch']}' torchvision"
        )


def _release(version: str) -> tuple[int, int]:
    """Major and minor of a version such as '2.4.1+cu121'."""
    major, minor = version.split('+')[0].split('.')[:2]
    return int(major), int(minor)


def install_op_stand_in() -> bool:
    """Install the stand-in for ``mmcv._ext`` if that module does not exist.

    Its spec has no loader, so `mmengine.utils.mmcv_full_available` still returns False. (The onedl fork checks only the
    spec and returns True; it then only imports classes from ``mmcv.ops``, which works.)

    Returns:
        True if the stand-in is installed, False if the real module exists.
    """
    name = 'mmcv._ext'
    if name in sys.modules:
        return isinstance(sys.modules[name], _MissingOps)
    if importlib.util.find_spec(name) is not None:
        return False
    module = _MissingOps(name)
    module.__spec__ = ModuleSpec(name, loader=None)
    sys.modules[name] = module
    return True


def allow_mmengine_checkpoints() -> None:
    """Register the types in checkpoints of mmengine 0.10 as safe for ``torch.load(weights_only=True)``.

    Besides tensors and plain Python values its Runner stores a ``HistoryBuffer`` for each logged value, numpy scalars
    (remaining time, best score) and numpy arrays (the buffers, a dataset's palette). Files written with numpy 1 and 2
    are both accepted, regardless of the installed version. mmengine is changed to pass ``weights_only=True``; for older
    releases of torch, whose check supports too few types, see `mmmaskformer.safe_loading`.
    """
    import torch

    from mmmaskformer import safe_loading

    safe_loading.install()
    if _release(torch.__version__) >= FIRST_CHECKING_TORCH:
        torch.serialization.add_safe_globals([(value, name) for name, value in checkpoint_globals().items()])


def checkpoint_globals() -> dict:
    """The objects in checkpoints of mmengine 0.10 besides tensors and plain values, by their names in the file."""
    from mmengine.logging.history_buffer import HistoryBuffer

    from mmmaskformer.formats.plain_arrays import stand_ins

    own = {f'{HistoryBuffer.__module__}.{HistoryBuffer.__qualname__}': HistoryBuffer}
    arrays = {name: item for name, item in stand_ins().items() if not name.endswith('._frombuffer')}
    return own | arrays | {'builtins.getattr': history_buffer_method}


def history_buffer_method(owner: type, name: str):
    """Replacement for ``getattr`` while a checkpoint is read, restricted to methods of mmengine's ``HistoryBuffer``.

    A buffer stores its own statistics methods (min, max, current, mean), which pickle writes as
    ``getattr(HistoryBuffer, 'min')``. The real ``getattr`` as a safe global would give access to everything.

    Args:
        owner: the class in the file.
        name: name of the attribute.

    Returns:
        The method, a plain function.

    Raises:
        pickle.UnpicklingError: for any other owner, and for names that are private or not methods.
    """
    from mmengine.logging.history_buffer import HistoryBuffer

    method = vars(HistoryBuffer).get(name) if owner is HistoryBuffer else None
    if name.startswith('_') or not inspect.isfunction(method):
        raise pickle.UnpicklingError(
            f"the checkpoint refers to attribute '{name}' of {owner!r}; expected only the statistics methods of "
            "mmengine's HistoryBuffer. If, and only if, you trust the file, read it and save it again without this "
            'object: torch.load(path, weights_only=False)'
        )
    return method


def serve_panoptic_inferencer() -> bool:
    """Provide the two names that MMDetection's inferencer takes from panopticapi, if that is not installed.

    Without them `DetInferencer` refuses to return panoptic results. Only its module is changed; other parts of the host
    that need panopticapi still report that it is missing.

    Returns:
        True if the names were added, False if they exist or the inferencer is not imported.
    """
    module = sys.modules.get('mmdet.apis.det_inferencer')
    if module is None or getattr(module, 'VOID', None) is not None:
        return False
    module.VOID, module.id2rgb = 0, colours_of_ids
    return True


def name_classes_in_inferencer() -> None:
    """Make MMDetection's `DetInferencer` use the classes of the config if the checkpoint does not store them.

    It would assume those of COCO for every model; the palette then has too few colours, and pixels of panoptic results
    without a segment, whose code is the number of classes, look like a class.
    """
    module = sys.modules.get('mmdet.apis.det_inferencer')
    if module is None or getattr(module.DetInferencer._load_weights_to_model, 'names_classes', False):
        return
    load_weights = module.DetInferencer._load_weights_to_model

    def load_and_name_classes(self, model, checkpoint, cfg) -> None:
        load_weights(self, model, checkpoint, cfg)
        head = getattr(model, 'panoptic_head', None)
        number = getattr(head, 'num_classes', None) if hasattr(head, 'is_thing') else None
        if number in (None, len(model.dataset_meta.get('classes', ()))):
            return
        names = module.DATASETS.build(dict(cfg.test_dataloader.dataset, lazy_init=True)).metainfo.get('classes', ())
        if len(names) != number:
            names = [f'class {label}' for label in range(number)]
        model.dataset_meta = dict(model.dataset_meta, classes=tuple(names))

    load_and_name_classes.names_classes = True
    module.DetInferencer._load_weights_to_model = load_and_name_classes


def colours_of_ids(ids):
    """Replacement for ``panopticapi.utils.id2rgb`` for a map of segment ids.

    Args:
        ids: (H, W) numpy array of int, ids in [0, 2**24).

    Returns:
        (H, W, 3) uint8 with id = R + 256 G + 65536 B.
    """
    import numpy as np

    return np.stack([ids >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


def complete_function_registries() -> None:
    """Add a registry of functions to each imported host, as a child of mmengine's.

    The hosts have none, so mmengine's inferencer, which looks up a ``collate_fn`` there, warns of an unexpected failure
    each time.
    """
    from mmengine.registry import FUNCTIONS, Registry

    for host in ('mmseg', 'mmdet'):
        if host in sys.modules and host not in FUNCTIONS.children:
            Registry(FUNCTIONS.name, parent=FUNCTIONS, scope=host, locations=[host])


def announce_configs() -> None:
    """Make the configs of this package available to ``_base_ = 'mmmaskformer::…'`` and `mmengine.hub.get_config`.

    mmengine has no other way to add a package to those of OpenMMLab.
    """
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE.setdefault('mmmaskformer', 'mmmaskformer')


def replace_deprecated_file_client() -> None:
    """Make mmengine's `FileClient.infer_client` return its successor, a file backend, when called without arguments.

    mmengine 0.10 itself calls it in this way at the start of a training run and for each checkpoint, ignores the
    result, and logs two deprecation warnings each time. A backend has the methods of a client. Calls with arguments are
    not changed, nor is a release that no longer has the class.
    """
    from mmengine import fileio

    client = getattr(fileio, 'FileClient', None)
    if client is None or getattr(client.infer_client, 'gives_backend', False):
        return
    infer_client = client.infer_client

    def infer_client_or_backend(file_client_args: dict | None = None, uri=None):
        return fileio.get_file_backend(uri) if file_client_args is None else infer_client(file_client_args, uri)

    infer_client_or_backend.gives_backend = True
    client.infer_client = staticmethod(infer_client_or_backend)


def _launch_without_gpu() -> None:
    from mmmaskformer import without_gpu  # imports torch and mmengine

    without_gpu.install()


def _check_settings_of_runs() -> None:
    from mmmaskformer import run_settings  # imports torch and mmengine

    run_settings.install()


def apply() -> None:
    """Run the checks and all changes except those of the inferencers, which are made when a model is built."""
    import torch

    require_versions(sys.version_info, torch.__version__)
    require_mmcv()
    install_op_stand_in()
    allow_mmengine_checkpoints()
    announce_configs()
    replace_deprecated_file_client()
    _launch_without_gpu()
    _check_settings_of_runs()
