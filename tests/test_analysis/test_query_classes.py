"""Classes of queries and images, compared with manual counts."""

import numpy as np
import pytest
import torch

from mmmaskformer.analysis.query_classes import ClassesPerImage, QueryClasses

# Class probabilities of three queries: two classes and "no object"
FIRST = torch.tensor([[0.9, 0.05, 0.05], [0.4, 0.3, 0.3], [0.1, 0.2, 0.7]]).log()
SECOND = torch.tensor([[0.1, 0.8, 0.1], [0.6, 0.2, 0.2], [0.2, 0.1, 0.7]]).log()


def test_each_query_counts_the_classes_it_predicts():
    found = QueryClasses(3, 2)
    found.add(FIRST)
    found.add(SECOND)
    np.testing.assert_array_equal(found.counts, [[1, 1], [2, 0], [0, 0]])
    assert found.unique().tolist() == [2, 1, 0] and found.num_images == 2


def test_only_predictions_above_the_threshold_count():
    found = QueryClasses(3, 2, object_threshold=0.5)
    found.add(FIRST)
    found.add(SECOND)
    np.testing.assert_array_equal(found.counts, [[1, 1], [1, 0], [0, 0]])


def test_the_table_is_sorted_and_lists_the_most_frequent_class_first():
    found = QueryClasses(2, 3)
    found.counts[:] = [[0, 0, 4], [1, 0, 3]]
    header, rows = found.table(['car', 'tree', 'sky'])
    assert header == ['query', 'unique classes', 'predictions', 'classes (images)']
    assert rows == [[1, 2, 4, 'sky 3; car 1'], [0, 1, 4, 'sky 4']]


def test_classes_per_image():
    found = ClassesPerImage.of([('a', [0, 2, 2]), ('b', [2]), ('c', []), ('d', [0, 1, 2])], 3)
    assert found.histogram.tolist() == [1, 1, 1, 1] and found.images_of_class.tolist() == [2, 1, 3]
    assert found.num_images == 4 and found.mean == 1.5


def test_labels_outside_the_class_list_are_refused():
    with pytest.raises(ValueError, match=r'b\.png: found the labels \[0, 3\], expected 0 to 2'):
        ClassesPerImage.of([('a.png', [1]), ('b.png', [3, 0])], 3)
