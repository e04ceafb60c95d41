"""Predictions in a compact form: only the confident queries, with their mask logits on the network's grid."""

import zlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from mmmaskformer.core.inference.queries import confident_queries, highest_class_probability
from mmmaskformer.core.inference.query_masks import QueryMasks
from mmmaskformer.formats.whole_files import whole_file


@dataclass(frozen=True)
class StoredPrediction:
    """The part of an image's prediction that panoptic inference uses at object thresholds from a given one upwards.

    Attributes:
        class_logits: (n, K + 1) float32 of the n confident queries, in query order.
        mask_logits: (n, h, w) float32 of the same queries.
        sizes: (3, 2) int, (height, width) of the padded input, of the image within it, and of the output.
        num_queries: Q.
        highest: highest class probability over all queries and all classes except "no object".
    """

    class_logits: Tensor
    mask_logits: Tensor
    sizes: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    num_queries: int
    highest: float

    @classmethod
    def of(cls, class_logits: Tensor, masks: QueryMasks, object_threshold: float) -> 'StoredPrediction':
        """Keep the queries of an image that are confident at a threshold.

        Args:
            class_logits: (Q, K + 1) float.
            masks: of the same Q queries.
            object_threshold: the lowest threshold that the stored prediction supports.
        """
        queries, _, _ = confident_queries(class_logits, object_threshold)
        return cls(
            class_logits[queries].float(),
            masks.coarse_logits(queries).float(),
            (_pair(masks.input_size), _pair(masks.image_size), _pair(masks.out_size)),
            len(class_logits),
            float(highest_class_probability(class_logits)),
        )

    def query_masks(self) -> QueryMasks:
        """The masks of the n queries."""
        return QueryMasks.of_logits(self.mask_logits, *self.sizes)

    def save(self, file: Path) -> None:
        """Write an .npz file atomically."""
        with whole_file(file) as part, open(part, 'wb') as stream:
            np.savez_compressed(
                stream,
                class_logits=self.class_logits.cpu().numpy(),
                mask_logits=self.mask_logits.cpu().numpy(),
                sizes=np.array(self.sizes),
                num_queries=self.num_queries,
                highest=self.highest,
            )

    @classmethod
    def load(cls, file: Path) -> 'StoredPrediction':
        """Read a file that `save` has written.

        Raises:
            FileNotFoundError: if it does not exist.
            ValueError: if it does not hold a stored prediction, or is damaged.
        """
        try:
            with np.load(file, allow_pickle=False) as content:
                sizes = content['sizes'].tolist()
                return cls(
                    torch.from_numpy(content['class_logits']),
                    torch.from_numpy(content['mask_logits']),
                    (_pair(sizes[0]), _pair(sizes[1]), _pair(sizes[2])),
                    int(content['num_queries']),
                    float(content['highest']),
                )
        except (KeyError, ValueError, IndexError, TypeError, EOFError, BadZipFile, zlib.error) as error:
            raise ValueError(
                f'{file}: found no stored prediction ({error}). Fix: store the predictions again'
            ) from error


def _pair(size) -> tuple[int, int]:
    return int(size[0]), int(size[1])
