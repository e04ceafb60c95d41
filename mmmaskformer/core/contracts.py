"""The interfaces between the parts of the model; a custom part only needs the methods defined here.

In a config, a head builds the parts and passes them, by argument name, the values that follow from its own settings:
``in_channels``, ``num_classes``, ``num_queries``, ``channels`` and ``mask_channels``; a matcher also ``loss_weights``
and ``mask_loss``, a network ``with_boxes`` (whether the criterion uses boxes). Mask losses and matching costs derive
from `MaskLoss` and `Cost` in `core.training.parts`. A matcher is usually a `SetMatcher` of `core.training.matcher`: a
list of costs and an assignment.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from mmmaskformer.core.folding import LastConv
from mmmaskformer.core.masks import Folded, Masks, Product
from mmmaskformer.core.matches import Matches
from mmmaskformer.core.structures import Layers, MaskPrediction, Targets


class PixelDecoderOutput(NamedTuple):
    """Result of a pixel decoder.

    Attributes:
        memory: (B, memory_channels, h', w') float, the input of the transformer decoder. For a transformer decoder that
            takes maps of several scales, a list, tuple or dict of them.
        mask_features: (B, C, h, w) float, the per-pixel embeddings on the finest grid; or the convolution that computes
            them, for masks through the folded convolution.
        made_by: the convolution that computed the mask features, if there is one; see `Product`.
    """

    memory: Tensor | Sequence[Tensor] | Mapping[str, Tensor]
    mask_features: Tensor | LastConv
    made_by: LastConv | None = None

    def masks(self, mask_embed: Tensor) -> Masks:
        """The masks of queries with embeddings (B, n, C)."""
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
        """Map features (B, C_i, h_i, w_i), finest first, to memory and mask features of the same B images."""


class TransformerDecoder(Protocol):
    """Memory to query embeddings."""

    def __call__(self, memory: Any) -> Sequence[Tensor]:
        """Map the memory of `PixelDecoderOutput` to L states (B, Q, channels), the last one final."""


class Network(Protocol):
    """The whole model behind the backbone."""

    def __call__(self, features: Sequence[Tensor], *, all_layers: bool) -> Sequence[MaskPrediction]:
        """Predict segments.

        Args:
            features: backbone features (B, C_i, h_i, w_i), finest first.
            all_layers: whether to predict for all supervised layers, or only for the last one.

        Returns:
            Predictions, the last one final. Layers may share their mask features, as the same tensor, or have their
            own.
        """


class Matcher(Protocol):
    """Assignment of queries to true segments.

    If a matcher has a true attribute ``uses_boxes``, the criterion trains boxes and the network predicts them.
    """

    def __call__(self, layers: Layers, targets: Targets) -> Matches:
        """Match every layer and image.

        Returns:
            Pairs in any order, no query of a layer and image twice. A segment may be matched to several queries, as in
            one-to-many matching, or to none. Mask and box losses are summed over pairs and divided by the number of
            true segments, so with k queries per segment they are k times as large as with one.
        """


class Assignment(Protocol):
    """The choice of pairs in a `SetMatcher`, given the costs of all pairs.

    Attributes:
        uses_costs: whether it uses the costs; otherwise the matcher computes none.
    """

    uses_costs: bool

    def __call__(self, costs: Tensor, targets: Targets) -> Matches:
        """Choose the pairs of every layer and image.

        Args:
            costs: (L, B, Q, M) float, finite, on the host, with M the largest number of segments of an image; values
                beyond an image's own number of segments are undefined. All 0 if ``uses_costs`` is False.
            targets: targets of the batch, on the device of the model.

        Returns:
            Pairs, see `Matcher`.
        """
