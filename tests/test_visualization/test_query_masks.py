"""Masks of queries over their image: columns and captions do not overlap."""

import numpy as np
import pytest
from PIL import ImageDraw, ImageFont

from mmmaskformer.visualization.query_masks import FONT_SIZE, GAP, HEIGHT, MAX_MASKS, MaskRow, QueryMask, mask_sheet

GREEN = (0, 200, 0)


def make_row(size, num_masks, title='a model'):
    mask = np.zeros(size, bool)
    mask[: max(1, size[0] // 2)] = True
    masks = [QueryMask(100 + number, 0.5, mask if number else np.zeros(size, bool)) for number in range(num_masks)]
    return MaskRow(title, np.full((*size, 3), 120, np.uint8), masks)


@pytest.fixture
def texts(monkeypatch):
    """The texts and their left, top and right positions."""
    found, write = [], ImageDraw.ImageDraw.text

    def noting(brush, place, text, *args, font, **kwargs):
        found.append((text, place[0], place[1], place[0] + font.getlength(text)))
        write(brush, place, text, *args, font=font, **kwargs)

    monkeypatch.setattr(ImageDraw.ImageDraw, 'text', noting)
    return found


@pytest.mark.parametrize('size', [(60, 90), (400, 40), (20, 200), (1, 1)])
def test_captions_are_side_by_side_for_any_shape(texts, size):
    page = mask_sheet([make_row(size, 3)], 'grass', GREEN)
    captions = [text for text in texts if text[0] == 'image' or text[0].startswith('query')]
    assert [text for text, *_ in captions] == ['image', 'query 100, 0.50, empty', 'query 101, 0.50', 'query 102, 0.50']
    for (_, _, _, right), (_, left, _, _) in zip(captions, captions[1:], strict=False):
        assert right < left
    assert all(right <= page.width for *_, right in texts)


def test_masks_have_the_colour_of_the_class_and_the_rest_none():
    page = np.asarray(mask_sheet([make_row((60, 90), 2)], '', GREEN)).astype(int)
    is_green = page[..., 1] > page[..., 0] + 50
    top, width = GAP + 2 * (FONT_SIZE + GAP), HEIGHT * 90 // 60
    assert is_green.sum() == pytest.approx(width * HEIGHT / 2, rel=0.03)
    assert is_green[top : top + HEIGHT // 2 - 2].any() and not is_green[top + HEIGHT // 2 + 2 :].any()


def test_a_row_with_many_masks_or_a_long_title_is_whole(texts):
    long = 'maskformer_swin-l-in22k-384x384-pre_64xb1-554k_coco-panoptic, work_dirs/a_long_name/iter_554000.pth'
    page = mask_sheet([make_row((60, 90), MAX_MASKS + 3, long), make_row((60, 90), 0, long)], 'cell phone', GREEN)
    titles = [text for text, *_ in texts if text.startswith(long)]
    assert titles == [f'{long}: 11 queries predict cell phone, 8 shown', f'{long}: 0 queries predict cell phone']
    assert page.width > ImageFont.load_default(FONT_SIZE).getlength(titles[0])
    assert all(right <= page.width for *_, right in texts)


def test_masks_of_another_size_and_no_row_are_refused():
    row = make_row((60, 90), 2)
    with pytest.raises(ValueError, match=r'mask: found size \(60, 90\), expected that of its image, \(10, 10\)'):
        mask_sheet([row._replace(image=row.image[:10, :10])], 'grass', GREEN)
    with pytest.raises(ValueError, match='rows: found none'):
        mask_sheet([], 'grass', GREEN)
