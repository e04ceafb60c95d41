"""Print the results of tools/quickstart.sh and the next steps; needs only Python.

``python tools/quickstart/summary.py RESULTS SECONDS``, in the folder that contains data/scenes.
"""

import argparse
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Only the marked lines depend on the data; unchanged, it trains on the scenes.
OWN_CONFIG = """\
# A training run on your own images with the small model of the quickstart; change the lines marked with <-.
_base_ = {base!r}
data_root = 'data/scenes'  # <- your folder
classes = {classes!r}  # <- names of labels 0, 1, 2, …; 255 in a label map is ignored
data = dict(
    _delete_=True,
    type='mmmaskformer.MaskFormerSegDataset',
    data_root=data_root,
    metainfo=dict(classes=classes),
    img_suffix='.png',  # <- suffix of the images, such as .jpg
    seg_map_suffix='.png',  # <- suffix of the label maps
)
train_dataloader = dict(
    dataset=dict(
        **data,
        data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'),  # <- folders in data_root
        pipeline=_base_.train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        **data,
        data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'),  # <-
        pipeline=_base_.test_pipeline,
        test_mode=True,
    )
)
test_dataloader = val_dataloader
model = dict(decode_head=dict(num_classes=len(classes)))
"""


def latest_scores(run: Path) -> dict[str, float]:
    """The metrics of the latest test of a run, from mmengine's log.

    Raises:
        FileNotFoundError: if there is no test.
    """
    files = sorted((run / 'test').glob('[0-9]*/[0-9]*.json'))
    if not files:
        raise FileNotFoundError(f'{run / "test"}: no scores of a test. Fix: run tools/quickstart.sh again.')
    return json.loads(files[-1].read_text().splitlines()[-1])


def table(results: Path, seconds: int) -> str:
    """Scores of both models, the time, and the paths of the figures."""
    rows = [('model', 'mIoU', 'PQ', 'pictures and curve')]
    for name in ('semantic', 'panoptic'):
        scores = latest_scores(results / name)
        pq = f'{scores["panoptic/PQ"]:.1f}' if 'panoptic/PQ' in scores else '-'
        rows.append((name, f'{scores["mIoU"]:.1f}', pq, f'{results / name}/pictures/overview.png, curve.png'))
    lines = [f'{name:10}{miou:>6}{pq:>6}  {pictures}' for name, miou, pq, pictures in rows]
    return '\n'.join([*lines, f'data, training and test took {seconds // 60} min {seconds % 60} s'])


def next_steps(results: Path) -> str:
    """Three commands that work as printed, in this folder."""
    semantic = ROOT / 'configs/scenes/maskformer_tiny_1xb8-800_scenes.py'
    panoptic = ROOT / 'configs/scenes/maskformer_tiny_1xb4-2600_scenes-panoptic.py'
    own = results / 'my_config.py'
    if not own.exists():
        part = own.with_suffix('.part')
        part.write_text(OWN_CONFIG.format(base=str(semantic), classes=scene_classes()))
        part.replace(own)  # so that the file is never incomplete
    checkpoint = shortest((results / 'panoptic/last_checkpoint').read_text())
    draw = shortest(ROOT / 'tools/draw_predictions.py')
    scene = 'data/scenes/images/val/000000.png'
    inferencer = f"DetInferencer(weights='{checkpoint}')('{scene}', out_dir='{results}/photo')"
    steps = {
        'predict on a photo (replace the path of the scene by yours; the model was trained on scenes only)': (
            f'python -c "from mmdet.apis import DetInferencer; {inferencer}"'
        ),
        'draw other images of the test set': (
            f'python {draw} {shortest(panoptic)} {checkpoint} --out {results}/more_pictures --num 30'
        ),
        f'train on your own data: change the marked lines of {own}, then': (
            f'mim train mmsegmentation {own} --work-dir {results}/mine'
        ),
    }
    lines = [f'{what}:\n    {command}' for what, command in steps.items()]
    if 'VIRTUAL_ENV' not in os.environ and Path(sys.prefix) == ROOT / '.venv':
        lines.insert(0, f'first:\n    . {shortest(ROOT / ".venv/bin/activate")}')
    return '\n'.join(lines)


def shortest(path: str | Path) -> str:
    """A path relative to the working directory if that is shorter."""
    return min(str(path), os.path.relpath(path), key=len)


def scene_classes() -> tuple[str, ...]:
    """The class list of the scenes, read from the generated data."""
    categories = json.loads(Path('data/scenes/panoptic_val.json').read_text())['categories']
    return tuple(category['name'] for category in categories)


def main() -> int:
    """Read the command line and print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('results', type=Path, help='folder with the runs semantic and panoptic')
    parser.add_argument('seconds', type=int, help='how long it took')
    args = parser.parse_args()
    try:
        print(table(args.results, args.seconds), '', 'What next (in this folder)?', sep='\n')
        print(next_steps(args.results))
    except (OSError, ValueError, KeyError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
