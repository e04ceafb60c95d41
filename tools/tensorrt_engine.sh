#!/usr/bin/env bash
# Builds a TensorRT engine from an ONNX file of tools/export.py: bash tools/tensorrt_engine.sh MODEL.onnx ENGINE H W
# Only where TensorRT 10 or newer is installed (its command trtexec); not run on the machines that test this project.
# H and W are the largest sides in pixels; batches of 1 to 4, sides from 64 on.
set -euo pipefail

if [[ $# != 4 ]]; then
    echo 'usage: bash tools/tensorrt_engine.sh MODEL.onnx ENGINE H W' >&2
    exit 2
fi
if ! command -v trtexec > /dev/null; then
    echo 'trtexec: not found. Fix: install TensorRT and put its bin folder on PATH' >&2
    exit 2
fi
model="$1" engine="$2" height="$3" width="$4"
trtexec --onnx="$model" --saveEngine="$engine.part" --fp16 \
    --minShapes=images:1x3x64x64 --optShapes="images:1x3x${height}x${width}" --maxShapes="images:4x3x${height}x${width}"
mv "$engine.part" "$engine"
