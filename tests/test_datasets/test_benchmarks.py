"""Datasets of published benchmarks: their class lists agree with those of the hosts."""

import pytest
from mmdet.datasets import CocoPanopticDataset as HostCocoPanopticDataset
from mmseg.datasets import CityscapesDataset as HostCityscapesDataset
from mmseg.datasets import COCOStuffDataset as HostCOCOStuffDataset
from mmseg.datasets import MapillaryDataset_v1 as HostMapillaryDataset

import mmmaskformer.registry  # noqa: F401  makes the hosts importable with mmcv-lite
from mmmaskformer.datasets.metainfo import load_metainfo

# their palettes give some classes the same colour, which a class list must not do
SHARED_COLOURS = {'cocostuff10k': 9}


@pytest.mark.parametrize(
    'name, host',
    [
        ('cocostuff10k', HostCOCOStuffDataset),
        ('cityscapes', HostCityscapesDataset),
        ('mapillary', HostMapillaryDataset),
        ('coco_panoptic', HostCocoPanopticDataset),
    ],
)
def test_class_lists_are_those_of_the_hosts(name, host):
    ours, theirs = load_metainfo(name), host.METAINFO
    count = len(ours['classes'])
    assert ours['classes'] == tuple(theirs['classes'])[:count]
    if name == 'mapillary':
        assert theirs['classes'][count:] == ('Unlabeled',)
    colours = [list(colour) for colour in theirs['palette'][:count]]
    different = sum(mine != colour for mine, colour in zip(ours['palette'], colours, strict=True))
    assert different == SHARED_COLOURS.get(name, 0)
