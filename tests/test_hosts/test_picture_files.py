"""Pictures of images with the same name get different names, whatever the hosts' hooks and inferencers call them."""

import pytest

from mmmaskformer.hosts.picture_files import PictureFiles

IMAGES = ('d/a/x.png', 'd/b/x.png', 'c/b/x.png', 'b/x.png', 'x.png', '/x.png')
OWN = ('x.png', 'b_x.png', 'c_b_x.png', '2_b_x.png', '2_x.png', '3_x.png')


def test_names_for_the_backends_and_files_are_distinguished():
    backend, files = PictureFiles(), PictureFiles()
    for _ in range(2):  # the same image gets the same file name again
        for step, (image, own) in enumerate(zip(IMAGES, OWN, strict=True)):
            assert backend.distinct('test_x.png', None, 0, dict(img_path=image)) == (f'test_{own}', None)
            name, file = files.distinct('test_img', 'out/x.png', step, dict(img_path=image))
            assert (name, file) == ('test_img', f'out/{own}')


def test_other_steps_and_folders_are_no_conflict():
    files = PictureFiles()
    for image in IMAGES:
        assert files.distinct('val_x.png', None, IMAGES.index(image), dict(img_path=image))[0] == 'val_x.png'
        assert files.distinct('x', f'out{IMAGES.index(image)}/x.png', 0, dict(img_path=image))[1].endswith('/x.png')


def test_names_given_by_the_caller_are_kept():
    files = PictureFiles()
    for image in IMAGES:
        assert files.distinct('val_img', None, 0, dict(img_path=image)) == ('val_img', None)
        assert files.distinct('x', 'out/result.png', 0, dict(img_path=image)) == ('x', 'out/result.png')
    assert files.distinct('x', 'x.png', 0, None) == files.distinct('x', 'x.png', 0, {}) == ('x', 'x.png')


def test_an_image_is_not_replaced(tmp_path):
    image = str(tmp_path / 'x.png')
    with pytest.raises(ValueError, match=f'would replace the image {image}. Fix: choose another folder'):
        PictureFiles().distinct('x.png', f'{tmp_path}/./x.png', 0, dict(img_path=image))
