"""Panoptic PNG files and result files: written, read back, damaged, interrupted."""

import json

import numpy as np
import pytest
from helpers.pq_pairs import categories, counts_by_definition, describe, random_pair

from mmmaskformer.core.quality.panoptic_quality import SegmentCounts
from mmmaskformer.core.segments import Segments
from mmmaskformer.evaluation.coco_panoptic_files import PanopticResultWriter, count_files
from mmmaskformer.formats.panoptic_png import read_ids, write_ids

IDS = np.array([[0, 1, 255, 256], [65535, 65536, 2**24 - 1, 77]])


def write_pairs(folder, pairs, num_classes):
    """Ground truth and results of `random_pair` in COCO's format."""
    for part, maps in (('truth', [truth for truth, _ in pairs]), ('result', [result for _, result in pairs])):
        (folder / part).mkdir()
        entries = []
        for index, panoptic in enumerate(maps):
            write_ids(folder / part / f'{index}.png', panoptic.ids)
            entries.append({'image_id': index, 'file_name': f'{index}.png', 'segments_info': describe(panoptic)})
        content = {'annotations': entries, 'categories': list(categories(num_classes).values())}
        (folder / f'{part}.json').write_text(json.dumps(content))
    return folder / 'truth.json', folder / 'result.json'


def test_count_files(tmp_path):
    pairs = [random_pair(np.random.default_rng(seed), 5, size=(8, 9)) for seed in range(4)]
    files = write_pairs(tmp_path, pairs, 5)
    counts, listed = count_files(*files)
    found = np.stack([counts.tp, counts.fp, counts.fn, counts.iou_sum], axis=1)
    expected = sum(counts_by_definition(*pair, 5) for pair in pairs)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert listed == list(categories(5).values())
    (tmp_path / 'result').rename(tmp_path / 'moved')
    again, _ = count_files(*files, pred_folder=tmp_path / 'moved')
    assert isinstance(again, SegmentCounts) and np.array_equal(again.tp, counts.tp)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda entries: entries.pop(1), r'result\.json: no prediction for image 1 \(1\.png\)'),
        (lambda entries: entries[1]['segments_info'][0].update(category_id=99), r'result/1\.png: .* unknown'),
        (lambda entries: entries[1]['segments_info'].pop(0), r'truth/1\.png: prediction has pixels of segment ids'),
        (
            lambda entries: entries[1]['segments_info'].append({'id': 5, 'category_id': 1}),
            r'truth/1\.png: prediction lists segment ids \[5\]',
        ),
    ],
)
def test_results_that_do_not_fit(tmp_path, change, message):
    pairs = [random_pair(np.random.default_rng(seed), 5, size=(8, 9)) for seed in range(2)]
    truth, result = write_pairs(tmp_path, pairs, 5)
    content = json.loads(result.read_text())
    change(content['annotations'])
    result.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        count_files(truth, result)


def write(prefix, names):
    writer = PanopticResultWriter(prefix)
    writer.finish(
        [writer.add(number, f'images/{name}.jpg', Segments(IDS * 0 + 1, [0]), [3]) for number, name in enumerate(names)]
    )


def listing(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*'))


def test_a_new_result_replaces_an_older_one_as_a_whole(tmp_path):
    write(tmp_path / 'result', ['a', 'b'])
    write(tmp_path / 'result', ['c'])
    assert listing(tmp_path) == ['result.panoptic', 'result.panoptic.json', 'result.panoptic/c.png']
    entry = {'image_id': 0, 'file_name': 'c.png', 'segments_info': [{'id': 1, 'category_id': 3}]}
    assert json.loads((tmp_path / 'result.panoptic.json').read_text()) == {'annotations': [entry]}


def test_an_interrupted_test_leaves_no_result_and_no_pictures_in_the_next(tmp_path):
    PanopticResultWriter(tmp_path / 'result').add(1, 'old.jpg', Segments(IDS, [0]), [3])
    assert len(listing(tmp_path)) == 2 and listing(tmp_path)[0] == 'result.panoptic.partial'
    write(tmp_path / 'result', ['a'])
    assert listing(tmp_path) == ['result.panoptic', 'result.panoptic.json', 'result.panoptic/a.png']


def test_images_of_one_name_in_several_folders_keep_their_folders(tmp_path):
    writer = PanopticResultWriter(tmp_path / 'result')
    paths = ['data/val/berlin/1.jpg', 'data/val/bonn/1.jpg', 'data/val/bonn/1.tif', 'data/val/2.jpg']
    writer.finish(
        [writer.add(number, path, Segments(IDS * 0 + number, [0]), [3]) for number, path in enumerate(paths, 1)]
    )
    entries = json.loads((tmp_path / 'result.panoptic.json').read_text())['annotations']
    names = ['berlin/1.png', 'bonn/1.jpg.png', 'bonn/1.tif.png', '2.png']
    assert [entry['file_name'] for entry in entries] == names
    for number, name in enumerate(names, 1):
        assert (read_ids(tmp_path / 'result.panoptic' / name) == number).all()
    assert len(listing(tmp_path)) == 2 + 2 + len(names)


def test_two_images_of_one_id_or_path_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r'2 images are listed more than once, such as images/a\.jpg'):
        write(tmp_path / 'result', ['a', 'a'])
    writer = PanopticResultWriter(tmp_path / 'result')
    with pytest.raises(ValueError, match='1 image ids belong to several images, such as 7, expected unique ids'):
        writer.finish([writer.add(7, f'{name}.jpg', Segments(IDS, [0]), [3]) for name in 'ab'])
    assert not (tmp_path / 'result.panoptic.json').exists()
