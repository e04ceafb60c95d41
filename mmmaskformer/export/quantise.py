"""Weights of an ONNX file as 8-bit integers."""

from pathlib import Path

from mmmaskformer.export.files import require_packages

MAX_MIOU_LOSS = 1.0
"""Percentage points of mIoU on scenes that 8-bit weights may cost."""


def quantise(file: str | Path, out: str | Path) -> None:
    """Dynamic quantisation: weights of convolutions and matrix products to 8 bits, activations as they come.

    Args:
        file: float32 ONNX file.
        out: where to write.

    Raises:
        ImportError: if onnxruntime is missing, naming the extra.
    """
    require_packages('onnx')
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Unsigned: onnxruntime has no signed integer convolution on a CPU.
    operators = ['Conv', 'MatMul', 'Gemm']
    quantize_dynamic(file, out, op_types_to_quantize=operators, per_channel=True, weight_type=QuantType.QUInt8)
