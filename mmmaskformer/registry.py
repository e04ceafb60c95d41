"""The registries of mmmaskformer: children of mmengine's root, found by the hosts from the prefix ``mmmaskformer.``.

mmengine imports this module when it first encounters that prefix. The parents are mmengine's root registries, not a
host's, so that the same name resolves from MMSegmentation, MMDetection and mmengine alone.
"""

from importlib.util import find_spec

from mmmaskformer import compat

compat.apply()

import mmengine.registry  # noqa: E402
from mmengine.registry import DATA_SAMPLERS as ROOT_DATA_SAMPLERS  # noqa: E402
from mmengine.registry import DATASETS as ROOT_DATASETS  # noqa: E402
from mmengine.registry import HOOKS as ROOT_HOOKS  # noqa: E402
from mmengine.registry import METRICS as ROOT_METRICS  # noqa: E402
from mmengine.registry import MODELS as ROOT_MODELS  # noqa: E402
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as ROOT_OPTIM_WRAPPER_CONSTRUCTORS  # noqa: E402
from mmengine.registry import OPTIM_WRAPPERS as ROOT_OPTIM_WRAPPERS  # noqa: E402
from mmengine.registry import TRANSFORMS as ROOT_TRANSFORMS  # noqa: E402
from mmengine.registry import VISBACKENDS as ROOT_VISBACKENDS  # noqa: E402
from mmengine.registry import VISUALIZERS as ROOT_VISUALIZERS  # noqa: E402
from mmengine.registry import Registry  # noqa: E402

SCOPE = 'mmmaskformer'


def has_host(name: str) -> bool:
    """Whether the host package ``name`` ('mmseg' or 'mmdet') is installed; does not import it."""
    return find_spec(name) is not None


MODELS = Registry('model', parent=ROOT_MODELS, scope=SCOPE, locations=['mmmaskformer.catalog'])


def part_named(name: str):
    """The class or function that is registered under a name; None if there is none.

    Args:
        name: with or without a prefix such as 'mmseg.'. Without, it is looked up in this package, in mmengine and then,
            as in configs of the hosts, in the registry of the default scope.
    """
    found = MODELS.get(name)
    if found is None:
        with MODELS.switch_scope_and_registry(None) as registry:
            found = registry.get(name)
    return found


DATASETS = Registry(
    'dataset',
    parent=ROOT_DATASETS,
    scope=SCOPE,
    locations=['mmmaskformer.datasets.panoptic', 'mmmaskformer.datasets.panoptic_benchmarks']
    + (['mmmaskformer.datasets.seg', 'mmmaskformer.datasets.benchmarks'] if has_host('mmseg') else [])
    + (['mmmaskformer.datasets.instance'] if has_host('mmdet') else []),
)
DATA_SAMPLERS = Registry(
    'data sampler', parent=ROOT_DATA_SAMPLERS, scope=SCOPE, locations=['mmmaskformer.datasets.samplers']
)
TRANSFORMS = Registry(
    'transform',
    parent=ROOT_TRANSFORMS,
    scope=SCOPE,
    locations=['mmmaskformer.datasets.transforms']
    + (['mmmaskformer.datasets.transforms.packing'] if has_host('mmdet') else []),
)
METRICS = Registry(
    'metric',
    parent=ROOT_METRICS,
    scope=SCOPE,
    locations=['mmmaskformer.evaluation'] + (['mmmaskformer.evaluation.instance_metric'] if has_host('mmdet') else []),
)
HOOKS = Registry(
    'hook',
    parent=ROOT_HOOKS,
    scope=SCOPE,
    locations=[
        'mmmaskformer.hosts.hooks',
        'mmmaskformer.hosts.checkpoint_checks',
        'mmmaskformer.hosts.image_check',
        'mmmaskformer.hosts.annotation_checks',
        'mmmaskformer.hosts.checkpointing',
        'mmmaskformer.hosts.resuming',
        'mmmaskformer.hosts.config_check',
        'mmmaskformer.hosts.data_check',
        'mmmaskformer.hosts.output_check',
        'mmmaskformer.hosts.best_key',
        'mmmaskformer.visualization.hook',
    ]
    + (['mmmaskformer.hosts.mmseg_drawing'] if has_host('mmseg') else []),
)
OPTIM_WRAPPERS = Registry(
    'optim wrapper', parent=ROOT_OPTIM_WRAPPERS, scope=SCOPE, locations=['mmmaskformer.hosts.optim']
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optim wrapper constructor',
    parent=ROOT_OPTIM_WRAPPER_CONSTRUCTORS,
    scope=SCOPE,
    locations=['mmmaskformer.hosts.optim'],
)
VISUALIZERS = Registry(
    'visualizer',
    parent=ROOT_VISUALIZERS,
    scope=SCOPE,
    locations=[f'mmmaskformer.hosts.{host}_visualizer' for host in ('mmseg', 'mmdet') if has_host(host)],
)
VISBACKENDS = Registry(
    'vis_backend', parent=ROOT_VISBACKENDS, scope=SCOPE, locations=['mmmaskformer.hosts.vis_backends']
)

# Configs that inherit by name, `_base_ = 'mmmaskformer::…'`, are built in the scope of this package. For kinds of
# objects of which this package has none, an empty registry forwards to mmengine's, without a warning.
for root in vars(mmengine.registry).values():
    if isinstance(root, Registry) and root.parent is None and SCOPE not in root.children:
        Registry(root.name, parent=root, scope=SCOPE, locations=['mmmaskformer'])
