"""Which files are images and which are label maps: rules that use only file names."""

import pytest

from mmmaskformer.datasets.pairing import Listed, candidates, decode_list, parse_list, sort_files, spellings


def sorted_files(files, image_suffixes=('.png',), label_suffix='_mask.png'):
    """The files found if images and label maps share a folder."""
    return sort_files('d', files, image_suffixes, 'd', files, label_suffix)


def test_spellings():
    assert spellings(['.JPG']) == ['.jpg', '.jpeg']
    assert spellings(['_rgb.tiff', '.png']) == ['_rgb.tiff', '.png', '_rgb.tif']


def test_masks_beside_images():
    found = sorted_files(['a.png', 'a_mask.png', 'b_mask.PNG', 'b.PNG', 'notes.txt'])
    assert found.images == {'d/a.png': 'a', 'd/b.PNG': 'b'}
    assert found.labels == {'d/a_mask.png': 'a', 'd/b_mask.PNG': 'b'} and not found.left_out


def test_the_longer_suffix_may_be_that_of_the_images():
    found = sorted_files(['a_rgb.png', 'a.png'], ('_rgb.png',), '.png')
    assert found.images == {'d/a_rgb.png': 'a'} and found.labels == {'d/a.png': 'a'}


def test_masks_of_another_format_beside_images():
    found = sorted_files(['a.jpg', 'a.png', 'b.JPEG', 'b.png', 'c.bmp'], ('.jpg',), '.png')
    assert found.images == {'d/a.jpg': 'a', 'd/b.JPEG': 'b'} and list(found.labels) == ['d/a.png', 'd/b.png']
    assert found.left_out == ['d/c.bmp']


@pytest.mark.parametrize('root', ['d', ''])
def test_folder_of_masks_inside_the_folder_of_images(root):
    prefix = f'{root}/' if root else ''
    found = sort_files(root, ['a.png', 'masks/a.png'], ('.png',), f'{prefix}masks', ['a.png'], '.png')
    assert found.images == {f'{prefix}a.png': 'a'} and found.labels == {f'{prefix}masks/a.png': 'a'}


def test_folder_of_images_inside_the_folder_of_masks():
    found = sort_files('d/images', ['a.png'], ('.png',), 'd', ['a.png', 'images/a.png'], '.png')
    assert found.images == {'d/images/a.png': 'a'} and found.labels == {'d/a.png': 'a'}


def test_lines_of_a_list():
    text = '\ufeff a \r\n\r\n\tb c\nd.jpg e.png\rmy photo.JPG\tmy mask.png\nf.png, g.png\n'
    assert parse_list(text) == [
        Listed(1, 'a', None),
        Listed(3, 'b c', None),
        Listed(4, 'd.jpg', 'e.png'),
        Listed(5, 'my photo.JPG', 'my mask.png'),
        Listed(6, 'f.png', 'g.png'),
    ]


def test_candidates_begin_with_what_is_written():
    assert candidates('d', 'a', ['.JPG'])[0] == 'd/a.JPG'
    assert candidates('d', 'a.jpeg', ['.jpg'])[:2] == ['d/a.jpeg', 'd/a.jpeg.jpg']
    assert candidates('d', 'a.png', ['.jpg'])[0] == 'd/a.png.jpg'


def test_backslashes_are_read_as_slashes_if_no_such_file_exists():
    assert candidates('d', 'x\\a.png', ['.png']) == [
        'd/x\\a.png', 'd/x\\a.png.png', 'd/x\\a.png.PNG', 'd/x/a.png', 'd/x/a.png.png', 'd/x/a.png.PNG',
    ]  # fmt: skip


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_list_in_common_encodings(encoding):
    assert parse_list(decode_list('Bäume/a.jpg\r\n'.encode(encoding), 'l.txt')) == [Listed(1, 'Bäume/a.jpg', None)]


def test_list_in_another_encoding_names_file_and_line():
    with pytest.raises(ValueError, match=r"ann_file 'l\.txt': line 2 has the byte 0xe4, .* Fix: save it as UTF-8"):
        decode_list('a\nBäume\n'.encode('latin-1'), 'l.txt')
