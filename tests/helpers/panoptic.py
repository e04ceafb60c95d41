"""Small datasets in COCO's panoptic and instance formats."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from mmmaskformer.formats.panoptic_png import write_ids

VOID = 0
CROWD = 70000


def striped_ids(height: int, width: int, count: int) -> np.ndarray:
    """(height, width) int32: ``count`` upright stripes, ids 300, 600, ...; the last two rows are void and crowd."""
    ids = np.repeat(300 * (1 + np.arange(width) * count // width)[None], height, 0).astype(np.int32)
    ids[-2], ids[-1] = VOID, CROWD
    return ids


def stored_segments(indices: np.ndarray) -> np.ndarray:
    """The segment map of a pipeline, (H, W) int16: index + 256, 255 for -1."""
    return np.where(indices < 0, 255, indices + 256).astype(np.int16)


def segment_indices(results: dict) -> np.ndarray:
    """(H, W) int16 index of the segment at each pixel, -1 for none, from the results of a pipeline."""
    stored = results['gt_seg_map']
    assert stored.dtype == np.int16 and stored.min() >= 255
    return np.where(stored == 255, -1, stored - 256).astype(np.int16)


def categories_of(metainfo: dict) -> list[dict]:
    """The 'categories' for a class list, in reverse order."""
    rows = zip(metainfo['category_ids'], metainfo['classes'], metainfo['isthing'], strict=True)
    return [{'id': number, 'name': name, 'isthing': int(isthing)} for number, name, isthing in rows][::-1]


def write_panoptic(
    root: Path,
    metainfo: dict,
    *,
    ann_file: str = 'panoptic.json',
    img: str = 'images',
    seg: str = 'segments',
    names: tuple[str, ...] = ('p', 'q'),
    suffix: str = '.png',
    size: tuple[int, int] = (40, 60),
    labels: tuple[int, ...] = (0, 1, 1),
) -> dict:
    """Write noise images, each with one stripe per entry of ``labels``, void, and a crowd of the first label.

    Returns:
        The content of the JSON file.
    """
    rng = np.random.default_rng(0)
    for folder in (img, seg):
        (root / folder).mkdir(parents=True, exist_ok=True)
    ids = striped_ids(*size, len(labels))
    images, annotations = [], []
    for number, name in enumerate(names, start=1):
        noise = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / img / f'{name}{suffix}')
        write_ids(root / seg / f'{name}.png', ids)
        images.append({'id': number, 'file_name': f'{name}{suffix}', 'height': size[0], 'width': size[1]})
        segments = [
            {'id': 300 * (1 + index), 'category_id': metainfo['category_ids'][label], 'iscrowd': 0}
            for index, label in enumerate(labels)
        ]
        segments.append({'id': CROWD, 'category_id': metainfo['category_ids'][labels[0]], 'iscrowd': 1})
        for segment in segments:
            segment['area'] = int((ids == segment['id']).sum())
        annotations.append({'image_id': number, 'file_name': f'{name}.png', 'segments_info': segments})
    content = {'images': images, 'annotations': annotations, 'categories': categories_of(metainfo)}
    write_json(root / ann_file, content)
    return content


def write_json(path: Path, content) -> None:
    """Write a JSON file, creating its parent folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_instances(root: Path, classes: tuple[str, ...], *, ann_file: str, img: str, size: tuple[int, int]) -> None:
    """Write one image with two overlapping rectangles, of the first and the last class, and a crowd.

    The rectangles cover the left and the right two thirds, the crowd the bottom row. In the image, the first is red and
    the second green.
    """
    height, width = size
    (root / img).mkdir(parents=True, exist_ok=True)
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, : 2 * width // 3, 0] = picture[:, width // 3 :, 1] = 255
    Image.fromarray(picture).save(root / img / 'p.png')
    annotations = []
    for number, (category, left, right) in enumerate(
        ((1, 0, 2 * width // 3), (len(classes), width // 3, width)), start=1
    ):
        box = [left, 0, right - left, height]
        outline = [left, 0, right, 0, right, height, left, height]
        annotations.append({'id': number, 'image_id': 1, 'category_id': category, 'iscrowd': 0, 'bbox': box,
                            'area': (right - left) * height, 'segmentation': [outline]})  # fmt: skip
    crowd = np.zeros(size, bool)
    crowd[-1] = True
    runs = np.diff(np.flatnonzero(np.diff(crowd.ravel(order='F'), prepend=2, append=2))).tolist()
    annotations.append({'id': 3, 'image_id': 1, 'category_id': 1, 'iscrowd': 1, 'bbox': [0, height - 1, width, 1],
                        'area': width, 'segmentation': {'size': list(size), 'counts': runs}})  # fmt: skip
    content = {
        'images': [{'id': 1, 'file_name': 'p.png', 'height': height, 'width': width}],
        'annotations': annotations,
        'categories': [{'id': label + 1, 'name': name} for label, name in enumerate(classes)],
    }
    write_json(root / ann_file, content)
