"""Declarations of settings."""

import pytest

from mmmaskformer.core import checks
from mmmaskformer.core.checks import (
    BOOLEAN,
    FRACTION,
    PATH,
    check_settings,
    checked,
    list_of,
    mapping_of,
    number,
    one_of,
    whole,
)

NAN = float('nan')


@pytest.mark.parametrize(
    'check, good, bad',
    [
        (number(0), [0, 0.0, 3.5], [-1e-9, NAN, float('inf'), True, '1', None, [1]]),
        (FRACTION, [0, 1, 0.5], [-0.1, 1.5, NAN, '0.5']),
        (whole(1), [1, 7], [0, 1.0, 2.5, True, '3', None]),
        (whole(0, 255), [0, 255], [-1, 256]),
        (one_of('a', 'b'), ['a'], ['A', '', None, ['a']]),
        (list_of(whole(1)), [[1], (2, 3), range(1, 3)], [[], [0], 3, '12', None, [1, True]]),
        (list_of(whole(1), 2), [(1, 2)], [(1,), (1, 2, 3)]),
        (mapping_of(number(0)), [{}, {'cls': 1}], [{'cls': -1}, {1: 1}, [1]]),
        (BOOLEAN, [True, False], [0, 1, 'false', None]),
        (PATH, ['a/b'], ['', 3, None]),
        (whole(1).or_none(), [None, 1], [0]),
        (whole(1) | list_of(whole(1)), [1, [1]], [0, [0], '']),
    ],
)
def test_a_check_distinguishes_values(check, good, bad):
    assert all(map(check.accepts, good))
    assert not any(map(check.accepts, bad))


def test_a_message_names_key_found_and_expected():
    with pytest.raises(ValueError, match=r'^model.test_cfg.panoptic.t: found 1.5, expected a number in \[0, 1\]$'):
        check_settings('model.test_cfg.panoptic', {'other': 7, 't': 1.5}, {'t': FRACTION})
    with pytest.raises(
        ValueError, match=r"^a.size: found '9', expected a list of 2, each a whole number of at least 1$"
    ):
        check_settings('a', {'size': '9'}, {'size': list_of(whole(1), 2)})


WEIGHTS = (list_of(number(0)) | mapping_of(number(0))).or_none()


@pytest.mark.parametrize('value, message', [
    (dict(cls=1.0, mask=-1, dice=1.0), 'a.w.mask: found -1, expected a number of at least 0$'),
    ([1.0] * 150 + ['x'], r"a.w\[150\]: found 'x', expected a number of at least 0$"),
    ([1, -1], r'a.w: found \[1, -1\], expected a list, each a number of at least 0 or a dict'),
    ('1', "a.w: found '1', expected a list"),
    ({1: 1}, r'a.w: found \{1: 1\}, expected a list'),
])  # fmt: skip
def test_the_wrong_value_of_many_is_named(value, message):
    with pytest.raises(ValueError, match=f'^{message}'):
        check_settings('a', dict(w=value), dict(w=WEIGHTS))
    with pytest.raises(ValueError, match=r"^size: found '9'"):
        check_settings('', dict(size='9'), dict(size=whole()))


def test_a_list_is_expected_and_a_dict_found():
    with pytest.raises(ValueError, match=r'^a.size: found \{.x.: 0\}, expected a list, each a whole number'):
        check_settings('a', dict(size=dict(x=0)), dict(size=list_of(whole(1))))


@checked(size=whole(1), step=number(0).or_none())
class Base:
    def __init__(self, size, step=None):
        self.size = size


@checked(name=one_of('a', 'b'))
class Derived(Base):
    config_key = 'model.derived'

    def __init__(self, name='a', **settings):
        super().__init__(**settings)


def test_a_decorated_class_checks_arguments_however_they_are_given():
    assert Base(2).size == Base(size=2).size == Derived(size=2).size == 2
    for call in (lambda: Base(0), lambda: Base(size=0), lambda: Base(1, -1)):
        with pytest.raises(ValueError, match=r'^Base\.(size: found 0|step: found -1), expected'):
            call()
    with pytest.raises(ValueError, match=r'^model.derived.size: found 0'):
        Derived(size=0)
    with pytest.raises(ValueError, match=r"^model.derived.name: found 'c', expected 'a' or 'b'"):
        Derived('c', size=1)
    assert set(Derived.setting_checks) == {'size', 'step', 'name'}


class Taking(Derived):
    """Removes one of its own arguments before it passes the others on."""

    def __init__(self, **settings):
        self.colour = settings.pop('colour', None)
        super().__init__(**settings)


class Anything:
    def __init__(self, **settings):
        self.settings = settings


@checked(size=whole(1))
class Open(Anything):
    def __init__(self, size, **settings):
        super().__init__(**settings)


def test_unknown_arguments_are_refused_with_the_nearest_name():
    message = "{} does not take the key '{}'. Did you mean '{}'\\? Accepted keys: {}$"
    with pytest.raises(TypeError, match=message.format('Base', 'sise', 'size', 'size, step')):
        Base(1, sise=3)
    with pytest.raises(TypeError, match=message.format('Derived', 'stepp', 'step', 'name, size, step')):
        Derived(size=1, stepp=3)
    assert Taking(size=2, colour='red').colour == 'red'
    with pytest.raises(TypeError, match="Taking does not take the key 'nam'"):
        Taking(size=2, colour='red', nam='a')
    assert Open(1, width=3).settings == dict(width=3), 'a base class takes any name'


def test_messages_name_the_place_in_the_config_where_it_is_known(monkeypatch):
    places = {('size', 0): 'model.part', ('colour', 3): 'hooks.1'}
    monkeypatch.setattr(checks, 'locators', [lambda cls, key, value: places.get((key, value))])
    with pytest.raises(ValueError, match=r'^model.part.size: found 0, expected'):
        Base(size=0)
    with pytest.raises(ValueError, match=r'^Base.size: found -1, expected'):
        Base(size=-1)
    with pytest.raises(TypeError, match=r"^hooks.1: Base does not take the key 'colour'"):
        Base(size=1, colour=3)


def test_wrong_calls_are_left_to_python():
    with pytest.raises(TypeError, match='positional argument'):
        Base(1, 2, 3)
    with pytest.raises(TypeError, match=r"Base has no arguments \['colour'\]"):
        checked(colour=BOOLEAN)(Base)
