"""The masks of the queries that predict a class, side by side for several models, as in Figure I of the paper."""

import difflib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmmaskformer.analysis.tables import csv_table
from mmmaskformer.apis.analysis.one_pass import Trained, load, predict_image, require_queries
from mmmaskformer.apis.analysis.outputs import output_files, require_no_input
from mmmaskformer.apis.analysis.queries import Report, labels_of_entry
from mmmaskformer.core.inference.queries import confident_queries
from mmmaskformer.datasets.inspection import data_sets_of
from mmmaskformer.formats.photos import read_photo
from mmmaskformer.formats.whole_files import whole_file, write_whole
from mmmaskformer.visualization.query_masks import MaskRow, QueryMask, mask_sheet
from mmmaskformer.visualization.samples import class_list_of, spread_indices

HEADER = ['image', 'model', 'query', 'probability', 'pixels']


def draw_class_masks(
    name: str,
    models: Sequence[tuple[str | Path, str | Path]],
    out: str | Path,
    num: int = 4,
    object_threshold: float = 0.3,
    cfg_options: dict | None = None,
) -> Report:
    """Draw the masks of all queries that predict a class, for some images that contain it.

    In a model trained with semantic ground truth, one query predicts all objects of a class; in one trained with
    panoptic ground truth, a query predicts one object.

    Args:
        name: name of the class, which must be in the class lists of all models.
        models: config and checkpoint of each model.
        out: folder for CLASS.png (for each image a row per model) and CLASS.csv (a row for each query).
        num: number of images of the first model's test set; the test sets of the other models must have them too.
        object_threshold: a query predicts the class if the class is its most probable one and its probability is above
            this threshold.
        cfg_options: entries to replace in all configs.

    Raises:
        FileNotFoundError: if a config or checkpoint does not exist.
        ValueError: if a model is given twice, lacks the class or has no queries, or no image contains the class.
        OSError: if ``out`` cannot be written, before a model runs.
    """
    if num < 1 or not models:
        raise ValueError(f'--num and --model: found {num} images and {len(models)} models, expected at least one each')
    if not 0 <= object_threshold <= 1:
        raise ValueError(f'object threshold: found {object_threshold}, expected a number in [0, 1]')
    files = output_files(out, f'{_file_name(name)}.png', f'{_file_name(name)}.csv')
    titles = _titles(models)
    rows: list[list[MaskRow]] = []
    table: list[list] = []
    images: list[str] = []
    colour: Sequence[int] = ()
    for title, (config, checkpoint) in zip(titles, models, strict=True):
        trained = load(config, checkpoint, cfg_options)
        require_queries(trained, 'masks')
        require_no_input(files, trained.dataset)
        label = _label(trained, name, config)
        colour = colour or class_list_of(trained.dataset).palette[label]
        images = images or _images_with(trained, label, name, num)
        for number, index in enumerate(_indices_of(trained, images, config)):
            row = _mask_row(trained, index, label, title, object_threshold)
            if number == len(rows):
                rows.append([])
            rows[number].append(row)
            table += [[images[number], title, mask.query, mask.score, int(mask.mask.sum())] for mask in row.masks]
    files[0].parent.mkdir(parents=True, exist_ok=True)
    with whole_file(files[0]) as part:
        mask_sheet([row for of_image in rows for row in of_image], name, colour).save(part, format='PNG')
    write_whole(files[1], csv_table(HEADER, sorted(table, key=lambda line: str(line[0]))))
    lines = []
    for number, title in enumerate(titles):
        counts = [len(of_image[number].masks) for of_image in rows]
        lines.append(f'{title}: {sum(counts) / len(counts):.1f} queries per image predict {name}')
    return Report(lines, files)


def _titles(models: Sequence[tuple[str | Path, str | Path]]) -> list[str]:
    """Names of the models: the shortest parts of config and checkpoint that distinguish each from the others."""
    ways = (
        [Path(config).stem for config, _ in models],
        [f'{Path(config).stem}, {Path(checkpoint).name}' for config, checkpoint in models],
        [f'{Path(config).stem}, {checkpoint}' for config, checkpoint in models],
        [f'{config}, {checkpoint}' for config, checkpoint in models],
    )
    for titles in ways:
        if len(set(titles)) == len(models):
            return titles
    twice = [title for title, count in Counter(ways[-1]).items() if count > 1]
    raise ValueError(f'models: found {twice[0]} more than once, expected different models. Fix: leave one out')


def _label(trained: Trained, name: str, config: str | Path) -> int:
    classes = list(trained.dataset.metainfo['classes'])
    if name not in classes:
        near = difflib.get_close_matches(name, classes, n=5, cutoff=0.4) or classes[:8]
        raise ValueError(
            f'class {name!r}: {config} has no such class. Fix: use a name of its class list, such as {near}'
        )
    return classes.index(name)


def _entries(trained: Trained) -> list[tuple[Any, dict]]:
    return [(leaf, leaf.get_data_info(i)) for leaf in data_sets_of(trained.dataset) for i in range(len(leaf))]


def _images_with(trained: Trained, label: int, name: str, num: int) -> list[str]:
    """Paths of images that contain a class, spread over the test set."""
    paths = [info['img_path'] for leaf, info in _entries(trained) if label in labels_of_entry(leaf, info)]
    if not paths:
        raise ValueError(f'class {name!r}: found in no image of the test set, expected at least one')
    return [paths[i] for i in spread_indices(len(paths), num)]


def _indices_of(trained: Trained, images: Sequence[str], config: str | Path) -> list[int]:
    """Indices of images in a test set, found by path or else by file name.

    Raises:
        ValueError: if there is no such image, or several of that name.
    """
    paths = [Path(info['img_path']) for _, info in _entries(trained)]
    by_path = {str(path.resolve()): index for index, path in enumerate(paths)}
    found = []
    for image in map(Path, images):
        index = by_path.get(str(image.resolve()))
        if index is None:
            named = [number for number, path in enumerate(paths) if path.stem == image.stem]
            if len(named) != 1:
                several = f'{len(named)} images of that name, such as {paths[named[0]]}' if named else 'no such image'
                raise ValueError(
                    f'{config}: its test set has {several}, expected {image}, an image of the first model. Fix: test '
                    'all models on one image folder, with --cfg-options or in the configs'
                )
            index = named[0]
        found.append(index)
    return found


def _mask_row(trained: Trained, index: int, label: int, title: str, object_threshold: float) -> MaskRow:
    prediction = predict_image(trained, index)
    queries, labels, scores = confident_queries(prediction.class_logits, object_threshold)
    queries, scores = queries[labels == label], scores[labels == label]
    order = scores.argsort(descending=True)
    queries, scores = queries[order], scores[order]
    masks = (prediction.masks.logits(queries) >= 0).cpu().numpy()
    path = prediction.sample.metainfo['img_path']
    found = zip(queries.tolist(), scores.tolist(), masks, strict=True)
    return MaskRow(title, read_photo(path, size=prediction.masks.out_size), [QueryMask(*each) for each in found])


def _file_name(name: str) -> str:
    return ''.join(letter if letter.isalnum() else '_' for letter in name)[:60]  # file names are limited to 255 bytes
