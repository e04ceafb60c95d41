"""Show what an exported ONNX file sees in a picture: ``python tools/onnx_demo.py MODEL.onnx IMAGE --out PICTURE.png``.

Needs onnxruntime, numpy and pillow, nothing else; copy it into your own program. The file must be one of
tools/export.py with --task semantic or panoptic.
"""

import argparse
import colorsys
import json
import os
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main() -> int:
    """Read the command line, run the model, write the picture; returns the exit code."""
    parser = argparse.ArgumentParser(description='Colour a picture by what an exported model sees in it.')
    parser.add_argument('model', help='ONNX file of tools/export.py')
    parser.add_argument('image', help='picture to look at')
    parser.add_argument('--out', required=True, type=Path, help='picture to write, a .png')
    args = parser.parse_args()
    try:
        session, facts = load(args.model)
        image = ImageOps.exif_transpose(Image.open(args.image)).convert('RGB')
        segments, labels = predict(session, facts['task'], resized(image, facts))
        save(coloured(image, segments, labels, facts), args.out)
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    for number, label in enumerate(labels):
        share = (segments == number).mean()
        if share:
            print(f'{facts["classes"][label] if label >= 0 else "nothing":<20}{share:.1%}')
    return 0


def load(file: str) -> tuple[onnxruntime.InferenceSession, dict]:
    """The model, and what its file says about it: task, classes, palette, test scale."""
    try:
        session = onnxruntime.InferenceSession(file, providers=onnxruntime.get_available_providers())
    except Exception as error:  # onnxruntime has one class for each kind of damage and no base for them
        raise ValueError(f'{file}: not a model that onnxruntime can read: {error}') from error
    facts = json.loads(session.get_modelmeta().custom_metadata_map.get('mmmaskformer', '{}'))
    if facts.get('task') not in ('semantic', 'panoptic'):
        raise ValueError(
            f'{file}: found task {facts.get("task")}, expected semantic or panoptic. Fix: write it with tools/export.py'
        )
    return session, facts


def resized(image: Image.Image, facts: dict) -> Image.Image:
    """The picture at the size at which the model was tested."""
    if facts['size']:
        return image.resize(facts['size'][::-1], Image.Resampling.BILINEAR)
    if not facts['short_edge']:
        return image
    scale = facts['short_edge'] / min(image.size)
    if facts['max_size']:
        scale = min(scale, facts['max_size'] / max(image.size))
    return image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BILINEAR)


def predict(session, task: str, image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Segment number of each pixel (H, W), and the class of each segment, -1 for no class."""
    images = np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)[None])
    if task == 'semantic':
        (labels,) = session.run(['labels'], {'images': images})
        present, segments = np.unique(labels[0], return_inverse=True)
        return segments.reshape(labels[0].shape), present
    wanted = ['segment_ids', 'segment_labels', 'segment_valid']
    ids, labels, valid = (output[0] for output in session.run(wanted, {'images': images}))
    return ids, np.concatenate([[-1], labels[valid]])


def coloured(image: Image.Image, segments: np.ndarray, labels: np.ndarray, facts: dict) -> Image.Image:
    """The picture under the colours of its segments; those of one class differ a little, their borders are white."""
    count = len(facts['classes'])
    wheel = [[255 * part for part in colorsys.hsv_to_rgb(label / count, 0.7, 0.9)] for label in range(count)]
    palette = np.array(facts['palette'] or wheel)
    shades = 1 - 0.12 * (np.arange(len(labels)) % 4)
    colours = np.where(labels[:, None] < 0, 0, palette[labels] * shades[:, None])
    picture = np.asarray(Image.fromarray(colours[segments].astype(np.uint8)).resize(image.size, 0), np.float32)
    numbers = np.asarray(Image.fromarray(segments.astype(np.int32)).resize(image.size, 0))
    mixed = 0.4 * np.asarray(image, np.float32) + 0.6 * picture
    border = np.zeros(numbers.shape, bool)
    border[1:] |= numbers[1:] != numbers[:-1]
    border[:, 1:] |= numbers[:, 1:] != numbers[:, :-1]
    mixed[border] = 255
    return Image.fromarray(mixed.astype(np.uint8))


def save(picture: Image.Image, file: Path) -> None:
    """Write a PNG in one step, so that nobody reads half a file."""
    unfinished = file.with_name(f'.{file.name}.part')
    try:
        picture.save(unfinished, format='PNG')
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)


if __name__ == '__main__':
    sys.exit(main())
