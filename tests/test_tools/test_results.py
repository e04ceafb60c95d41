"""The comparison of docs/results.md: its command, and models that differ only in what is compared."""

import argparse
import os
import re
import subprocess

import pytest
import torch
from helpers import hosts
from helpers.fresh import ROOT
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

import mmmaskformer.registry  # noqa: F401  must come before the hosts where mmcv-lite is installed
from mmmaskformer.apis.cli import sweep
from mmmaskformer.apis.sweep_plan import cases_of, plan

FAMILIES = ('scenes', 'camvid')
SCRIPT = ROOT / 'tools/results.sh'
PAGE = (ROOT / 'docs/results.md').read_text(encoding='utf-8')
# Replaces python in the script and records how it was called.
PYTHON = """#!/bin/sh
for word in "$@"; do printf '%s\\n' "$word"; done >> calls
"""
SAME = ('train_dataloader', 'test_dataloader', 'test_evaluator', 'optim_wrapper', 'param_scheduler', 'train_cfg')


def called(folder, *arguments, **environment) -> tuple[list[str], subprocess.CompletedProcess]:
    """The arguments with which the script calls Python, in a folder with the data that it expects."""
    (folder / 'bin').mkdir()
    (folder / 'bin/python').write_text(PYTHON)
    (folder / 'bin/python').chmod(0o755)
    path = f'{folder / "bin"}:{os.environ["PATH"]}'
    done = subprocess.run(
        ['bash', str(SCRIPT), *arguments], cwd=folder, env={**os.environ, 'PATH': path, **environment},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    calls = folder / 'calls'
    return calls.read_text().splitlines() if calls.is_file() else [], done


def folder_with_data(folder):
    for name in ('data/camvid/images', 'data/camvid/annotations', 'checkpoints/efficientnet_lite0.pth'):
        (folder / name).mkdir(parents=True)
    return folder


@pytest.fixture(scope='module', params=FAMILIES)
def rows(request, tmp_path_factory) -> dict[str, tuple[str, Config]]:
    """Rows of a table: name, config file, and the config as trained."""
    folder = tmp_path_factory.mktemp('results')
    words, done = called(folder_with_data(folder), request.param)
    assert done.returncode == 0, done.stderr
    parser = argparse.ArgumentParser()
    sweep.add_arguments(parser)
    arguments = parser.parse_args(words[words.index('sweep') + 1 :])
    assert arguments.seeds == [0, 1, 2] and arguments.inference
    found = {}
    cases = cases_of(arguments.key, arguments.values, arguments.case)
    for run in plan(arguments.config, cases, folder, common=arguments.cfg_options):
        found[run.case.name] = os.path.relpath(run.case.config or arguments.config, ROOT), run.config
    return found


def test_seeds_and_further_arguments_are_passed_on(tmp_path):
    words, _ = called(tmp_path, 'scenes', '--print', SEEDS='4 5')
    assert words[words.index('--seeds') + 1 :][:3] == ['4', '5', '--inference'] and words[-1] == '--print'
    assert words[:4] == ['-m', 'mmmaskformer', 'scenes', 'data/scenes']


@pytest.mark.parametrize('arguments, message', [((), 'expected scenes or camvid'), (('camvid',), 'not found. Fix:')])
def test_what_is_missing_is_named_before_anything_is_done(tmp_path, arguments, message):
    words, done = called(tmp_path, *arguments)
    assert done.returncode == 2 and message in done.stderr and not words


def test_the_budget_is_the_same_for_all_rows(rows):
    (first, *others) = (config for _, config in rows.values())
    for other in others:
        assert all(other[key] == first[key] for key in SAME)
        assert other.model.backbone == first.model.backbone
        heads = first.model.decode_head, other.model.decode_head
        assert all(head.channels == heads[0].channels for head in heads)
        assert heads[0].pixel_decoder == heads[1].pixel_decoder
        if 'transformer_decoder' in heads[1]:
            assert heads[0].transformer_decoder == heads[1].transformer_decoder
    decoders = ['transformer_decoder' in config.model.decode_head for _, config in rows.values()]
    assert decoders == [True] * 5 + [False]
    queries = [config.model.decode_head.get('num_queries') for _, config in rows.values()]
    assert queries[1] == queries[2] == first.model.decode_head.num_classes


def test_the_page_has_every_row_with_its_config(rows):
    for name, (file, _) in rows.items():
        assert re.search(rf'^\| \[{re.escape(name)}\]\(\.\./{re.escape(file)}\) \|', PAGE, re.MULTILINE), name


@pytest.mark.parametrize('number', range(6))
def test_every_row_trains(rows, number):
    """One optimiser step on two small images: finite losses, and a gradient for every trained weight."""
    config = list(rows.values())[number][1].model
    config.backbone.pop('init_cfg', None)  # weights from a file
    torch.manual_seed(0)
    pairs = [hosts.make_sample((64, 96), seed=seed) for seed in range(2)]
    batch = dict(inputs=[image for image, _ in pairs], data_samples=[sample for _, sample in pairs])
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(config)
        model.init_weights()
        losses = model.loss(**model.data_preprocessor(batch, training=True))
    total, _ = model.parse_losses(losses)
    assert total.isfinite() and total > 0
    total.backward()
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)
    before = [weight.detach().clone() for weight in model.decode_head.parameters()]
    torch.optim.AdamW(model.parameters(), lr=1e-3).step()
    assert any(not torch.equal(old, new) for old, new in zip(before, model.decode_head.parameters(), strict=True))
