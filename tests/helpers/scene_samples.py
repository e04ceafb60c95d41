"""MMDetection's data samples of synthetic scenes, with predictions derived from the ground truth."""

import json
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from PIL import Image

import mmmaskformer.registry  # noqa: F401  must come before mmdet where mmcv-lite is installed

from mmdet.structures import DetDataSample  # isort: skip


def code(label: int, number: int, is_thing: bool) -> int:
    """MMDetection's code of a segment; stuff of class 0 gets an instance number too, since the code 0 is void."""
    return label + 1000 * (number * is_thing or label == 0)


class Scenes:
    """Reads a folder of `write_scenes`.

    Args:
        root: the folder.
        order: positions of the classes in the JSON's list of categories; None for the order of that list.
        split: 'train' or 'val'.
    """

    def __init__(self, root: Path, order: list[int] | None = None, split: str = 'val') -> None:
        self.json_file, self.folder = root / f'panoptic_{split}.json', root / f'panoptic_{split}'
        self.content = json.loads(self.json_file.read_text())
        listed = self.content['categories']
        categories = [listed[index] for index in order] if order else listed
        self.meta = {
            'classes': tuple(category['name'] for category in categories),
            'isthing': tuple(bool(category['isthing']) for category in categories),
            'category_ids': tuple(category['id'] for category in categories),
            'thing_classes': tuple(category['name'] for category in categories if category['isthing']),
            'stuff_classes': tuple(category['name'] for category in categories if not category['isthing']),
        }
        self.label_of = {category['id']: label for label, category in enumerate(categories)}

    def truth(self, index: int) -> tuple[np.ndarray, list[dict]]:
        """Ids (H, W) of an image and its ``segments_info`` as our dataset returns it."""
        entry = self.content['annotations'][index]
        red, green, blue = np.moveaxis(np.array(Image.open(self.folder / entry['file_name'])).astype(int), -1, 0)
        segments = [
            {
                'id': segment['id'],
                'category': self.label_of[segment['category_id']],
                'is_thing': self.meta['isthing'][self.label_of[segment['category_id']]] and not segment['iscrowd'],
                'iscrowd': segment['iscrowd'],
                'area': segment['area'],
            }
            for segment in entry['segments_info']
        ]
        return red + 256 * green + 65536 * blue, segments

    def samples(self, *, seed: int = 0, with_void: bool = True, truth: bool = True, device: str = 'cpu') -> list:
        """A `DetDataSample` for each image.

        Args:
            seed: of the changes to the ground truth.
            with_void: leave pixels without a prediction.
            truth: include the paths of the ground truth.
            device: of the predictions.
        """
        rng = np.random.default_rng(seed)
        samples = []
        for index, image in enumerate(self.content['images']):
            ids, segments = self.truth(index)
            meta = {'img_id': image['id'], 'img_path': f'images/{image["file_name"]}', 'ori_shape': ids.shape}
            if truth:
                meta |= {'seg_map_path': str(self.folder / image['file_name']), 'segments_info': segments}
            sample = DetDataSample(metainfo=meta)
            encoded = self._changed(ids, segments, rng, with_void)
            encoded = torch.from_numpy(encoded[None].astype(np.int32)).to(device)
            sample.pred_panoptic_seg = PixelData(sem_seg=encoded)
            sample.pred_sem_seg = PixelData(sem_seg=encoded % 1000)
            samples.append(sample)
        return samples

    def _changed(self, ids: np.ndarray, segments: list[dict], rng: np.random.Generator, with_void: bool) -> np.ndarray:
        """label + 1000 * instance, (H, W): everything shifted, some segments with another class, some dropped."""
        num_classes = len(self.meta['classes'])
        fill = num_classes if with_void else segments[0]['category']
        encoded = np.full(ids.shape, fill)
        for number, segment in enumerate(segments, 1):
            label = segment['category'] if rng.random() < 0.8 else int(rng.integers(num_classes))
            if rng.random() < 0.85:
                encoded[ids == segment['id']] = code(label, number, self.meta['isthing'][label])
        moved = np.roll(encoded, tuple(rng.integers(0, 4, 2)), axis=(0, 1))
        if with_void:
            moved[: rng.integers(1, 20)] = num_classes
        return moved


def add_crowds_and_void(root: Path, split: str = 'val') -> None:
    """Make the first thing of every second scene a crowd, and a corner of every scene void."""
    json_file = root / f'panoptic_{split}.json'
    content = json.loads(json_file.read_text())
    is_thing = {category['id']: category['isthing'] for category in content['categories']}
    for index, entry in enumerate(content['annotations']):
        file = root / f'panoptic_{split}' / entry['file_name']
        colours = np.array(Image.open(file))
        colours[-12:, -30:] = 0
        Image.fromarray(colours).save(file)
        ids = colours.astype(int) @ [1, 256, 65536]
        for segment in entry['segments_info']:
            segment['area'] = int(np.count_nonzero(ids == segment['id']))
        entry['segments_info'] = [segment for segment in entry['segments_info'] if segment['area']]
        things = [segment for segment in entry['segments_info'] if is_thing[segment['category_id']]]
        if index % 2 == 0 and things:
            things[0]['iscrowd'] = 1
    json_file.write_text(json.dumps(content))


def evaluate_rank(rank: int, port: int, root: str, metric: dict, seed: int, results) -> None:
    """One of two processes that share a test set; like mmengine's sampler, it repeats the first sample at the end.

    Writes the metric's values into ``results``.
    """
    dist.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    scenes = Scenes(Path(root))
    samples = scenes.samples(seed=seed)
    evaluator = Evaluator(metric)
    evaluator.dataset_meta = scenes.meta
    evaluator.process([*samples, samples[0]][rank : len(samples) + 1 : 2])
    results[rank] = evaluator.evaluate(len(samples))
    dist.destroy_process_group()
