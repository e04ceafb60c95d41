"""Weights of an ONNX file as 8-bit integers."""

import shutil
import tempfile
from pathlib import Path

from mmmaskformer.export.files import require_packages, write_whole

MAX_MIOU_LOSS = 1.0
"""Percentage points of mIoU on scenes that 8-bit weights may cost."""


def quantise(file: str | Path, out: str | Path) -> None:
    """Dynamic quantisation: weights of convolutions and matrix products to 8 bits, activations as they come.

    Args:
        file: float32 ONNX file.
        out: where to write; in one step.

    Raises:
        ImportError: if onnxruntime is missing, naming the extra.
    """
    require_packages('onnx')
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / 'small.onnx'
        # Unsigned: onnxruntime has no signed integer convolution on a CPU.
        quantize_dynamic(
            file, small, op_types_to_quantize=['Conv', 'MatMul', 'Gemm'], per_channel=True, weight_type=QuantType.QUInt8
        )
        write_whole(Path(out), lambda part: shutil.copyfile(small, part))
