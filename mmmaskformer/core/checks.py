"""Declarations of settings: type and range of each are declared once, next to its name.

``@checked(num=whole(1), field=one_of('a', 'b'))`` on a class checks the arguments of its constructor.
"""

import difflib
import functools
import inspect
import math
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any, NamedTuple, TypeVar

Class = TypeVar('Class', bound=type)

SHOWN_ITEMS = 6
"""Number of items of a list that a message shows; for a longer list, it names the invalid item."""


class Check(NamedTuple):
    """The type and range of a setting.

    Attributes:
        expected: description for messages, such as 'a number in [0, 1]'.
        accepts: function that returns whether a value is valid.
        item: check of each value in a list or dict, so that a message can name the wrong one; None for others.
    """

    expected: str
    accepts: Callable[[Any], bool]
    item: 'Check | None' = None

    def or_none(self) -> 'Check':
        """A check that also accepts None."""
        return Check(f'{self.expected} or None', lambda value: value is None or self.accepts(value), self.item)

    def __or__(self, other: 'Check') -> 'Check':
        return Check(
            f'{self.expected} or {other.expected}',
            lambda value: self.accepts(value) or other.accepts(value),
            self.item or other.item,
        )


locators: list[Callable[[type, str, Any], str | None]] = []
"""Functions that find the arguments of a class in the config of this process. Given the class, the name of one of its
arguments and its value, they return the key of the dict that describes the class, such as 'train_dataloader.dataset',
or None.
"""


def _range(low: float, high: float) -> str:
    if math.isfinite(low) and math.isfinite(high):
        return f' in [{low}, {high}]'
    if math.isfinite(low):
        return f' of at least {low}'
    return f' of at most {high}' if math.isfinite(high) else ''


def number(low: float = -math.inf, high: float = math.inf) -> Check:
    """A finite number in [low, high], but not True or False."""

    def accepts(value) -> bool:
        return (
            isinstance(value, Real)
            and not isinstance(value, bool)
            and math.isfinite(value)
            and low <= float(value) <= high
        )

    return Check(f'a number{_range(low, high)}', accepts)


def whole(low: float = -math.inf, high: float = math.inf) -> Check:
    """A whole number in [low, high], but not True, False or 2.0."""

    def accepts(value) -> bool:
        return isinstance(value, Integral) and not isinstance(value, bool) and low <= int(value) <= high

    return Check(f'a whole number{_range(low, high)}', accepts)


def one_of(*choices) -> Check:
    """One of the given values, with the same type."""

    def accepts(value) -> bool:
        return any(type(value) is type(choice) and value == choice for choice in choices)

    return Check(' or '.join(map(repr, choices)), accepts)


def list_of(item: Check, length: int | None = None) -> Check:
    """A list, tuple or range of values of the same kind; not empty if ``length`` is None."""

    def accepts(value) -> bool:
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            return False
        return (len(value) > 0 if length is None else len(value) == length) and all(map(item.accepts, value))

    return Check(f'a list{"" if length is None else f" of {length}"}, each {item.expected}', accepts, item)


def mapping_of(item: Check) -> Check:
    """A dict with string keys whose values all satisfy ``item``."""

    def accepts(value) -> bool:
        keys_are_text = isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
        return keys_are_text and all(map(item.accepts, value.values()))

    return Check(f'a dict of names to values, each {item.expected}', accepts, item)


SIZE = Check('(height, width), two whole numbers of at least 1', list_of(whole(1), 2).accepts)
BOOLEAN = Check('True or False', lambda value: isinstance(value, bool))
TEXT = Check('a string', lambda value: isinstance(value, str))
PATH = Check('a path', lambda value: isinstance(value, str | PurePath) and str(value) != '')
MAPPING = Check('a dict', lambda value: isinstance(value, Mapping))
FRACTION = number(0, 1)
WEIGHT = number(0)
POSITIVE = Check('a number above 0', lambda value: number(0).accepts(value) and value > 0)


def check_settings(where: str, given: Mapping[str, Any], checks: Mapping[str, Check]) -> None:
    """Check values against their declarations; keys without a declaration are not checked.

    Args:
        where: key of the dict in the config, such as 'model.test_cfg.panoptic', or name of the class.
        given: values by key.
        checks: declarations by key.

    Raises:
        ValueError: if a value is invalid; names the first such key, the value and the expected values.
    """
    for key, value in given.items():
        if key in checks and not checks[key].accepts(value):
            path, found, expected = _culprit(key, value, checks[key])
            raise ValueError(f'{where}{"." * bool(where)}{path}: found {reprlib.repr(found)}, expected {expected}')


def _culprit(key: str, value: Any, check: Check) -> tuple[str, Any, str]:
    """Key, value and expectation of the only invalid item of a dict or long list; otherwise of the whole value."""
    item = check.item
    if item is None:
        return key, value, check.expected
    if isinstance(value, Mapping):
        wrong = [(f'{key}.{name}', found) for name, found in value.items() if not item.accepts(found)]
        others: Any = {name: found for name, found in value.items() if item.accepts(found)}
    elif isinstance(value, list | tuple) and len(value) > SHOWN_ITEMS:
        wrong = [(f'{key}[{number}]', found) for number, found in enumerate(value) if not item.accepts(found)]
        others = [found for found in value if item.accepts(found)]
    else:
        wrong, others = [], None
    # an item is to blame only if all others are valid
    return (*wrong[0], item.expected) if wrong and check.accepts(others) else (key, value, check.expected)


def _where(cls: type, given: Mapping[str, Any], checks: Mapping[str, Check] | None = None) -> str:
    """Where the arguments of a class are in the config, if known; otherwise the name of the class.

    Args:
        cls: the class.
        given: its arguments by name.
        checks: their declarations; None if the name of an argument is wrong, not its value.
    """
    wrong = [(key, value) for key, value in given.items() if checks is None or not _is_good(checks, key, value)]
    for locate in locators:
        for key, value in wrong:
            if (found := locate(cls, key, value)) is not None:
                return found if checks is not None else f'{found}: {cls.__name__}'
    return getattr(cls, 'config_key', cls.__name__) if checks is not None else cls.__name__


def _is_good(checks: Mapping[str, Check], key: str, value: Any) -> bool:
    return key not in checks or checks[key].accepts(value)


def refuse_unknown_keys(where: str, given: Iterable[str], accepted: Iterable[str], derived: Iterable[str] = ()) -> None:
    """Check config keys against the accepted ones.

    Args:
        where: name of the config dict, for the message.
        given: keys found.
        accepted: accepted keys.
        derived: keys that are derived from the head and must not be given here.

    Raises:
        TypeError: if a key is not accepted; names the first such key, the closest accepted one and all accepted ones.
    """
    accepted = sorted(accepted)
    for key in given:
        if key in derived:
            raise TypeError(f"{where}: '{key}' follows from the head's own settings; remove it here and set it there")
        if key not in accepted:
            close = difflib.get_close_matches(key, accepted, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ''
            raise TypeError(f"{where} does not take the key '{key}'.{hint} Accepted keys: {', '.join(accepted)}")


def checked(**checks: Check) -> Callable[[Class], Class]:
    """Class decorator: the constructor checks its arguments before it does anything else.

    Messages name the key in the config if one of the `locators` finds it, otherwise the class or its attribute
    ``config_key``. Names that are not arguments of the constructor or of a base class are refused; without a
    constructor, every argument is refused. A class derived from a checked one has both sets of checks.

    Args:
        checks: declarations of the arguments, by name.

    Returns:
        The decorator, which raises a TypeError if a declared name is not an argument.
    """

    def decorate(cls: Class) -> Class:
        original = cls.__init__  # type: ignore[misc]  # that of a derived class is decorated itself
        signature = inspect.signature(original)
        takes_more = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
        unknown = set(checks) - set(signature.parameters)
        if unknown and not takes_more:
            raise TypeError(f'{cls.__name__} has no arguments {sorted(unknown)}; expected those of its constructor')

        @functools.wraps(original)
        def checking_init(self, *args, **kwargs):
            accepted = _accepted_names(type(self), cls)
            if accepted is not None and not set(kwargs) <= accepted:
                unread = {key: value for key, value in kwargs.items() if key not in accepted}
                refuse_unknown_keys(_where(type(self), unread), unread, accepted)
            given = _arguments(signature, self, args, kwargs)
            if original is object.__init__:
                _refuse_settings(getattr(type(self), 'config_key', type(self).__name__), args, kwargs)
            if not all(_is_good(checks, key, value) for key, value in given.items()):
                check_settings(_where(type(self), given, checks), given, checks)
            original(self, *args, **kwargs)

        all_checks = getattr(cls, 'setting_checks', {}) | checks
        for name, value in (('__init__', checking_init), ('setting_checks', all_checks)):
            setattr(cls, name, value)
        return cls

    return decorate


def _accepted_names(built: type, cls: type) -> set[str] | None:
    """Names of the arguments of a class and its bases; None if the last constructor accepts any.

    Args:
        built: the class of the object.
        cls: that class or a base class, whose constructor was called; arguments of its bases count if it passes
            ``**kwargs`` to them.
    """
    names: set[str] = set()
    order = built.__mro__
    for position, base in enumerate(order[:-1]):
        if '__init__' not in vars(base):
            continue
        parameters = list(inspect.signature(vars(base)['__init__']).parameters.values())[1:]
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if position >= order.index(cls) and not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return names
    return None


def _refuse_settings(where: str, args: tuple, kwargs: Mapping[str, Any]) -> None:
    """Raise a `TypeError` if a class without settings is given any."""
    if args or kwargs:
        found = ', '.join([*map(repr, kwargs), *map(reprlib.repr, args)])
        raise TypeError(f'{where} takes no settings; found {found}. Fix: remove it')


def _arguments(signature: inspect.Signature, self, args: tuple, kwargs: dict) -> dict[str, Any]:
    """Arguments of a call by name; for a call that Python will reject, only the keyword arguments."""
    try:
        positional = signature.bind_partial(self, *args).arguments
    except TypeError:
        positional = {}
    return positional | kwargs
