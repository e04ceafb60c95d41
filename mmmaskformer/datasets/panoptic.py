"""The base of datasets in COCO panoptic format, for MMDetection; a registry location for `DATASETS`."""

import logging
from collections.abc import Mapping
from os import path as osp

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from mmmaskformer.core.checks import MAPPING, PATH, checked
from mmmaskformer.datasets.category_labels import labels_of_categories
from mmmaskformer.datasets.files import locate_files, note_repeated
from mmmaskformer.datasets.metainfo import check_panoptic_metainfo, chosen_metainfo, load_panoptic_metainfo
from mmmaskformer.datasets.pipelines import check_pipelines
from mmmaskformer.datasets.reading import NamesUnreadableImages
from mmmaskformer.datasets.settings import DATASET_SETTINGS, check_filter
from mmmaskformer.formats.coco_json import PanopticFile, read_panoptic
from mmmaskformer.formats.label_maps import IGNORE_INDEX_8BIT
from mmmaskformer.formats.messages import some
from mmmaskformer.registry import DATASETS

SHOWN = 8
"""Number of items that a message names."""
PER_CLASS = ('isthing', 'category_ids', 'palette')
FOLDERS = {'img', 'seg', 'labels'}


@DATASETS.register_module()
@checked(ann_file=PATH, filter_cfg=MAPPING.or_none(), **DATASET_SETTINGS)
class PanopticDataset(NamesUnreadableImages, BaseDataset):
    """Images with panoptic segmentations in COCO's format: one JSON file and a folder of PNG files.

    In a PNG, the pixels of a segment have R + 256 G + 65536 B equal to its id; 0 is void. The JSON lists 'images',
    'annotations' (one for each image: its PNG and 'segments_info' with id, category_id, area, iscrowd) and
    'categories' (id, name, isthing). The label of a class is its position in the class list; things need not come
    first. Categories that are not in the class list become void.

    ``metainfo['category_ids']`` has the ids of the file's categories in the order of the classes, for writing
    results. It is omitted in training, so that files with other ids for the same classes can be concatenated.

    An entry has img_id, img_path, height, width, seg_map_path, ``segments_info`` (a list of dicts: id, category (the
    label), is_thing (False for a crowd), iscrowd, area, a number or None) and ``void_ids``, the ids of segments whose
    category is not in the class list. Areas are not used; the pixels of the PNG count. With a folder of label maps it
    also has ``semantic_label_path``, ``reduce_zero_label`` and ``label_map``, for `mmmaskformer.SemanticMetric`.

    Differs from MMDetection's CocoPanopticDataset, whose labels have the order of the file's categories with things
    first. This class does not require that order, nor the module panopticapi.

    Args:
        ann_file: the JSON file.
        metainfo_file: the class list: a name such as 'coco_panoptic' or the path of a JSON file, see
            `mmmaskformer.datasets.metainfo.load_panoptic_metainfo`.
        metainfo: the class list itself, ``dict(classes=..., isthing=..., palette=..., category_ids=...)``, the last
            two optional: without category_ids, classes are found by name. A dataset with its own class list needs
            neither; ``dict(classes=...)`` with some of its classes drops the others.
        data_prefix: the folders, ``dict(img=..., seg=...)``; seg is optional only with test_mode, for images without
            ground truth. ``labels=...`` is a folder of semantic label maps (NAME.png for each image NAME): semantic
            metrics then compare with these instead of the classes of the segments.
        reduce_zero_label: whether ids in these label maps start at 1 and 0 is ignored.
        filter_cfg: for training only; ``dict(filter_empty_gt=True)`` drops images without a trainable segment (void,
            crowds and other categories do not count), ``min_size`` drops images with a shorter side. The number is
            logged. None keeps all, as published.
        backend_args: as in `mmengine.fileio.get`, for files that are not on disk.
        **kwargs: arguments of mmengine's BaseDataset: data_root, pipeline, test_mode, indices, ...

    Raises:
        ValueError: if the class list is missing or invalid, the JSON is not a panoptic one or does not match the class
            list, ids occur twice, a PNG or image is missing, the filter drops all images, or the pipeline separates
            images from segments.
        TypeError: if ``filter_cfg`` has an unknown key.
        FileNotFoundError: if the JSON, a folder or the class list does not exist.
    """

    def __init__(
        self,
        ann_file: str,
        metainfo_file: str | None = None,
        metainfo: Mapping | None = None,
        data_prefix: Mapping | None = None,
        filter_cfg: Mapping | None = None,
        reduce_zero_label: bool = False,
        backend_args: dict | None = None,
        **kwargs,
    ) -> None:
        name = type(self).__name__
        metainfo = chosen_metainfo(name, metainfo_file, metainfo, load_panoptic_metainfo)
        if not data_prefix or 'img' not in data_prefix or set(data_prefix) - FOLDERS:
            raise ValueError(
                f'{name}: data_prefix is {data_prefix}, expected dict(img=the folder of the images, seg=the folder of '
                'the panoptic PNG files), and optionally labels=the folder of semantic label maps. Fix: set these keys.'
            )
        check_filter(name, filter_cfg)
        # Not under the name of datasets with label maps, which is used to distinguish both kinds.
        self._labels_from_one = reduce_zero_label
        self.backend_args = backend_args
        super().__init__(
            ann_file=ann_file, metainfo=metainfo, data_prefix=dict(data_prefix), filter_cfg=filter_cfg, **kwargs
        )
        check_pipelines(self)

    @classmethod
    def _load_metainfo(cls, metainfo: Mapping | None = None) -> dict:
        """mmengine's hook: the metainfo of this dataset, checked."""
        loaded, own = super()._load_metainfo(metainfo), cls.METAINFO
        if metainfo is not None and 'classes' in metainfo and 'classes' in own:
            part = set(metainfo['classes']) <= set(own['classes'])
            for key in [key for key in PER_CLASS if key not in metainfo]:
                inherited = loaded.pop(key, None)
                if part and inherited is not None:
                    loaded[key] = [inherited[own['classes'].index(name)] for name in metainfo['classes']]
        return check_panoptic_metainfo(loaded, f'of {cls.__name__}')

    def load_data_list(self) -> list[dict]:
        """Read the JSON, check it against the class list and the folders, and list the images in its order.

        Returns:
            One dict for each image; see the class.

        Raises:
            ValueError, FileNotFoundError: see the class.
        """
        with_segments = self._wants_segments()
        content = read_panoptic(self.ann_file, self.backend_args, with_annotations=with_segments)
        if not content.images:
            raise ValueError(
                f"{type(self).__name__}: ann_file {self.ann_file!r} lists no 'images', expected at least one. Fix: "
                'complete it, or set ann_file to another file.'
            )
        labels = labels_of_categories(content.categories, self._metainfo, self.ann_file)
        if self.test_mode:
            self._metainfo['category_ids'] = tuple(sorted(labels, key=labels.get))
        else:
            self._metainfo.pop('category_ids', None)
        self._locate(content, with_segments)
        self._report(content, labels)
        return [self._entry(image, content.annotations.get(image['id']), labels) for image in content.images]

    def _wants_segments(self) -> bool:
        """Whether there is a folder of PNG files; raises if there is none for training."""
        if 'seg' not in self.data_prefix and not self.test_mode:
            raise ValueError(
                f"{type(self).__name__}: data_prefix is {self.data_prefix}, expected also 'seg', the folder of the "
                'panoptic PNG files, for training. Fix: add it; it is optional only with test_mode=True.'
            )
        return 'seg' in self.data_prefix

    def _locate(self, content: PanopticFile, with_segments: bool) -> None:
        """Replace the names of images and PNG files by their names below the folders of ``data_prefix``."""
        wanted = {'img': content.images} | ({'seg': list(content.annotations.values())} if with_segments else {})
        for key, rows in wanted.items():
            located = self._located([row['file_name'] for row in rows], key, content)
            for row, name in zip(rows, located, strict=True):
                row['file_name'] = name
            note_repeated(located, content.notes)
        if 'labels' in self.data_prefix:
            names = [osp.splitext(row['file_name'])[0] + '.png' for row in content.images]
            for row, name in zip(content.images, self._located(names, 'labels', content), strict=True):
                row['labels'] = name

    def _located(self, names: list[str], key: str, content: PanopticFile) -> list[str]:
        """Names of files below a folder of ``data_prefix``."""
        return locate_files(
            names,
            self.data_prefix[key],
            listed_in=self.ann_file,
            origin=f'{type(self).__name__}: data_prefix[{key!r}]',
            notes=content.notes,
            backend_args=self.backend_args,
        )

    def _label_map(self) -> dict[int, int] | None:
        """Map from the labels in semantic label maps to those of the selected classes; None if all are selected."""
        every, chosen = self.METAINFO.get('classes', ()), self._metainfo['classes']
        if not every or tuple(every) == tuple(chosen):
            return None
        return {label: chosen.index(name) if name in chosen else IGNORE_INDEX_8BIT for label, name in enumerate(every)}

    def _report(self, content: PanopticFile, labels: Mapping[int, int]) -> None:
        """Log categories of the file that are not in the class list, and accepted deviations from COCO's format."""
        others = [f'{row["name"]} ({number})' for number, row in content.categories.items() if number not in labels]
        if others:
            self._warn(
                f'{len(others)} categories of {self.ann_file} are not in the class list and become void: '
                f'{some(others, SHOWN)}'
            )
        for line in content.notes.lines():
            self._warn(line)

    def _warn(self, text: str) -> None:
        print_log(f'{type(self).__name__}: {text}', logger='current', level=logging.WARNING)

    def _entry(self, image: Mapping, annotation: Mapping | None, labels: Mapping[int, int]) -> dict:
        """The entry of an image, as the transforms expect it."""
        entry = {
            'img_id': image['id'],
            'img_path': osp.join(self.data_prefix['img'], image['file_name']),
            'height': image['height'],
            'width': image['width'],
        }
        if 'labels' in image:
            entry |= {
                'semantic_label_path': osp.join(self.data_prefix['labels'], image['labels']),
                'reduce_zero_label': self._labels_from_one,
                'label_map': self._label_map(),
            }
        if annotation is None:
            return entry
        segments, void_ids = [], []
        for segment in annotation['segments_info']:
            label = labels.get(segment['category_id'])
            if label is None:
                void_ids.append(segment['id'])
                continue
            crowd = segment['iscrowd']
            segments.append(
                {
                    'id': segment['id'],
                    'category': label,
                    'is_thing': self._metainfo['isthing'][label] and not crowd,
                    'iscrowd': crowd,
                    'area': segment['area'],
                }
            )
        path = osp.join(self.data_prefix['seg'], annotation['file_name'])
        return entry | {'seg_map_path': path, 'segments_info': segments, 'void_ids': void_ids}

    def filter_data(self) -> list[dict]:
        """Filter the images with ``filter_cfg``, in training only.

        Returns:
            The remaining entries.

        Raises:
            ValueError: if none remains.
        """
        if self.test_mode or not self.filter_cfg:
            return self.data_list
        empty = self.filter_cfg.get('filter_empty_gt', False)
        least = self.filter_cfg.get('min_size', 0)
        large = [entry for entry in self.data_list if min(entry['height'], entry['width']) >= least]
        kept = [entry for entry in large if not empty or _labels_of(entry)]
        count = (
            f'{len(self.data_list)} images, {len(kept)} of which are kept: {len(self.data_list) - len(large)} are '
            f'smaller than min_size={least}, {len(large) - len(kept)} have no trainable segment'
        )
        if not kept:
            raise ValueError(
                f'{type(self).__name__}: {self.ann_file} lists {count}. Fix: correct filter_cfg, the class list or the '
                'data.'
            )
        print_log(f'{type(self).__name__}: {self.ann_file} lists {count}.', logger='current')
        return kept

    def get_cat_ids(self, idx: int) -> list[int]:
        """Labels in an image, one for each segment except crowds; for samplers that balance classes.

        Args:
            idx: of the image.

        Returns:
            Labels in the order of the annotation.
        """
        return _labels_of(self.get_data_info(idx))


def _labels_of(entry: Mapping) -> list[int]:
    return [segment['category'] for segment in entry.get('segments_info', []) if not segment['iscrowd']]
