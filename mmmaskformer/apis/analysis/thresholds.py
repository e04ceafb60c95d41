"""Sweep of the object and overlap thresholds of panoptic inference with a single run of the network."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import track

from mmmaskformer.analysis.stored import StoredPrediction
from mmmaskformer.analysis.tables import csv_table, markdown_table
from mmmaskformer.analysis.threshold_sweep import ThresholdSweep
from mmmaskformer.apis.analysis.evaluators import truth_settings
from mmmaskformer.apis.analysis.one_pass import Trained, load, predictions
from mmmaskformer.apis.analysis.outputs import output_files
from mmmaskformer.apis.analysis.queries import Report
from mmmaskformer.evaluation.common import image_key, name_of, panoptic_truth
from mmmaskformer.formats.whole_files import require_writable, whole_folder, write_whole
from mmmaskformer.visualization.analysis_plots import plot_thresholds

OBJECT = tuple(step / 20 for step in range(20))
OVERLAP = tuple(step / 10 for step in range(10))
FILES = ('thresholds.csv', 'thresholds.md', 'thresholds.png')
LIST_FILE = 'predictions.json'
LIST_KEYS = ('name', 'object_threshold', 'is_thing', 'truth', 'images')
TRUTH_KEYS = ('img_id', 'img_path', 'seg_map_path', 'segments_info', 'void_ids')


class Entry(NamedTuple):
    """An image of a sweep.

    Attributes:
        prediction: prediction for the image.
        sample: data sample with the ground truth, as `panoptic_truth` reads it.
    """

    prediction: StoredPrediction
    sample: dict


def sweep_thresholds(
    config: str | Path,
    checkpoint: str | Path,
    out: str | Path,
    object_thresholds: Sequence[float] = OBJECT,
    overlap_thresholds: Sequence[float] = OVERLAP,
    store: str | Path | None = None,
    cfg_options: dict | None = None,
) -> Report:
    """Run a panoptic model once over the test set of its config and compute PQ for every pair of thresholds.

    Args:
        config: mmengine config file.
        checkpoint: its weights.
        out: folder for thresholds.csv, thresholds.md and thresholds.png.
        object_thresholds: thresholds of class probabilities, in [0, 1].
        overlap_thresholds: thresholds of the ratio of areas, in [0, 1].
        store: folder in which the predictions are stored for `sweep_stored`; None stores nothing. Queries below the
            lowest object threshold are not stored.
        cfg_options: entries to replace in the config.

    Raises:
        FileNotFoundError: if config or checkpoint does not exist.
        ValueError: if the model is not panoptic, a threshold is out of range, or there is no image or no ground truth.
        OSError: if ``out`` or ``store`` cannot be written, or ``store`` holds something else, before the model runs.
    """
    files = output_files(out, *FILES)
    if store is not None:
        _require_free(Path(store))
    trained = load(config, checkpoint, cfg_options)
    if not trained.is_panoptic:
        raise ValueError(
            f'{config}: found a semantic model, expected a panoptic one. Fix: use the config of a panoptic model; '
            'mmmaskformer analyze inference compares the inference modes of a semantic one'
        )
    sweep = ThresholdSweep(object_thresholds, overlap_thresholds, trained.is_thing)
    lowest, truth = sweep.object_thresholds[0], truth_settings(trained.config, 'PanopticMetric')
    entries = _entries_of(trained, lowest)
    if store is None:
        _add_all(sweep, entries, truth)
    else:
        with whole_folder(store) as folder:
            _add_all(sweep, _storing(entries, folder, trained, lowest, truth), truth)
    current = (trained.config.model.get('test_cfg') or {}).get('panoptic') or {}
    return _report(sweep, files, Path(config).stem, current.get('object_threshold', 0.8))


def _require_free(store: Path) -> None:
    """Check that a folder for predictions can be written and holds nothing but older predictions."""
    require_writable(store, 'store', folder=True)
    if store.is_dir() and any(store.iterdir()) and not (store / LIST_FILE).is_file():
        raise FileExistsError(
            f'store: {store} holds something other than stored predictions; expected no such folder, or an empty one. '
            'Fix: choose another folder'
        )


def sweep_stored(
    stored: str | Path,
    out: str | Path,
    object_thresholds: Sequence[float] | None = None,
    overlap_thresholds: Sequence[float] = OVERLAP,
) -> Report:
    """Like `sweep_thresholds`, from stored predictions, without a model.

    Args:
        stored: folder of the predictions.
        out: as in `sweep_thresholds`.
        object_thresholds: not below the threshold of the stored predictions; None takes the defaults from there on.
        overlap_thresholds: thresholds of the ratio of areas, in [0, 1].

    Raises:
        FileNotFoundError: if the folder has no stored predictions.
        ValueError: if an object threshold is below the one of the stored predictions.
    """
    files = output_files(out, *FILES)
    content = _read_list(Path(stored))
    lowest = content['object_threshold']
    if object_thresholds is None:
        object_thresholds = sorted({lowest, *(threshold for threshold in OBJECT if threshold >= lowest)})
    if min(object_thresholds, default=lowest) < lowest:
        raise ValueError(
            f'object thresholds: found {min(object_thresholds)}, expected at least {lowest}, the threshold of the '
            f'predictions in {stored}. Fix: omit lower ones, or store the predictions again'
        )
    sweep = ThresholdSweep(object_thresholds, overlap_thresholds, content['is_thing'])
    images = track(content['images'], description='images')
    _add_all(
        sweep,
        (Entry(StoredPrediction.load(Path(stored) / image['file']), image['sample']) for image in images),
        content['truth'],
    )
    return _report(sweep, files, content['name'], None)


def _read_list(stored: Path) -> dict[str, Any]:
    """The list of stored predictions.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is no such list.
    """
    file = stored / LIST_FILE
    if not file.is_file():
        raise FileNotFoundError(
            f'{stored}: found no {LIST_FILE}, expected stored predictions. Fix: mmmaskformer analyze thresholds CONFIG '
            f'CHECKPOINT --store {stored}'
        )
    try:
        content = json.loads(file.read_text(encoding='utf-8'))
        missing = [key for key in LIST_KEYS if key not in content]
    except (ValueError, TypeError) as error:
        raise ValueError(f'{file}: is not JSON ({error}). Fix: store the predictions again') from error
    if missing:
        raise ValueError(f'{file}: found no {missing}, expected {list(LIST_KEYS)}. Fix: store the predictions again')
    return content


def _entries_of(trained: Trained, lowest: float) -> Iterator[Entry]:
    for prediction in predictions(trained):
        metainfo = prediction.sample.metainfo
        sample = {key: metainfo[key] for key in TRUTH_KEYS if key in metainfo}
        yield Entry(StoredPrediction.of(prediction.class_logits, prediction.masks, lowest), sample)


def _storing(
    entries: Iterable[Entry], folder: Path, trained: Trained, lowest: float, truth: dict[str, Any]
) -> Iterator[Entry]:
    """Store each entry and pass it on; the list of files is written last."""
    images: list[dict[str, Any]] = []
    for number, entry in enumerate(entries):
        file = f'{number:06d}.npz'
        entry.prediction.save(folder / file)
        sample = dict(entry.sample)
        if sample.get('seg_map_path') is not None:
            sample['seg_map_path'] = str(Path(sample['seg_map_path']).resolve())
        images.append(dict(file=file, sample=sample))
        yield entry
    name = Path(trained.config.filename or 'model').stem
    content = dict(name=name, object_threshold=lowest, is_thing=trained.is_thing, truth=truth, images=images)
    write_whole(folder / LIST_FILE, json.dumps(content))


def _add_all(sweep: ThresholdSweep, entries: Iterable[Entry], settings: dict[str, Any]) -> None:
    """Add every image once: a padded last batch of a distributed sampler repeats some.

    Args:
        sweep: sweep to which the images are added.
        entries: entries of all images.
        settings: arguments of `panoptic_truth`, as the config's metric has them.
    """
    is_thing, seen = list(map(bool, sweep.is_thing)), set()
    for prediction, sample in entries:
        key = image_key(sample)
        if key is not None and key in seen:
            continue
        seen.add(key)
        try:
            truth = panoptic_truth(sample, is_thing, **settings)
        except KeyError as error:
            raise ValueError(error.args[0]) from error
        sweep.add(prediction, truth, name_of(sample))


def _report(sweep: ThresholdSweep, files: list[Path], name: str, current: float | None) -> Report:
    best = sweep.best()
    header, rows = sweep.table()
    title = f'{name}: panoptic quality in percent, {sweep.num_images} images'
    files[0].parent.mkdir(parents=True, exist_ok=True)
    write_whole(files[0], csv_table(header, rows))
    write_whole(files[1], f'{title}; rows: object threshold\n\n{markdown_table(*sweep.grid())}')
    plot_thresholds(100 * sweep.pq(), sweep.object_thresholds, sweep.overlap_thresholds, title, files[-1])
    lines = [
        f'best PQ {100 * best.pq:.2f}: --cfg-options '
        f'model.test_cfg.panoptic.object_threshold={best.object_threshold:g} '
        f'model.test_cfg.panoptic.overlap_threshold={best.overlap_threshold:g}',
        f'images without a segment there: {best.empty_images} of {sweep.num_images}',
    ]
    shown = {best.object_threshold, *([] if current is None else [current])}
    return Report([*lines, *(line for threshold in sorted(shown) for line in sweep.explain_empty(threshold))], files)
