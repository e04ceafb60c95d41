"""The interfaces between the parts of the model; a part of your own needs only the method named here.

In a config, a head builds the parts and gives them, by argument name, what follows from its own settings:
``in_channels``, ``num_classes``, ``num_queries``, ``channels`` and ``mask_channels``; a matcher also ``loss_weights``
and ``mask_loss``, a network ``with_boxes`` (whether the criterion uses boxes). Mask losses and matching costs derive
from `MaskLoss` and `Cost` in `core.training.parts`. A matcher is usually a `SetMatcher` of `core.training.matcher`: a
list of costs and an assignment.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from mmmaskformer.core.folding import LastConv
from mmmaskformer.core.masks import Folded, Masks, Product
from mmmaskformer.core.structures import Layers, MaskPrediction, Matches, Targets


class PixelDecoderOutput(NamedTuple):
    """Result of a pixel decoder.

    Attributes:
        memory: (B, memory_channels, h', w') float, what the transformer decoder looks at.
        mask_features: (B, C, h, w) float, the per-pixel embeddings on the finest grid; or the convolution that would
            make them, for masks by way of the folded convolution.
        made_by: the convolution that made the mask features, if that is what they come from; see `Product`.
    """

    memory: Tensor
    mask_features: Tensor | LastConv
    made_by: LastConv | None = None

    def masks(self, mask_embed: Tensor) -> Masks:
        """The masks of some queries (B, n, C)."""
        if isinstance(self.mask_features, LastConv):
            return Folded(mask_embed, self.mask_features)
        return Product(mask_embed, self.mask_features, self.made_by)


class PixelDecoder(Protocol):
    """Backbone features to per-pixel embeddings.

    Attributes:
        memory_channels: channels of the memory.
    """

    memory_channels: int

    def __call__(self, features: Sequence[Tensor]) -> PixelDecoderOutput:
        """Map features (B, C_i, h_i, w_i), finest first, to memory and mask features."""


class TransformerDecoder(Protocol):
    """Memory to query embeddings."""

    def __call__(self, memory: Tensor) -> Sequence[Tensor]:
        """Map the memory (B, memory_channels, h', w') to L states (B, Q, channels), the last one final."""


class Network(Protocol):
    """The whole model behind the backbone."""

    def __call__(self, features: Sequence[Tensor], *, all_layers: bool) -> Sequence[MaskPrediction]:
        """Predict segments.

        Args:
            features: backbone features (B, C_i, h_i, w_i), finest first.
            all_layers: whether all layers that are supervised are wanted, or the last one only.

        Returns:
            Predictions, the last one final. Layers may share their mask features or have their own: what is shared is
            the same tensor.
        """


class PixelNetwork(Protocol):
    """The whole model behind the backbone of a per-pixel model."""

    def __call__(self, features: Sequence[Tensor], *, all_layers: bool) -> Sequence[Masks]:
        """Classify pixels; arguments as `Network`.

        Returns:
            Logits (B, K, h, w) of each layer, as the masks of K queries, the last one final.
        """


class Matcher(Protocol):
    """Assignment of queries to true segments.

    A matcher with an attribute ``uses_boxes`` that is true makes the criterion train boxes and the network predict
    them.
    """

    def __call__(self, layers: Layers, targets: Targets) -> Matches:
        """Match every layer and image; at most min(Q, M) pairs each, no query and no segment twice."""


class Assignment(Protocol):
    """How a `SetMatcher` chooses pairs, given the costs of all pairs.

    Attributes:
        uses_costs: whether it looks at the costs; a matcher computes none for an assignment that does not.
    """

    uses_costs: bool

    def __call__(self, costs: Tensor, targets: Targets) -> Matches:
        """Choose the pairs of every layer and image.

        Args:
            costs: (L, B, Q, M) float, finite, on the host, M being the most segments of an image; what is beyond an
                image's own number of segments has no meaning. 0 if ``uses_costs`` is False.
            targets: of the batch, on the device of the model.

        Returns:
            At most min(Q, M) pairs of each layer and image, no query and no segment twice, by query.
        """
