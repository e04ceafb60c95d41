"""An mmengine hook that stores losses and gradients of test runs."""

from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class RecordGradients(Hook):
    """Writes ``rankR.pt`` into the work folder: lists of losses and of gradients by name, one entry per step."""

    def before_train(self, runner):
        self.losses, self.gradients = [], []
        model = getattr(runner.model, 'module', runner.model)

        def record(optimizer, args, kwargs):
            named = model.named_parameters()
            self.gradients.append({name: value.grad.clone() for name, value in named if value.grad is not None})

        runner.optim_wrapper.optimizer.register_step_pre_hook(record)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append({key: float(value) for key, value in outputs.items()})

    def after_train(self, runner):
        torch.save((self.losses, self.gradients), Path(runner.work_dir) / f'rank{runner.rank}.pt')
