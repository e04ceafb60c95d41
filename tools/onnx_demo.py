"""Draw the predictions of an exported ONNX model: ``python tools/onnx_demo.py MODEL.onnx IMAGE --out PICTURE.jpg``.

IMAGE may be a folder; --out is then a folder too, with a PNG for each image, in the same subfolders. It needs only
onnxruntime, numpy and pillow, so it can be copied into your own program. The model must be exported by tools/export.py
with --task semantic or panoptic.
"""

import argparse
import colorsys
import json
import os
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageOps


def main() -> int:
    """Read the command line, run the model, write the figures; returns the exit code."""
    parser = argparse.ArgumentParser(description='Draw the predictions of an exported model.')
    parser.add_argument('model', help='ONNX file of tools/export.py')
    parser.add_argument('image', type=Path, help='image, or a folder of images')
    parser.add_argument(
        '--out', required=True, type=Path, help='figure to write, in the format of its suffix; or folder'
    )
    args = parser.parse_args()
    try:
        session, facts = load(args.model)
        jobs = pictures(args.image, args.out)
        for image, out in jobs:
            if len(jobs) > 1:
                print(image)
            show(session, facts, image, out)
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


def pictures(source: Path, out: Path) -> list[tuple[Path, Path]]:
    """Images to read, each with the file to write."""
    readable = Image.registered_extensions()
    if not source.is_dir():
        if out.suffix.lower() not in readable or readable[out.suffix.lower()] not in Image.SAVE:
            raise ValueError(f'--out {out}: no picture format ends in {out.suffix!r}. Fix: end it in .png or .jpg')
        return without_originals([(source, out)])
    files = sorted(path for path in source.rglob('*') if path.suffix.lower() in readable and path.is_file())
    jobs = [(file, out / file.relative_to(source).with_suffix('.png')) for file in files]
    if not jobs:
        raise ValueError(f'{source}: no picture in this folder. Fix: pass a folder of .jpg or .png files')
    if len({target for _, target in jobs}) < len(jobs):
        # a.jpg and a.png: keep the whole name
        jobs = [(file, target.with_name(f'{file.name}.png')) for file, target in jobs]
    return without_originals(jobs)


def without_originals(jobs: list[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """The same jobs; raises if a file to write would replace an input image."""
    originals = {file.resolve() for file, _ in jobs}
    replaced = next((target for _, target in jobs if target.resolve() in originals), None)
    if replaced is not None:
        raise ValueError(f'--out: {replaced} is an input image, which would be replaced. Fix: choose another name')
    return jobs


def show(session, facts: dict, file: Path, out: Path) -> None:
    """Run the model on one image, write the figure and print the share of each segment."""
    image = ImageOps.exif_transpose(Image.open(file)).convert('RGB')
    segments, labels = predict(session, facts['task'], resized(image, facts))
    picture = coloured(image, segments, labels, facts)
    save(picture, out)
    for number, label in enumerate(labels):
        share = (segments == number).mean()
        if share:
            print(f'{facts["classes"][label] if label >= 0 else "nothing":<20}{share:.1%}')


def load(file: str) -> tuple[onnxruntime.InferenceSession, dict]:
    """The model and its metadata: task, classes, palette, test scale."""
    try:
        session = onnxruntime.InferenceSession(file, providers=onnxruntime.get_available_providers())
    except Exception as error:  # the exceptions of onnxruntime have no common base class
        raise ValueError(f'{file}: not a model that onnxruntime can read: {error}') from error
    facts = json.loads(session.get_modelmeta().custom_metadata_map.get('mmmaskformer', '{}'))
    if facts.get('task') not in ('semantic', 'panoptic'):
        raise ValueError(
            f'{file}: found task {facts.get("task")}, expected semantic or panoptic. Fix: write it with tools/export.py'
        )
    return session, facts


def resized(image: Image.Image, facts: dict) -> Image.Image:
    """The image at the model's test scale."""
    if facts['size']:
        return image.resize(facts['size'][::-1], Image.Resampling.BILINEAR)
    if not facts['short_edge']:
        return image
    scale = facts['short_edge'] / min(image.size)
    if facts['max_size']:
        scale = min(scale, facts['max_size'] / max(image.size))
    return image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BILINEAR)


def predict(session, task: str, image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Segment index of each pixel (H, W), and the class of each segment, -1 for no class."""
    images = np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)[None])
    if task == 'semantic':
        (labels,) = session.run(['labels'], {'images': images})
        present, segments = np.unique(labels[0], return_inverse=True)
        return segments.reshape(labels[0].shape), present
    wanted = ['segment_ids', 'segment_labels', 'segment_valid']
    ids, labels, valid = (output[0] for output in session.run(wanted, {'images': images}))
    return ids, np.concatenate([[-1], labels[valid]])


def coloured(image: Image.Image, segments: np.ndarray, labels: np.ndarray, facts: dict) -> Image.Image:
    """The image with the colours and names of its segments; segments of one class differ in shade."""
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
    drawn = Image.fromarray(mixed.astype(np.uint8))
    write_names(drawn, numbers, labels, facts['classes'])
    return drawn


def write_names(picture: Image.Image, numbers: np.ndarray, labels: np.ndarray, classes: list[str]) -> None:
    """Write the class of each segment at the middle of its widest row, completely inside the image.

    If several rows have the same width, it is the middle one. Segments narrower than their name are not labelled.
    """
    draw = ImageDraw.Draw(picture)
    for number, label in enumerate(labels):
        mask = numbers == number
        if label < 0 or not mask.any():
            continue
        widths = mask.sum(1)
        rows = np.flatnonzero(widths == widths.max())
        row = int(rows[len(rows) // 2])
        columns = np.flatnonzero(mask[row])
        runs = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
        widest = max(runs, key=len)
        if draw.textlength(classes[label]) < len(widest):
            style = dict(anchor='mm', stroke_width=2)
            _, top, _, bottom = draw.textbbox((0, 0), classes[label], **style)
            middle = (int(widest[0] + widest[-1]) // 2, max(min(row, picture.height - bottom), -top))
            draw.text(middle, classes[label], fill='white', stroke_fill='black', **style)


def save(picture: Image.Image, file: Path) -> None:
    """Write a figure in the format of its suffix, under a temporary name until it is complete."""
    if file.exists() and not file.is_file():
        raise ValueError(f'--out {file}: found something other than a file. Fix: choose another name')
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f'.{file.stem}.part{file.suffix}')
    try:
        picture.save(unfinished)
        with open(unfinished, 'rb') as stream:
            os.fsync(stream.fileno())
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)


if __name__ == '__main__':
    sys.exit(main())
