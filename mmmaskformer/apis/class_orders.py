"""The class list of a converted checkpoint and the order of its classes."""

from dataclasses import replace

from mmmaskformer.checkpoints import classes as orders
from mmmaskformer.checkpoints.neutral import ConversionError
from mmmaskformer.checkpoints.settings import Settings


def order_classes(
    settings: Settings, num_classes: int, package: str, to: str, wanted: str | None
) -> tuple[Settings, list[int] | None, list[str]]:
    """Find the class list of the result and the labels of its classes in the source.

    Args:
        settings: settings of the source.
        num_classes: K of its weights.
        package: package of the source.
        to: package of the result.
        wanted: class list of the result, as passed by the user; None if it was not set.

    Returns:
        Settings with the class list of the result; for each of its classes the label in the source, None if the order
        is the same; and notes for the report.

    Raises:
        ValueError: if the requested class list does not have the classes of the source.
    """
    facts, source = dict(settings.dataset_meta), list(settings.classes)
    if source and len(source) != num_classes:
        return (
            replace(settings, classes=(), dataset_meta={}),
            None,
            [f'the class list of the source has {len(source)} names for {num_classes} classes and is dropped'],
        )
    notes = []
    if not source and wanted is None:
        wanted, note = _published_list(package, num_classes)
        notes.append(note)
    if not source and wanted is not None:  # the source is assumed to have these classes in the order of its package
        assumed = orders.facts_of(orders.read_class_list(wanted))
        if package == 'mmdet' and assumed.get('isthing'):
            assumed = orders.permuted(assumed, orders.things_first(assumed['isthing']))
        source = list(assumed['classes'])
    facts_of_target = _wanted_classes(wanted, source, facts, num_classes, to)
    if facts_of_target is None:
        return settings, None, notes
    names = list(facts_of_target['classes'])
    # A list with two equal names has no other order than its own.
    order = list(range(len(names))) if source == names else orders.find_permutation(source, names) if source else None
    if source and order is None:
        if wanted is None:
            raise ConversionError(
                'the classes of the source have to be reordered, but two have the same name. Fix: use a '
                'different name for each class'
            )
        raise ConversionError(
            f"the classes of the source are not those of --classes {wanted}: class 0 is '{source[0]}', expected "
            f"'{names[0]}'. Fix: use another class list"
        )
    kept = {key: facts_of_target[key] for key in ('palette', 'isthing', 'ignore_index') if key in facts_of_target}
    settings = replace(settings, classes=tuple(names), dataset_meta=facts | kept)
    if order is None or order == list(range(num_classes)):
        return settings, None, notes
    moved = sum(label != other for label, other in enumerate(order))
    notes.append(f'{moved} of the {num_classes} classes have another label than in the source')
    return settings, order, notes


def _published_list(package: str, num_classes: int) -> tuple[str | None, str]:
    """Guess the class list of a released file, which does not store it; return its name and a note."""
    known = orders.list_of_published(num_classes) if package == 'official' else None
    if known is None:
        return None, 'the source does not store its class names; --classes sets them'
    return known[0], f'its classes are assumed to be those of {known[0]}, by their number; --classes sets others'


def _wanted_classes(wanted: str | None, source: list[str], facts: dict, num_classes: int, to: str) -> dict | None:
    """The class list of the result; None to keep that of the source."""
    found: dict | None = None
    if wanted is not None:
        found = orders.facts_of(orders.read_class_list(wanted))
        if len(found['classes']) != num_classes:
            raise ConversionError(
                f'--classes {wanted} has {len(found["classes"])} classes, but the model has {num_classes}. Fix: use '
                'the class list that it was trained with'
            )
    elif source and (known := orders.list_of_same_classes(source)) and not (to == 'mmdet' and facts.get('isthing')):
        found = orders.facts_of(known)
        order = orders.find_permutation(source, found['classes'])
        if to != 'mmmaskformer' and order is not None:  # other packages keep the names that the source has
            found['classes'] = [source[label] for label in order]
    elif source and facts.get('isthing'):
        found = {**facts, 'classes': source}
    if found is not None and to == 'mmdet' and found.get('isthing'):
        found = orders.permuted(found, orders.things_first(found['isthing']))
    return found
