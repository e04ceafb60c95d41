"""All datasets that can be prepared."""

from mmmaskformer.datasets.converters import ade20k, ade20k_full, cityscapes, coco, coco_stuff, mapillary
from mmmaskformer.datasets.converters.recipe import Recipe

RECIPES = {
    recipe.name: recipe
    for recipe in (
        ade20k.SEMANTIC,
        ade20k_full.RECIPE,
        coco_stuff.RECIPE,
        cityscapes.SEMANTIC,
        mapillary.SEMANTIC,
        coco.RECIPE,
        ade20k.PANOPTIC,
        cityscapes.PANOPTIC,
        mapillary.PANOPTIC,
    )
}


def recipe_of(name: str) -> Recipe:
    """The recipe of a dataset.

    Raises:
        ValueError: if the name is unknown.
    """
    if name not in RECIPES:
        raise ValueError(f'dataset {name!r}: unknown. Expected one of {", ".join(RECIPES)}. Fix: correct the name.')
    return RECIPES[name]
