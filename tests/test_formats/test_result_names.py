"""Names of result files."""

import pytest

from mmmaskformer.formats.result_names import result_names


@pytest.mark.parametrize(
    ('images', 'names'),
    [
        ([], []),
        (['a/b/1.jpg'], ['1.png']),
        (['a/b/1.jpg', 'a/b/2.jpg'], ['1.png', '2.png']),
        (['/d/a/1.jpg', '/d/b/1.jpg'], ['a/1.png', 'b/1.png']),
        (['/d/a/x/1.jpg', '/d/a.b/x/1.jpg'], ['a/x/1.png', 'a.b/x/1.png']),
        (['d/1.jpg', 'd/a/1.jpg'], ['1.png', 'a/1.png']),
        (['d/1.jpg', 'd/1.png', 'd/1.2.png'], ['1.jpg.png', '1.png.png', '1.2.png']),
        ([r'd\a\1.jpg', r'd\b\1.jpg'], ['a/1.png', 'b/1.png']),
        (['s3://bucket/a/1.jpg', 's3://bucket/b/1.jpg'], ['a/1.png', 'b/1.png']),
    ],
)
def test_folders_are_kept(images, names):
    assert result_names(images) == names
    assert result_names(images[::-1]) == names[::-1]


def test_no_name_leads_out_of_the_folder_of_results(tmp_path, monkeypatch):
    (tmp_path / 'work').mkdir()
    monkeypatch.chdir(tmp_path / 'work')
    assert result_names(['../a/1.jpg', 'b/1.jpg']) == ['a/1.png', 'work/b/1.png']
    assert result_names(['s3://bucket/1.jpg', '/d/1.jpg']) == ['s3:/bucket/1.png', 'd/1.png']


def test_names_differ_even_if_a_suffix_is_part_of_another_name():
    names = result_names(['d/1.jpg', 'd/1.tif', 'd/1.jpg.bmp'])
    assert len(set(names)) == 3


def test_an_image_twice():
    with pytest.raises(ValueError, match='2 images are listed more than once, such as d/1.jpg; expected each once'):
        result_names(['d/1.jpg', 'd/a/../1.jpg'])
