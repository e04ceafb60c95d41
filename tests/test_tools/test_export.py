"""The export command and the demo, as users start them."""

import numpy as np
import pytest
import torch
from helpers.hosts import PREPROCESSOR, TINY_RESNET, head_config, make_segmentor
from helpers.runs import ROOT, run_script
from PIL import Image

CONFIG = """
default_scope = 'mmseg'
model = dict(type='EncoderDecoder', data_preprocessor={preprocessor}, backbone={backbone}, decode_head={head},
             train_cfg=dict(), test_cfg=dict(mode='whole'))
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder with a config and a checkpoint."""
    folder = tmp_path_factory.mktemp('export')
    text = CONFIG.format(preprocessor=PREPROCESSOR, backbone=TINY_RESNET, head=head_config())
    (folder / 'config.py').write_text(text)
    torch.save(dict(state_dict=make_segmentor().state_dict()), folder / 'model.pth')
    return folder


def export(folder, *arguments, check=True):
    return run_script(str(ROOT / 'tools/export.py'), 'config.py', 'model.pth', *arguments, cwd=folder, check=check,
               pythonpath=ROOT)  # fmt: skip


def test_export_and_verify(folder):
    done = export(folder, '--to', 'torchscript', '--task', 'semantic', '--out', 'model.pt', '--verify')
    rows = [line for line in done.stdout.splitlines() if line.startswith('(')]
    assert len(rows) == 3 and all('0.0000%' in row for row in rows)
    assert {path.name for path in folder.iterdir()} >= {'model.pt'} and not list(folder.glob('.*'))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('--to', 'torchscript', '--task', 'panoptic', '--out', 'x'), 'cannot separate things'),
        (('--to', 'torchscript', '--task', 'raw', '--out', 'x', '--int8'), '--int8 is for ONNX files'),
        (('--to', 'torchscript', '--task', 'raw', '--out', 'no/x'), 'the folder does not exist'),
        (('--to', 'torchscript', '--task', 'raw', '--out', 'x', '--size', '8', '8'), 'at least 64'),
    ],
)
def test_errors(folder, arguments, message):
    done = export(folder, *arguments, check=False)
    assert done.returncode == 2 and 'error: ' in done.stderr and message in done.stderr
    assert not (folder / 'x').exists()


def test_demo_refuses_other_files(folder):
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(folder / 'a.png')
    demo = str(ROOT / 'tools/onnx_demo.py')
    done = run_script(demo, 'config.py', 'a.png', '--out', 'b.png', cwd=folder, check=False)
    assert (
        done.returncode == 2
        and 'config.py: not a model that onnxruntime can read' in done.stderr
        and not (folder / 'b.png').exists()
    )
