"""Comparison of a checkpoint with the model: a partial match is reported, a checkpoint without the head is an error."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor, nn

from mmmaskformer.checkpoints.layouts import NESTED, SWAPPED
from mmmaskformer.checkpoints.readers import is_transformers_folder
from mmmaskformer.core.checks import checked
from mmmaskformer.formats.messages import some
from mmmaskformer.heads.checkpoint_layouts import require_own_weights, require_usable_weights
from mmmaskformer.heads.conversion import convert_checkpoint
from mmmaskformer.hosts.checkpoint_files import origin_of_weights
from mmmaskformer.hosts.hooks import HEADS, bare_model, is_sharded
from mmmaskformer.registry import HOOKS

MEASURES_CHANCE = 'A test of such a model measures random weights.'
RESUMED = 'A run resumed from it would differ from the interrupted one.'


class Fit(NamedTuple):
    """The match between the weights of a checkpoint and a model; names in the order of the model or checkpoint.

    Attributes:
        loaded: weights that both have with equal shapes.
        missing: weights that the checkpoint lacks.
        reshaped: weights with another shape in the checkpoint, each with both shapes.
        unused: weights that the model lacks.
    """

    loaded: list[str]
    missing: list[str]
    reshaped: list[str]
    unused: list[str]

    def describe(self, origin: str) -> str:
        """A message with all counts and some names of each kind."""
        total = len(self.loaded) + len(self.missing) + len(self.reshaped)
        parts = [f'checkpoint {origin}: {len(self.loaded)} of the {total} weights of the model are loaded']
        kinds = (
            (self.missing, 'are not in it'),
            (self.reshaped, 'have another shape in it'),
            (self.unused, 'of its weights are not in the model'),
        )
        parts += [f'{len(names)} {what} ({some(names)})' for names, what in kinds if names]
        return '; '.join(parts)


@HOOKS.register_module()
@checked()
class CheckCheckpointHook(Hook):
    """Compares a checkpoint with the model before its weights are used, for load_from, resume and tests.

    A MaskFormer checkpoint of another package is converted in memory, which is logged; see docs/checkpoints.md. A
    checkpoint without weights of the head is an error, which describes the checkpoint. A partial match is logged in
    training, with counts and names. In a validation, a test or a resumed run it is an error, since the remaining
    weights would be random; mmengine would only log all names. Weights with inf or NaN are an error. A model with
    parameters that FSDP has flattened is not checked.
    """

    priority = 'HIGH'  # after ShareWeightsHook, which renames weights, and before hooks that load something

    def __init__(self) -> None:
        self._fit: Fit | None = None
        self._origin: str | None = None

    def before_run(self, runner: Runner) -> None:
        """Refuse a path that is not a checkpoint; mmengine's error shows only the path. DeepSpeed saves folders.

        Raises:
            FileNotFoundError: if load_from or the checkpoint of a test does not exist, or is a folder without a model
                of transformers.
        """
        path = getattr(runner, '_load_from', None)
        if not path or '://' in str(path) or Path(path).expanduser().is_file() or is_transformers_folder(path):
            return
        is_folder = Path(path).expanduser().is_dir()
        if not (is_folder and hasattr(runner, 'strategy')):
            raise FileNotFoundError(
                f'load_from={str(path)!r}: found {"a folder" if is_folder else "no such file"}, expected a checkpoint, '
                'such as the iter_*.pth of a work dir, or a folder of transformers with config.json. Fix: correct '
                'load_from in the config, or the path of the checkpoint on the command line; relative paths start at '
                'the working directory.'
            )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Rename the weights of another package's MaskFormer, then compare names and shapes.

        Raises:
            ValueError: if the checkpoint lacks weights of the head, cannot be converted, holds inf or NaN, or does not
                match the model of a resumed run.
        """
        model = bare_model(runner.model)
        convert_checkpoint(model, checkpoint)
        if is_sharded(runner.model):
            return
        weights = {key.removeprefix('module.'): value for key, value in _weights_read_by_mmengine(checkpoint).items()}
        self._origin = origin_of_weights(runner)
        for key in HEADS:
            own = [f'{key}.{name}' for name, _ in getattr(model, key, nn.Identity()).named_parameters()]
            try:
                require_own_weights(own, weights, f'model.{key}', _all_names(checkpoint))
            except ValueError as error:
                raise ValueError(f'{self._origin}: {error}') from None
        self._fit = compare_weights(model, weights)
        require_usable_weights(model.state_dict(), weights, self._origin)
        if getattr(runner, '_resume', False):  # before the optimiser is restored, whose error names nothing
            self._require_parameters(runner, RESUMED)
            self._require_swapped(model, checkpoint)

    def before_train(self, runner: Runner) -> None:
        """Report a partial load, and refuse to resume from it."""
        if getattr(runner, '_resume', False):
            self._require_parameters(runner, RESUMED)
        if self._is_partial():
            text = f'{self._fit.describe(self._origin)}. The weights that are not loaded keep their initial values.'
            print_log(text, logger='current', level=logging.WARNING)
        self._fit = None

    def before_val(self, runner: Runner) -> None:
        """Refuse a partial load."""
        self._require_parameters(runner, MEASURES_CHANCE)

    def before_test(self, runner: Runner) -> None:
        """Refuse a partial load."""
        self._require_parameters(runner, MEASURES_CHANCE)

    def _require_swapped(self, model: nn.Module, checkpoint: Mapping) -> None:
        """Check the weights of the run in a checkpoint of EMAHook, which swaps them with their average on resume.

        The hook would train on with the average of a weight that is missing there.
        """
        swapped = checkpoint.get(SWAPPED)
        if not isinstance(swapped, Mapping):
            return
        named = {key.partition('module.')[2]: value for key, value in swapped.items() if key.startswith('module.')}
        weights = {key: value for key, value in named.items() if isinstance(value, Tensor)}
        fit, origin = compare_weights(model, weights), f"{self._origin}, its '{SWAPPED}'"
        if fit.missing or fit.reshaped:
            raise ValueError(
                f'{fit.describe(origin)}. {RESUMED} Fix: use the config and checkpoint of the same training run.'
            )
        require_usable_weights(model.state_dict(), weights, origin)

    def _is_partial(self) -> bool:
        return self._fit is not None and bool(self._fit.missing or self._fit.reshaped or self._fit.unused)

    def _require_parameters(self, runner: Runner, why: str) -> None:
        if not self._is_partial():
            return
        names = [name.split(' ')[0] for name in (*self._fit.missing, *self._fit.reshaped)]
        learnt = {name for name, _ in bare_model(runner.model).named_parameters()}
        absent = [name for name in names if name in learnt or name.endswith(('running_mean', 'running_var'))]
        text = self._fit.describe(self._origin)
        if absent:
            raise ValueError(f'{text}. {why} Fix: use the config and the checkpoint of the same training run.')
        print_log(f'{text}.', logger='current', level=logging.WARNING)
        self._fit = None


def compare_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> Fit:
    """Compare names and shapes.

    Args:
        model: model without wrappers.
        weights: weights of a checkpoint.
    """
    own = {
        name: value
        for name, value in model.state_dict().items()
        # mmengine ignores them as well: batch norms of old torch releases had none.
        if not name.endswith('num_batches_tracked') and isinstance(value, Tensor)
    }
    shared = {name: (tuple(value.shape), tuple(weights[name].shape)) for name, value in own.items() if name in weights}
    return Fit(
        loaded=[name for name, (ours, theirs) in shared.items() if ours == theirs],
        missing=[name for name in own if name not in shared],
        reshaped=[f'{name} {theirs} instead of {ours}' for name, (ours, theirs) in shared.items() if ours != theirs],
        unused=[name for name in weights if name not in own and not name.endswith('num_batches_tracked')],
    )


def _weights_read_by_mmengine(checkpoint: Mapping) -> dict[str, Tensor]:
    weights = checkpoint.get('state_dict', checkpoint)
    return {key: value for key, value in weights.items() if isinstance(value, Tensor)}


def _all_names(checkpoint: Mapping) -> list[str]:
    """Names of weights wherever programs put them."""
    nested = next((checkpoint[key] for key in NESTED if isinstance(checkpoint.get(key), Mapping)), checkpoint)
    return [str(key) for key, value in nested.items() if hasattr(value, 'shape')]
