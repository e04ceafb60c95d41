import importlib.util
from pathlib import Path

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

TOOL = Path(__file__).parents[2] / 'tools/efficientnet_lite_weights.py'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('efficientnet_lite_weights', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def network():
    return timm.create_model('tf_efficientnet_lite0').eval()


def foreign(network):
    """The network's weights under the names of another project, with the same last parts."""
    return {f'_layer{i}.{name.rsplit(".", 1)[1]}': x for i, (name, x) in enumerate(network.state_dict().items())}


@torch.no_grad()
def test_the_backbone_of_the_config_computes_the_features_of_the_network(tool, network, tmp_path):
    torch.save(tool.convert(foreign(network), 0), tmp_path / 'weights.pth')
    config = Config.fromfile(next((TOOL.parents[1] / 'configs/camvid').glob('*effnet-lite0*.py')))
    config.model.backbone.init_cfg.checkpoint = str(tmp_path / 'weights.pth')
    init_default_scope('mmseg')
    backbone = MODELS.build(config.model.backbone).eval()
    backbone.init_weights()
    image = torch.randn(1, 3, 64, 96)
    _, (_, *expected) = network.forward_intermediates(image)
    for found, wanted in zip(backbone(image), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_weights_of_another_network_are_refused(tool, network):
    state = foreign(network)
    first = next(iter(state))
    state[first] = torch.zeros(3, 3)
    with pytest.raises(ValueError, match=rf'{first} \(3, 3\) does not pair with conv_stem.weight'):
        tool.convert(state, 0)
