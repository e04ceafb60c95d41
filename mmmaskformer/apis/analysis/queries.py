"""Analyses of the classes that queries predict and of the classes per image of a dataset."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.registry import DATASETS, init_default_scope

from mmmaskformer.analysis.query_classes import ClassesPerImage, QueryClasses
from mmmaskformer.analysis.tables import csv_table
from mmmaskformer.apis.analysis.one_pass import load, predictions, require_queries
from mmmaskformer.apis.analysis.outputs import output_files
from mmmaskformer.apis.config_files import read_config_file
from mmmaskformer.apis.trained import building, merge_options
from mmmaskformer.datasets.inspection import data_sets_of
from mmmaskformer.evaluation.common import name_of
from mmmaskformer.formats.label_maps import load_labels
from mmmaskformer.formats.whole_files import write_whole
from mmmaskformer.visualization.analysis_plots import plot_class_histogram, plot_unique_classes
from mmmaskformer.visualization.samples import class_list_of

PAPER = (
    'the paper, training sets: 8.2 for ADE20K (150 classes), 6.6 for COCO-Stuff-10K (171), 9.1 for ADE20K-Full (847)'
)


class Report(NamedTuple):
    """The result of an analysis.

    Attributes:
        lines: text to print.
        files: the files written.
    """

    lines: list[str]
    files: list[Path]


def analyze_queries(
    config: str | Path,
    checkpoint: str | Path,
    out: str | Path,
    object_threshold: float = 0.0,
    cfg_options: dict | None = None,
) -> Report:
    """Count the classes that each query predicts over the test set of a config.

    Args:
        config: mmengine config file.
        checkpoint: its weights.
        out: folder for queries.csv (a row for each query, with its classes) and queries.png.
        object_threshold: only predictions with a class probability above it count.
        cfg_options: entries to replace in the config.

    Raises:
        FileNotFoundError: if config or checkpoint does not exist.
        ValueError: if the model is a per-pixel one, the weights do not fit it, or there is no image.
        OSError: if ``out`` cannot be written, before the model runs.
    """
    if not 0 <= object_threshold <= 1:
        raise ValueError(f'object threshold: found {object_threshold}, expected a number in [0, 1]')
    files = output_files(out, 'queries.csv', 'queries.png')
    trained = load(config, checkpoint, cfg_options)
    require_queries(trained, 'queries')
    found: QueryClasses | None = None
    for prediction in predictions(trained):
        num_queries, columns = prediction.class_logits.shape
        found = found or QueryClasses(num_queries, columns - 1, object_threshold)
        found.add(prediction.class_logits)
    assert found is not None, 'a test set without images was refused'
    header, rows = found.table(trained.dataset.metainfo['classes'])
    _write(files[0], header, rows)
    title = f'{Path(config).stem}: {found.num_images} images'
    plot_unique_classes(found.unique()[found.order()], title, files[1])
    unique = found.unique()
    lines = [
        f'{len(unique)} queries, {found.num_images} images, {found.counts.shape[1]} classes',
        f'unique classes of a query: highest {unique.max()}, mean {unique.mean():.1f}, lowest {unique.min()}',
        f'{(unique == 0).sum()} queries predict nothing; {(found.counts.sum(0) == 0).sum()} classes are not predicted',
    ]
    return Report(lines, files)


def analyze_classes(
    config: str | Path, out: str | Path, loader: str = 'train_dataloader', cfg_options: dict | None = None
) -> Report:
    """Count how many classes the images of a config's dataset have.

    Args:
        config: mmengine config file.
        out: folder for classes.csv (a row for each class), classes_per_image.csv and classes_per_image.png.
        loader: key of the data loader whose dataset is analysed.
        cfg_options: entries to replace in the config.

    Raises:
        FileNotFoundError: if the config or files of the dataset do not exist.
        ValueError: if the config has no such loader, or the dataset no image, no class list or no annotations.
        OSError: if ``out`` cannot be written.
    """
    cfg = read_config_file(config)
    merge_options(cfg, cfg_options)
    if cfg.get(loader) is None:
        raise ValueError(f'{config}: found no {loader!r}, expected the config of a training run')
    files = output_files(out, 'classes.csv', 'classes_per_image.csv', 'classes_per_image.png')
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    with building(f'{loader}.dataset'):
        dataset = DATASETS.build(cfg[loader].dataset)
    if not len(dataset):
        raise ValueError(f'{config}: {loader} has no image, expected at least one. Fix: check its data_root')
    classes = class_list_of(dataset).names
    found = ClassesPerImage.of(labels_of_images(dataset), len(classes))
    of_class = [[name, int(number)] for name, number in zip(classes, found.images_of_class, strict=True)]
    of_number = [[number, int(images)] for number, images in enumerate(found.histogram)]
    _write(files[0], ['class', 'images'], of_class)
    _write(files[1], ['classes', 'images'], of_number)
    plot_class_histogram(found.histogram, found.mean, f'{Path(config).stem}, {loader}', files[-1])
    line = f'{loader}: {found.num_images} images, {len(classes)} classes, {found.mean:.1f} classes per image'
    return Report([line, f'({PAPER})'], files)


def labels_of_images(dataset: Any) -> Iterator[tuple[str, list[int]]]:
    """Name and classes of each image of a dataset of either host, through wrappers."""
    for leaf in data_sets_of(dataset):
        for index in range(len(leaf)):
            info = leaf.get_data_info(index)
            yield name_of(info), labels_of_entry(leaf, info)


def labels_of_entry(dataset: Any, info: dict) -> list[int]:
    """The classes in one image, without crowds and ignored pixels.

    Args:
        dataset: dataset of the entry.
        info: the entry.

    Raises:
        ValueError: if the entry has no annotation.
    """
    if info.get('segments_info') is not None:
        return sorted({row['category'] for row in info['segments_info'] if not row.get('iscrowd')})
    if info.get('instances') is not None and info.get('seg_map_path') is None:
        return sorted({row['bbox_label'] for row in info['instances'] if not row.get('ignore_flag')})
    if info.get('seg_map_path') is None:
        raise ValueError(f'{info.get("img_path")}: found no annotation, expected a dataset with ground truth')
    ignore_index = getattr(dataset, 'ignore_index', 255)
    present = set(load_labels(info, ignore_index).ravel().tolist())
    return sorted(present - {ignore_index})


def _write(file: Path, header: list[str], rows: list[list]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, csv_table(header, rows))
