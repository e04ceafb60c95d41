"""COCO instance segmentation for MMDetection, with defects of the files counted; a registry location."""

import logging
from collections.abc import Mapping
from typing import Any

from mmengine.logging import print_log

from mmmaskformer.core.checks import BOOLEAN, MAPPING, PATH, TEXT, checked, one_of, whole
from mmmaskformer.datasets.files import locate_files, note_repeated
from mmmaskformer.datasets.metainfo import require_names
from mmmaskformer.datasets.reading import NamesUnreadableImages
from mmmaskformer.datasets.settings import INDICES, PIPELINE, check_filter
from mmmaskformer.formats.coco_instances import InstanceFile, read_instances
from mmmaskformer.formats.messages import some
from mmmaskformer.registry import DATASETS

# After our registry, which makes mmdet importable with mmcv-lite.
from mmdet.datasets import CocoDataset  # isort: skip

SHOWN = 8
FOLDERS = {'img', 'seg'}
"""Keys of ``data_prefix`` that MMDetection's class reads."""


@DATASETS.register_module()
@checked(
    ann_file=PATH | one_of(''),
    metainfo=MAPPING.or_none(),
    data_root=TEXT.or_none(),
    data_prefix=MAPPING,
    filter_cfg=MAPPING.or_none(),
    indices=INDICES,
    serialize_data=BOOLEAN,
    pipeline=PIPELINE,
    test_mode=BOOLEAN,
    lazy_init=BOOLEAN,
    max_refetch=whole(0),
    seg_map_suffix=TEXT,
    proposal_file=PATH.or_none(),
    file_client_args=MAPPING.or_none(),
    backend_args=MAPPING.or_none(),
    return_classes=BOOLEAN,
    caption_prompt=MAPPING.or_none(),
)
class CocoInstanceDataset(NamesUnreadableImages, CocoDataset):
    """MMDetection's CocoDataset for files of any origin, with the same entries and arguments.

    Differs from the host's class: annotations without an outline, at which its training would stop, are dropped and
    counted. A missing box is computed from the outline. Each class is found by its name; in the host's class, a class
    that is missing in the file, duplicated or in another position shifts the labels of later ones. All listed images
    must exist and have the listed size. Image names may be absolute or contain './' and backslashes. With
    ``test_mode`` the classes must be those of the file in its order, since MMDetection's CocoMetric reads the file
    again and numbers them in that order.

    Args:
        **kwargs: arguments of MMDetection's CocoDataset.

    Raises:
        TypeError: if ``filter_cfg`` has an unknown key.
        ValueError: if ``data_prefix`` has an unknown key, a value of ``filter_cfg`` is wrong, the file is not a COCO
            instance JSON, has no images, has none of the classes or a duplicate one, or an image is missing or, when
            it is loaded, has another size.
        FileNotFoundError: if the file or the folder of the images does not exist.
    """

    def __init__(self, *args, **kwargs) -> None:
        name, others = type(self).__name__, set(kwargs.get('data_prefix') or ()) - FOLDERS
        if others:
            raise ValueError(
                f'{name}.data_prefix: found the keys {sorted(others)}, expected only {sorted(FOLDERS)}. Fix: remove or '
                'correct them.'
            )
        check_filter(name, kwargs.get('filter_cfg'))
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read the JSON and list the images in its order; see `CocoDataset.load_data_list`."""
        content = read_instances(self.ann_file, self.backend_args)
        if not content.images:
            raise ValueError(
                f"{type(self).__name__}: ann_file {self.ann_file!r} lists no 'images', expected at least one. Fix: "
                'complete it, or set ann_file to another file.'
            )
        self.cat2label = self._labels(content)
        self.cat_ids = sorted(self.cat2label, key=self.cat2label.get)
        self.cat_img_map = {number: [] for number in self.cat_ids}
        self._locate(content)
        entries = []
        for image in content.images:
            rows = [row for row in content.annotations[image['id']] if row['category_id'] in self.cat2label]
            for row in rows:
                self.cat_img_map[row['category_id']].append(image['id'])
            raw = {'raw_ann_info': rows, 'raw_img_info': image | {'img_id': image['id']}}
            entries.append(self.parse_data_info(raw))
        self._report(content)
        return entries

    def prepare_data(self, idx: int) -> Any:
        """Load an image and apply the pipeline.

        Args:
            idx: of the image.

        Raises:
            ValueError: if the file cannot be decoded, or its size is not that in the JSON: outlines would be drawn in
                wrong places, and pycocotools would compare masks of different sizes.
        """
        prepared = super().prepare_data(idx)
        sample = prepared.get('data_samples') if isinstance(prepared, Mapping) else None
        if sample is not None and 'ori_shape' in sample.metainfo_keys():
            info, found = self.get_data_info(idx), tuple(sample.ori_shape[:2])
            if found != (info['height'], info['width']):
                raise ValueError(
                    f'image {info["img_path"]}: read with {found[0]} x {found[1]} pixels (height x width), but '
                    f'{self.ann_file} lists {info["height"]} x {info["width"]}. Fix: use the images that were '
                    "annotated, or correct 'height', 'width' and the outlines; if sides are swapped, the annotation "
                    'or the image ignores an EXIF orientation.'
                )
        return prepared

    def _labels(self, content: InstanceFile) -> dict[int, int]:
        """Labels by category id, found by name."""
        require_names(self.metainfo['classes'], f'of {type(self).__name__}')
        names = [name.strip() for name in content.categories.values()]
        labels = {name.strip(): label for label, name in enumerate(self.metainfo['classes'])}
        twice = sorted({name for name in names if name in labels and names.count(name) > 1})
        if twice:
            raise ValueError(
                f'instance file {self.ann_file}: several categories have the same name: {twice}; expected one per '
                'class. Fix: merge or rename them in the file.'
            )
        found = {number: labels[name.strip()] for number, name in content.categories.items() if name.strip() in labels}
        if not found:
            raise ValueError(
                f"instance file {self.ann_file}: its 'categories' are {names[:SHOWN]}, none of which is among the "
                f'classes {list(labels)[:SHOWN]}. Fix: set metainfo=dict(classes=(names), ...) of the dataset.'
            )
        if self.test_mode and list(found.values()) != list(range(len(labels))):
            raise ValueError(
                f'instance file {self.ann_file}: its categories that are classes have the order '
                f'{[content.categories[number] for number in found][:SHOWN]}, but the class list is '
                f"{list(labels)[:SHOWN]}. MMDetection's metric uses the order of the file. Fix: list all classes in "
                "the file's 'categories', in the order of the class list."
            )
        return found

    def _locate(self, content: InstanceFile) -> None:
        names = locate_files(
            [image['file_name'] for image in content.images],
            self.data_prefix['img'],
            listed_in=self.ann_file,
            origin=f"{type(self).__name__}: data_prefix['img']",
            notes=content.notes,
            backend_args=self.backend_args,
        )
        for image, name in zip(content.images, names, strict=True):
            image['file_name'] = name
        note_repeated(names, content.notes)

    def _report(self, content: InstanceFile) -> None:
        """Log what was dropped."""
        others = [name for number, name in content.categories.items() if number not in self.cat2label]
        absent = sorted(set(range(len(self.metainfo['classes']))) - set(self.cat2label.values()))
        if others:
            count = sum(
                row['category_id'] not in self.cat2label for rows in content.annotations.values() for row in rows
            )
            self._warn(
                f'{len(others)} categories of {self.ann_file} are not in the class list; their {count} annotations are '
                f'dropped: {some(others, SHOWN)}'
            )
        if absent:
            names = [self.metainfo['classes'][label] for label in absent]
            self._warn(f'{len(absent)} classes are not among the categories of {self.ann_file}: {some(names, SHOWN)}')
        for line in content.notes.lines():
            self._warn(line)

    def _warn(self, text: str) -> None:
        print_log(f'{type(self).__name__}: {text}', logger='current', level=logging.WARNING)
