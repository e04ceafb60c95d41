"""Lists in messages."""

import pytest

from mmmaskformer.formats.messages import some


@pytest.mark.parametrize('items, text', [
    ([], ''),
    (['a', 1, 2.5], 'a, 1, 2.5'),
    (range(5), '0, 1, 2 and 2 more'),
])  # fmt: skip
def test_long_lists_are_shortened_with_the_number_of_the_rest(items, text):
    assert some(items) == text
    assert some(items, shown=9) == ', '.join(map(str, items))
