"""List the public weights that can be given as zoo://NAME wherever a checkpoint is expected.

They are downloaded and converted at their first use, and stored in ~/.cache/mmmaskformer or in the folder that
MMMASKFORMER_CACHE names. Each entry has its own licence; that of the published zoo is CC BY-NC 4.0.
"""

EXAMPLE = 'mmmaskformer models swin ade20k'


def add_arguments(parser):
    """Describe the arguments."""
    parser.add_argument('text', nargs='*', help='list only models whose name, data or licence contains all of these')
    parser.add_argument('--details', action='store_true', help='also print address, checksum, config and licence')
    parser.add_argument('--fetch', action='store_true', help='download and convert them now, for use without a network')
    parser.add_argument('--offline', action='store_true', help='download nothing; same as MMMASKFORMER_OFFLINE=1')


def run(args) -> int:
    """Print a line for each model; with --fetch, download the models."""
    from mmmaskformer.checkpoints.zoo import cache_folder, zoo_models

    found = [model for model in zoo_models().values() if _has(model, args.text)]
    if not found:
        raise ValueError(f"no model contains all of {' '.join(args.text)!r}. Fix: 'mmmaskformer models' lists all")
    width = max(len(model.name) for model in found)
    for model in found:
        kept = ', in the cache' if model.converted.is_file() else ''
        print(f'zoo://{model.name:<{width}}  {model.describe_result()}  [{model.licence}{kept}]')
        if args.details:
            print('\n'.join(_details(model)))
    print(f'{len(found)} models; cache: {cache_folder()}')
    if args.fetch:
        from mmmaskformer.apis.zoo_files import converted_file

        for model in found:
            print(f'zoo://{model.name}: {converted_file(model.name)}')
    return 0


def _has(model, words: list[str]) -> bool:
    text = ' '.join((model.name, model.package, model.released_as, model.config, model.licence)).lower()
    return all(word.lower() in text for word in words)


def _details(model) -> list[str]:
    facts = {
        'released as': model.released_as or '–',
        'config': f'configs/{model.config}' if model.config else 'generated from the weights',
        'address': model.address,
        'checksum': model.checksum or 'none is published',
        'kept in': str(model.folder),
    }
    return [f'    {key:<12}{value}' for key, value in facts.items()]
