"""Weights of classes in a classification loss, given by position or by name."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class ClassWeights(nn.Module):
    """The weight of every class; not stored in checkpoints, since it follows from the config.

    Args:
        given: a list of K weights, or a dict by class name of those that are not 1, for which `name_classes` must be
            called. All 1 if None.
        num_classes: K.

    Attributes:
        values: (K,) float32.

    Raises:
        ValueError: if the list does not have K entries.
    """

    values: Tensor

    def __init__(self, given: Sequence[float] | Mapping[str, float] | None, num_classes: int):
        super().__init__()
        self._by_name = dict(given) if isinstance(given, Mapping) else {}
        self._are_known = not self._by_name
        weights = [1.0] * num_classes if given is None or isinstance(given, Mapping) else list(given)
        if len(weights) != num_classes:
            raise ValueError(
                f'criterion.class_weight has {len(weights)} entries; expected {num_classes}, one per class. The '
                'weight of "no object" is no_object_weight'
            )
        self.register_buffer('values', torch.tensor(weights, dtype=torch.float32), persistent=False)

    def name_classes(self, names: Sequence[str]) -> None:
        """Look up the weights that are given by class name; may be called again with another class list.

        Args:
            names: K class names, in the order of the labels.

        Raises:
            ValueError: if a class with a weight is unknown or occurs twice, or there are not K names.
        """
        names = list(names)
        if len(names) != len(self.values):
            raise ValueError(
                f'found {len(names)} class names for num_classes={len(self.values)}; expected one per class'
            )
        if not self._by_name:
            return
        for name in self._by_name:
            if name not in names:
                raise ValueError(
                    f'criterion.class_weight names the class {name!r}; expected one of {names}. The weight of '
                    '"no object" is no_object_weight'
                )
            if names.count(name) > 1:
                raise ValueError(
                    f'criterion.class_weight names the class {name!r}, which occurs {names.count(name)} times in the '
                    'class list; expected once. Fix: set class_weight to a list'
                )
        weights = [self._by_name.get(name, 1.0) for name in names]
        self.values.copy_(torch.tensor(weights, dtype=torch.float32))
        self._are_known = True

    def require_names(self) -> None:
        """Check that the weights that are given by name were looked up.

        Raises:
            ValueError: if they were not.
        """
        if not self._are_known:
            raise ValueError(
                f'criterion.class_weight names {list(self._by_name)}, but the class list is unknown. Fix: keep '
                'CheckClassesHook in custom_hooks, which provides it (outside of a runner, call '
                'criterion.name_classes), or set class_weight to a list'
            )
