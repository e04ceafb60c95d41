"""Pictures of what a trained model predicts on the test set of its config.

Works with any semantic segmentation config of the mmengine family: models and data sets come from mmengine's
registries and data samples are read by attribute, so no host is imported here.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine import fileio
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import load_checkpoint
from PIL import Image, ImageOps
from rich.progress import track

import mmmaskformer.registry  # noqa: F401 - before a host is loaded: makes mmcv-lite and new torch releases work
from mmmaskformer.datasets.transforms.loading import load_labels
from mmmaskformer.visualization.draw import Example, contact_sheet, side_by_side

# What the hosts ignore unless a data set says otherwise with `ignore_index`.
DEFAULT_IGNORE_LABEL = 255
OVERVIEW = 'overview'
OVERVIEW_ROWS = 4


class Setup(NamedTuple):
    """A trained model with the data to draw.

    Attributes:
        model: in evaluation mode, on its device.
        dataset: the host's, with the test pipeline.
        classes: K names.
        palette: (K, 3) colours in [0, 255], RGB.
        ignore_label: of the ground truth.
    """

    model: torch.nn.Module
    dataset: Any
    classes: Sequence[str]
    palette: Sequence[Sequence[int]]
    ignore_label: int


def draw_predictions(
    config: str | Path, checkpoint: str | Path, out_dir: str | Path, num: int = 8, cfg_options: dict | None = None
) -> list[Path]:
    """Draw image, ground truth and prediction for some images of a config's test set.

    Args:
        config: mmengine config file of a semantic segmentation model.
        checkpoint: its weights; a file, or an address that mmengine can load.
        out_dir: folder to write NAME.png for each image and overview.png with up to four of them.
        num: number of images, spread evenly over the test set; all if it has fewer.
        cfg_options: entries to replace in the config, such as {'test_dataloader.dataset.data_root': '/data'}.

    Returns:
        The files written, overview.png last.

    Raises:
        FileNotFoundError: if config or checkpoint does not exist.
        ValueError: if they do not fit each other, ``num`` is below 1, or the data cannot be drawn.
    """
    if num < 1:
        raise ValueError(f'num: found {num}, expected at least 1')
    setup = load_setup(config, checkpoint, cfg_options)
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    look = (setup.classes, setup.palette, setup.ignore_label)
    examples, files = [], []
    for index in track(spread_indices(len(setup.dataset), num), description='predictions'):
        name, example = predict_example(setup, index)
        file = out_dir / f'{name}.png'
        if file in files or name == OVERVIEW:
            file = out_dir / f'{name}_{index}.png'
        side_by_side(*example, *look).save(file)
        examples.append(example)
        files.append(file)
    chosen = [examples[position] for position in spread_indices(len(examples), OVERVIEW_ROWS)]
    files.append(out_dir / f'{OVERVIEW}.png')
    contact_sheet(chosen, *look).save(files[-1])
    return files


def spread_indices(length: int, num: int) -> list[int]:
    """At most ``num`` different indices into ``length`` items, evenly spread from the first to the last.

    Raises:
        ValueError: if there are no items.
    """
    if length < 1:
        raise ValueError('test_dataloader.dataset: found no image, expected at least one. Fix: check its data_root')
    return np.unique(np.linspace(0, length - 1, min(num, length)).round().astype(int)).tolist()


def load_setup(config: str | Path, checkpoint: str | Path, cfg_options: dict | None = None) -> Setup:
    """Build model and test set of a config and load the weights, on the best device there is.

    Args:
        config: mmengine config file.
        checkpoint: a file, or an address that mmengine can load.
        cfg_options: entries to replace in the config.

    Returns:
        Everything needed to draw.

    Raises:
        FileNotFoundError: if config or checkpoint does not exist.
        ValueError: if the config is for something else, or the weights do not fit the model.
    """
    if not Path(config).is_file():
        raise FileNotFoundError(f'config: {config} does not exist; expected an mmengine config file')
    if '://' not in str(checkpoint) and not Path(checkpoint).is_file():
        raise FileNotFoundError(f'checkpoint: {checkpoint} does not exist; expected a .pth file of a training run')
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(cfg_options or {})
    for key in ('model', 'test_dataloader'):
        if cfg.get(key) is None:
            raise ValueError(f'{config}: found no {key!r}, expected the config of a training run')
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    classes, palette = dataset.metainfo.get('classes'), dataset.metainfo.get('palette')
    if not classes or not palette:
        raise ValueError(f'{config}: the metainfo of test_dataloader.dataset has classes {classes!r} and palette '
                         f'{palette!r}, expected a name and a colour for every class')  # fmt: skip
    model = _load_model(cfg, str(checkpoint))
    return Setup(model, dataset, classes, palette, getattr(dataset, 'ignore_index', DEFAULT_IGNORE_LABEL))


def _load_model(cfg: Config, checkpoint: str) -> torch.nn.Module:
    model_cfg = cfg.model.copy()
    # The runner does the same: a config may name the preprocessor outside the model.
    if cfg.get('data_preprocessor') is not None:
        model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(model_cfg)
    try:
        # Strict, since a picture of partly random weights would look like a bad model.
        load_checkpoint(model, checkpoint, map_location='cpu', strict=True)
    except RuntimeError as error:
        problem = ' '.join(str(error).split())
        raise ValueError(
            f'checkpoint: {checkpoint} does not fit the model of the config: {problem[:300]} … '
            'Fix: give the config that it was trained with'
        ) from error
    return model.to(get_device()).eval()


def predict_example(setup: Setup, index: int) -> tuple[str, Example]:
    """Run the model on one image of the test set.

    Args:
        setup: of `load_setup`.
        index: which image.

    Returns:
        The name of the image file without its ending; image, ground truth (None if there is none) and prediction,
        all of the size of the image file.

    Raises:
        ValueError: if the model predicts no classes, or prediction or ground truth differs from the image in size.
    """
    data = setup.dataset[index]
    with torch.no_grad():
        sample = setup.model.test_step(pseudo_collate([data]))[0]
    if 'pred_sem_seg' not in sample:
        raise ValueError(f'model: found a prediction with {sorted(sample.keys())}, expected pred_sem_seg, '
                         'as models for semantic segmentation give')  # fmt: skip
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(fileio.get(sample.img_path)))).convert('RGB')
    prediction = sample.pred_sem_seg.data[0].cpu().numpy()
    if 'gt_sem_seg' in data['data_samples']:
        ground_truth = data['data_samples'].gt_sem_seg.data.squeeze(0).cpu().numpy()
    else:
        ground_truth = _read_labels(setup, index)
    _check_size('pred_sem_seg', prediction, image, sample.img_path)
    if ground_truth is not None:
        _check_size('gt_sem_seg', ground_truth, image, sample.img_path)
    return Path(sample.img_path).stem, Example(np.asarray(image), ground_truth, prediction)


def _read_labels(setup: Setup, index: int) -> np.ndarray | None:
    """Ground truth from the label file, for a test pipeline that loads none; (H, W) integer, None without a file."""
    info = setup.dataset.get_data_info(index)
    if info.get('seg_map_path') is None or not fileio.exists(info['seg_map_path']):
        return None
    return load_labels(info, setup.ignore_label)


def _check_size(key: str, labels: np.ndarray, image: Image.Image, path: str) -> None:
    if labels.shape != (image.height, image.width):
        raise ValueError(
            f'{key}: found size {labels.shape}, expected that of {path}, {(image.height, image.width)}. '
            'Fix: in the test pipeline, load annotations after resizing'
        )
