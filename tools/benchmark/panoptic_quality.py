"""Measure the time per image of our panoptic quality and of panopticapi's, and check that their results agree.

The maps are synthetic, of COCO's size and with rough outlines. There are four cases:

    metric      a test of a model: our metric and MMDetection's, which wraps panopticapi; the prediction is in memory,
                the ground truth in a PNG file
    evaluator   the same without the metric classes; panopticapi reads only files, so the prediction is first written
                for it, as fast as possible
    files       both are PNG files
    memory      both are decoded colours in memory

Both tools run in turn on each image, in one thread; CPU time is measured. For either tool, reading a PNG file of this
size takes about twice as long as our remaining work, so the ratio for files cannot be large.

    python tools/benchmark/panoptic_quality.py --json pq.json
"""

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import mmmaskformer.registry  # noqa: F401  makes the hosts importable with mmcv-lite, so it comes first

# isort: split
import cv2
import numpy as np
import torch
from mmengine.registry import METRICS
from panoptic_maps import NUM_CLASSES, PARTS, Pair, make_image
from panopticapi import evaluation as official
from PIL import Image

from mmmaskformer.core.quality.panoptic_map import joint_runs
from mmmaskformer.core.quality.panoptic_quality import SegmentCounts, count_segments
from mmmaskformer.core.segments import VOID, Segments
from mmmaskformer.formats.mmdet_codes import segments_of_codes
from mmmaskformer.formats.panoptic_png import ids_of_colours, read_ids, write_ids
from mmmaskformer.formats.whole_files import write_whole

CATEGORIES = {label + 1: {'id': label + 1, 'isthing': label < 80} for label in range(NUM_CLASSES)}
LABEL_OF = {category: label for label, category in enumerate(CATEGORIES)}


def theirs(pair: Pair, folder: Path) -> official.PQStat:
    """Counts of one image by panopticapi."""
    with contextlib.redirect_stdout(io.StringIO()):
        return official.pq_compute_single_core(0, [pair], folder / 'truth', folder / 'result', CATEGORIES)


def segments_of_entry(ids: np.ndarray, entry: dict) -> Segments:
    """Combine the ids (H, W) of a PNG file with its entry in the JSON file."""
    rows = entry['segments_info']
    areas = [row.get('area') for row in rows]
    return Segments(
        ids,
        np.array([LABEL_OF[row['category_id']] for row in rows], np.int64),
        listed_ids=np.array([row['id'] for row in rows], np.int64),
        is_crowd=np.array([row.get('iscrowd', 0) for row in rows], bool),
        areas=None if None in areas else np.array(areas, np.int64),
    )


def ours(pair: Pair, truth: np.ndarray, result: np.ndarray) -> SegmentCounts:
    """Counts of one image by mmmaskformer, from two maps of ids."""
    maps = [segments_of_entry(ids, entry) for ids, entry in zip((truth, result), pair, strict=True)]
    return count_segments(*maps, num_classes=NUM_CLASSES, name=pair[0]['file_name'])


def time_files(pairs: list[Pair], folder: Path, rounds: int) -> dict:
    """Both tools read both maps from PNG files."""

    def read_and_count(pair: Pair) -> SegmentCounts:
        return ours(pair, *(read_ids(str(folder / part / pair[0]['file_name'])) for part in PARTS))

    return compare(pairs, rounds, lambda pair: theirs(pair, folder), read_and_count)


def time_memory(pairs: list[Pair], folder: Path, rounds: int) -> dict:
    """Both tools get decoded colours."""
    files = {str(folder / part / pair[0]['file_name']) for pair in pairs for part in PARTS}
    colours = {file: np.array(Image.open(file)) for file in files}

    def decode_and_count(pair: Pair) -> SegmentCounts:
        return ours(pair, *(ids_of_colours(colours[str(folder / part / pair[0]['file_name'])]) for part in PARTS))

    with mock.patch.object(official.Image, 'open', colours.get):
        return compare(pairs, rounds, lambda pair: theirs(pair, folder), decode_and_count)


def encode(pair: Pair, folder: Path) -> tuple[np.ndarray, dict[int, int]]:
    """The prediction as label + 1000 * instance (H, W) int32, one value per segment; and the value of each id."""
    ids = read_ids(str(folder / 'result' / pair[1]['file_name']))
    codes = {row['id']: row['category_id'] - 1 + 1000 * i for i, row in enumerate(pair[1]['segments_info'], 1)}
    found, inverse = np.unique(ids, return_inverse=True)
    table = np.array([codes.get(int(segment_id), NUM_CLASSES) for segment_id in found], np.int32)
    return table[inverse.reshape(ids.shape)], codes


def time_evaluator(pairs: list[Pair], folder: Path, rounds: int) -> dict:
    """The prediction is label + 1000 * instance in memory; the ground truth is a PNG file."""
    encoded, recoded = {}, []
    for pair in pairs:
        truth, result = pair
        encoded[result['file_name']], codes = encode(pair, folder)
        segments = [row | {'id': codes[row['id']]} for row in result['segments_info']]
        recoded.append((truth, result | {'segments_info': segments}))

    def write_and_count(pair: Pair) -> official.PQStat:
        codes = encoded[pair[1]['file_name']]
        ids = np.where(codes % 1000 == NUM_CLASSES, VOID, codes)
        write_ids(folder / 'result' / f'of_{pair[1]["file_name"]}', ids)
        return theirs((pair[0], pair[1] | {'file_name': f'of_{pair[1]["file_name"]}'}), folder)

    def read_and_count(pair: Pair) -> SegmentCounts:
        truth = read_ids(str(folder / 'truth' / pair[0]['file_name']))
        truth = segments_of_entry(truth, pair[0])
        prediction = segments_of_codes(encoded[pair[1]['file_name']], NUM_CLASSES)
        return count_segments(truth, prediction, num_classes=NUM_CLASSES)

    return compare(recoded, rounds, write_and_count, read_and_count)


def time_metric(pairs: list[Pair], folder: Path, rounds: int) -> dict:
    """Both metrics get the data samples of a test."""
    names = [str(label) for label in range(NUM_CLASSES)]
    is_thing = [category['isthing'] for category in CATEGORIES.values()]
    kinds = {
        kind: [name for name, thing in zip(names, is_thing, strict=True) if thing == wanted]
        for kind, wanted in (('thing_classes', True), ('stuff_classes', False))
    }
    metrics = [
        METRICS.build(dict(type='mmdet.CocoPanopticMetric', seg_prefix=str(folder / 'truth'), nproc=1)),
        METRICS.build(dict(type='mmmaskformer.PanopticMetric')),
    ]
    for metric in metrics:
        metric.dataset_meta = {'classes': names, 'isthing': is_thing, **kinds}

    samples = {pair[0]['file_name']: make_sample(pair, folder, is_thing) for pair in pairs}

    def process(metric, pair: Pair):
        sample = samples[pair[0]['file_name']]
        # MMDetection's metric changes the prediction; the time of both includes the copy.
        metric.process(None, [sample | {'pred_panoptic_seg': {'sem_seg': sample['prediction'].clone()}}])
        return metric.results.pop()

    def official_way(pair: Pair) -> dict[int, official.PQStatCat]:
        stat = process(metrics[0], pair)
        return {label + 1: stat[label] for label in range(NUM_CLASSES)}

    def our_way(pair: Pair) -> SegmentCounts:
        return SegmentCounts.from_rows([process(metrics[1], pair)[1]], NUM_CLASSES)

    return compare(pairs, rounds, official_way, our_way)


def make_sample(pair: Pair, folder: Path, is_thing: list[bool]) -> dict:
    """The data sample that the evaluator passes to the metrics, with the prediction under ``prediction``."""
    name, encoded = pair[0]['file_name'], encode(pair, folder)[0]
    segments = [
        {
            'id': row['id'],
            'category': row['category_id'] - 1,
            'is_thing': is_thing[row['category_id'] - 1] and not row['iscrowd'],
            # MMDetection supports crowds of things only.
            'iscrowd': row['iscrowd'] * is_thing[row['category_id'] - 1],
            'area': row['area'],
        }
        for row in pair[0]['segments_info']
    ]
    return dict(
        img_id=name,
        img_path=name,
        ori_shape=encoded.shape,
        seg_map_path=str(folder / 'truth' / name),
        segments_info=segments,
        prediction=torch.from_numpy(encoded)[None],
    )


def check_equal(counts: SegmentCounts, stat: official.PQStat, name: str) -> float:
    """The largest difference of a class's sum of IoUs.

    Raises:
        AssertionError: if a count differs, or a sum by more than 1e-12.
    """
    expected = np.array(
        [[getattr(stat[label + 1], key) for key in ('tp', 'fp', 'fn', 'iou')] for label in range(NUM_CLASSES)]
    )
    if not np.array_equal(np.stack([counts.tp, counts.fp, counts.fn], axis=1), expected[:, :3]):
        raise AssertionError(f'{name}: TP, FP or FN differ from panopticapi')
    difference = float(np.abs(counts.iou_sum - expected[:, 3]).max())
    if difference > 1e-12:
        raise AssertionError(f'{name}: IoUs differ from panopticapi by {difference}, expected at most 1e-12')
    return difference


def cpu_time(function: Callable, *arguments) -> tuple[float, object]:
    """CPU time in milliseconds, and the result."""
    start = time.process_time()
    result = function(*arguments)
    return 1000 * (time.process_time() - start), result


def compare(pairs: list[Pair], rounds: int, official_way: Callable, our_way: Callable) -> dict:
    """Time two functions of a pair in turn.

    Args:
        pairs: entries of ground truth and result of each image.
        rounds: repetitions; each image counts with the median of its times.
        official_way: returns the `PQStat` of a pair.
        our_way: returns the `SegmentCounts` of a pair.
    """
    times, worst = ([], []), 0.0
    for pair in pairs:
        taken = ([], [])
        for _ in range(rounds):
            spent, stat = cpu_time(official_way, pair)
            taken[0].append(spent)
            spent, counts = cpu_time(our_way, pair)
            taken[1].append(spent)
        worst = max(worst, check_equal(counts, stat, pair[0]['file_name']))
        for all_times, values in zip(times, taken, strict=True):
            all_times.append(statistics.median(values))
    theirs_ms, ours_ms = map(statistics.mean, times)
    return {
        'panopticapi_ms': theirs_ms,
        'ours_ms': ours_ms,
        'times_faster': theirs_ms / ours_ms,
        'largest_difference': worst,
    }


WAYS = {'metric': time_metric, 'evaluator': time_evaluator, 'files': time_files, 'memory': time_memory}


def measure(arguments: argparse.Namespace) -> dict:
    """Make the images and time all cases."""
    rng, size = np.random.default_rng(arguments.seed), tuple(arguments.size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in PARTS:
            (folder / part).mkdir()
        pairs = [make_image(rng, size, f'{index}.png', folder) for index in range(arguments.images)]
        runs = [
            len(joint_runs(*(read_ids(str(folder / part / truth['file_name'])) for part in PARTS))[2])
            for truth, _ in pairs
        ]
        report = {
            'images': len(pairs),
            'size': size,
            'segments_per_image': statistics.mean(len(truth['segments_info']) for truth, _ in pairs),
            'runs_per_image': statistics.mean(runs),
        }
        # The evaluator comes late, because it overwrites the predictions.
        return report | {way: WAYS[way](pairs, folder, arguments.rounds) for way in reversed(WAYS)}


def main() -> None:
    """Read the arguments, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=20, help='number of images')
    parser.add_argument('--size', type=int, nargs=2, default=(480, 640), metavar=('HEIGHT', 'WIDTH'))
    parser.add_argument('--rounds', type=int, default=5, help='repetitions for each image')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path, help='write the numbers to this file')
    arguments = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    report = measure(arguments)
    height, width = report['size']
    print(
        f'{report["images"]} images of {height} x {width}, {report["segments_per_image"]:.1f} segments and '
        f'{report["runs_per_image"]:.0f} runs of equal pixels each'
    )
    print(f'{"CPU ms per image":18}{"panopticapi":>13}{"ours":>8}{"faster":>9}   largest difference')
    for way in WAYS:
        row = report[way]
        print(
            f'{way:18}{row["panopticapi_ms"]:13.2f}{row["ours_ms"]:8.2f}{row["times_faster"]:8.1f}x'
            f'   {row["largest_difference"]:.0e}'
        )
    if arguments.json:
        write_whole(arguments.json, json.dumps(report, indent=1) + '\n')


if __name__ == '__main__':
    main()
