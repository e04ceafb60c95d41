"""Zoo weights as files of this package: downloaded, converted and cached."""

from pathlib import Path

from mmmaskformer.apis.backbones import convert_backbone
from mmmaskformer.apis.config_files import SHIPPED
from mmmaskformer.apis.converting import convert_checkpoint
from mmmaskformer.apis.zoo_downloads import fetch, locked_folder, log
from mmmaskformer.checkpoints.zoo import ZooModel, find_model


def converted_file(reference: str) -> Path:
    """The checkpoint of a zoo name, converted for this package; downloaded and converted at the first call.

    Args:
        reference: ``zoo://NAME``, or only the name.

    Returns:
        A ``.pth`` file with weights, config, class list, licence and source.

    Raises:
        ValueError: if the name is unknown, or the file is damaged or holds another model.
        OSError: if it cannot be downloaded or written; the message says how to install the file by hand.
    """
    model = find_model(reference)
    result = f'; published: {model.describe_result()}' if model.result else ''
    log(f'{model.name}: {model.released_as or model.address}, licence of the weights: {model.licence}{result}')
    if model.converted.is_file():
        return model.converted
    with locked_folder(model):
        if not model.converted.is_file():
            fetch(model)
            _convert(model)
    return model.converted


def _convert(model: ZooModel) -> None:
    try:
        if model.package == 'backbone':
            convert_backbone(model.original, model.converted, licence=model.licence)
            return
        report = convert_checkpoint(
            model.original,
            model.converted,
            'mmmaskformer',
            config=SHIPPED / model.config if model.config else None,
            classes=model.classes,
            task=model.task,
            licence=model.licence,
        )
    except ValueError as error:
        raise ValueError(
            f'zoo://{model.name}: the downloaded file is not the model of the list: {error} To download it again, '
            f'remove {model.original}'
        ) from None
    log(f'{report.lines()[0]}; converted: {model.converted}')
