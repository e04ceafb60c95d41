"""Weights of an ONNX file as 8-bit integers."""

from pathlib import Path

from mmmaskformer.export.files import require_packages

MAX_MIOU_LOSS = 1.0
"""Largest accepted loss of mIoU on scenes by 8-bit weights, in percentage points."""


def quantise(file: str | Path, out: str | Path) -> None:
    """Dynamic quantisation: 8-bit weights of convolutions and matrix products, activations quantised at run time.

    Args:
        file: float32 ONNX file.
        out: output file.

    Raises:
        ImportError: if onnxruntime is missing; names the extra.
    """
    require_packages('onnx')
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Unsigned, since onnxruntime has no signed integer convolution on a CPU.
    operators = ['Conv', 'MatMul', 'Gemm']
    quantize_dynamic(file, out, op_types_to_quantize=operators, per_channel=True, weight_type=QuantType.QUInt8)
