import pytest
import torch

from mmmaskformer.core.inference.labels.tiles import TILE_SIZES, Tiled
from mmmaskformer.core.inference.labels.views import score_view
from mmmaskformer.core.inference.query_masks import QueryMasks

SIZES = [((48, 64), (45, 61), (45, 61)), ((48, 64), (45, 61), (33, 90)), ((32, 32), (32, 32), (100, 7))]


def make(sizes, side: int):
    """A view in tiles, all of its tiles, and the masks (Q, H, W) at output size, extended by their border values."""
    torch.manual_seed(0)
    input_size, image_size, out_size = sizes
    mask_logits = 3 * torch.randn(4, input_size[0] // 4, input_size[1] // 4, dtype=torch.float64)
    masks = QueryMasks.of_logits(mask_logits, input_size, image_size, out_size)
    tiled = Tiled(score_view(torch.randn(4, 3, dtype=torch.float64), masks), side)
    in_image = masks._replace(out_size=image_size).logits().sigmoid()
    expected = torch.nn.functional.interpolate(in_image[None], size=out_size, mode='bilinear')[0]
    rows, columns = (torch.arange(-(-length // TILE_SIZES[0]) * TILE_SIZES[0]) for length in out_size)
    expected = expected[:, rows.clamp(max=out_size[0] - 1)][:, :, columns.clamp(max=out_size[1] - 1)]
    tiles = torch.cartesian_prod(torch.arange(len(rows) // side), torch.arange(len(columns) // side))
    return tiled, tiles, expected.unflatten(2, (-1, side)).unflatten(1, (-1, side)).permute(1, 3, 2, 4, 0).flatten(0, 1)


@pytest.mark.parametrize('side', TILE_SIZES)
@pytest.mark.parametrize('sizes', SIZES)
def test_masks_of_tiles_are_those_of_the_image(sizes, side):
    tiled, tiles, expected = make(sizes, side)
    order = torch.randperm(len(tiles))
    torch.testing.assert_close(tiled.masks(tiles[order]), expected[order])
    assert tiled.sees(tiles).all()


@pytest.mark.parametrize('side', TILE_SIZES)
@pytest.mark.parametrize('sizes', SIZES)
def test_bounds_hold_every_pixel_of_a_tile(sizes, side):
    tiled, tiles, expected = make(sizes, side)
    low, high = tiled.mask_bounds(tiles)
    assert (low <= expected.amin((1, 2)) + 1e-12).all() and (high >= expected.amax((1, 2)) - 1e-12).all()
    assert (high - low).mean() < 1, 'bounds tell something'
