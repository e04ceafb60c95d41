"""Write an export module to a file, and run such a file."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from mmmaskformer import __version__
from mmmaskformer.export.modules import OUTPUTS, RawModule
from mmmaskformer.export.windows import PortableWindows
from mmmaskformer.formats.whole_files import write_whole

EXAMPLE_SHAPE = (2, 3, 77, 171)
"""Shape of the example for tracing: no two sizes along the way are equal or 1, so none is treated as fixed."""

FACTS_KEY = 'mmmaskformer'
"""Key of the facts, stored as JSON: in the metadata of an ONNX file, in an extra file of the other formats."""

Runner = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Maps (B, 3, H, W) uint8 RGB to the outputs by name."""


def write_file(
    module: RawModule, task: str, facts: dict, to: str, file: str | Path, size: tuple[int, int] | None = None
) -> None:
    """Export to a file, written atomically.

    Args:
        module: result of `mmmaskformer.export.modules.export_module`.
        task: task of the module.
        facts: facts of `mmmaskformer.apis.trained.TrainedModel`; stored in the file.
        to: one of `FORMATS`.
        file: path of the file; its folder must exist.
        size: (H, W) of the only images that the file accepts; None leaves the size free.

    Raises:
        ImportError: if a package is missing; names the extra.
        ValueError: if the format is unknown, or does not support free sizes for this model.
        OSError: if the file cannot be written; an existing file is kept.
    """
    if to not in FORMATS:
        raise ValueError(f'to={to!r} is unknown; expected one of {list(FORMATS)}')
    require_packages(to)
    if size is None and to != 'torchscript' and any(isinstance(part, PortableWindows) for part in module.modules()):
        raise ValueError(
            f"--to {to}: PyTorch's exporter does not finish for Swin with free sizes. Fix: add --fixed-size H W, or "
            'use --to torchscript'
        )
    text = json.dumps(dict(task=task, outputs=OUTPUTS[task], size=size, version=__version__) | facts)
    example = torch.zeros((*EXAMPLE_SHAPE[:2], *(size or EXAMPLE_SHAPE[2:])), dtype=torch.uint8)
    free = (dict.fromkeys((0, 2, 3) if size is None else (0,), torch.export.Dim.DYNAMIC),)
    with torch.no_grad():
        content = FORMATS[to][0](module, task, example, text, free)
    write_whole(file, content)  # by Python, since torch's own writers abort the process if the disk is full


def require_packages(to: str) -> None:
    """Check that the packages of a format are installed.

    Raises:
        ImportError: if packages are missing; names them and the extra.
    """
    needed = ('onnx', 'onnxscript', 'onnxruntime') if to == 'onnx' else ()
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise ImportError(f"--to {to} needs {', '.join(missing)}. Fix: pip install -e '.[export]'")


def run_file(file: str | Path, to: str) -> Runner:
    """A function that runs an exported file on the CPU.

    Args:
        file: written by `write_file`.
        to: its format.

    Returns:
        The function.
    """
    return FORMATS[to][1](Path(file))


def _as_onnx(module: RawModule, task: str, example: torch.Tensor, text: str, free: tuple) -> bytes:
    import onnx

    program = torch.onnx.export(
        module,
        (example,),
        dynamo=True,
        dynamic_shapes=free,
        input_names=['images'],
        output_names=list(OUTPUTS[task]),
        verbose=False,
    )
    model = program.model_proto
    onnx.helper.set_model_props(model, {FACTS_KEY: text})
    return model.SerializeToString()


def _run_onnx(file: Path) -> Runner:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(None, {'images': images}), strict=True))


def _as_torchscript(module: RawModule, task: str, example: torch.Tensor, text: str, free: tuple) -> bytes:
    content = BytesIO()
    traced = torch.jit.trace(module, (example,), check_trace=False)
    torch.jit.save(traced, content, _extra_files={FACTS_KEY: text})
    return content.getvalue()


def _run_torchscript(file: Path) -> Runner:
    extra = {FACTS_KEY: ''}
    module = torch.jit.load(str(file), map_location='cpu', _extra_files=extra)
    return _run_module(module, extra)


def _as_torch_export(module: RawModule, task: str, example: torch.Tensor, text: str, free: tuple) -> bytes:
    content = BytesIO()
    program = torch.export.export(module, (example,), dynamic_shapes=free)
    torch.export.save(program, content, extra_files={FACTS_KEY: text})
    return content.getvalue()


def _run_torch_export(file: Path) -> Runner:
    extra = {FACTS_KEY: ''}
    with open(file, 'rb') as stream:
        program = torch.export.load(stream, extra_files=extra)
    return _run_module(program.module(), extra)


def _run_module(module: Callable, extra: dict) -> Runner:
    names = json.loads(extra[FACTS_KEY])['outputs']

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return dict(zip(names, (output.numpy() for output in module(torch.from_numpy(images))), strict=True))

    return run


FORMATS = {
    'onnx': (_as_onnx, _run_onnx),
    'torchscript': (_as_torchscript, _run_torchscript),
    'torch-export': (_as_torch_export, _run_torch_export),
}
"""Format → functions that create the content of a file and that run a file."""
