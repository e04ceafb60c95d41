"""Downloads from a local server that fails in many ways are complete or absent, and the error is reported."""

import hashlib
import resource
import shutil
import socket
from types import SimpleNamespace

import pytest
from helpers.file_server import serving

from mmmaskformer.checkpoints import downloads, transfers
from mmmaskformer.checkpoints.downloads import AbsentError, DownloadError, download

CONTENT = bytes(range(256)) * 5000
CHECKSUM = f'md5:{hashlib.md5(CONTENT).hexdigest()[:6]}'


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, 'PAUSES', (0.0, 0.0))
    monkeypatch.setattr(transfers, 'BLOCK', 1 << 14)
    with serving() as found:
        found.files['weights.pkl'] = CONTENT
        yield found


@pytest.fixture
def fetch(server, tmp_path):
    """Download the file; returns the reported messages."""
    lines: list[str] = []

    def fetch_file(name: str = 'weights.pkl', checksum: str = CHECKSUM, check=None):
        download(server.address + name, tmp_path / 'weights.pkl', checksum, lines.append, check)
        return lines

    return fetch_file


def ranges(server) -> list[str | None]:
    return [span for _, span in server.requests]


def test_a_complete_file(server, fetch, tmp_path):
    lines = fetch()
    assert [path.name for path in tmp_path.iterdir()] == ['weights.pkl']
    assert (tmp_path / 'weights.pkl').read_bytes() == CONTENT and ranges(server) == [None]
    assert len(lines) in (9, 10) and lines[0] == 'weights.pkl: 10 % of 1.3 MB'


def test_a_broken_download_continues(server, fetch, tmp_path):
    server.faults['weights.pkl'] = ['busy', 'break', 'break', 'busy', 'break']
    lines = fetch(checksum=f'sha256:{hashlib.sha256(CONTENT).hexdigest()}')
    assert (tmp_path / 'weights.pkl').read_bytes() == CONTENT
    starts = [0 if span is None else int(span[6:-1]) for span in ranges(server)]
    size = len(CONTENT)
    assert starts == [0, 0, size // 2, size * 3 // 4, size * 3 // 4, size * 7 // 8]
    assert len([line for line in lines if 'the transfer broke after' in line]) == 5


def test_a_partial_file_is_used(server, fetch, tmp_path):
    (tmp_path / 'weights.pkl.part').write_bytes(CONTENT[:1000])
    fetch()
    assert ranges(server) == ['bytes=1000-'] and (tmp_path / 'weights.pkl').read_bytes() == CONTENT


@pytest.mark.parametrize(
    'part, requests, fault',
    [
        (CONTENT[:1000], ['bytes=1000-'], 'whole'),  # a server without support for ranges
        (CONTENT, [f'bytes={len(CONTENT)}-'], ''),
        (CONTENT + b'x', [f'bytes={len(CONTENT) + 1}-', None], ''),
        (b'y' * 1000, ['bytes=1000-', None], ''),  # part of another file, which the checksum reveals
    ],
    ids=['no ranges', 'whole', 'too long', 'another file'],
)
def test_partial_files_of_all_kinds(server, fetch, tmp_path, part, requests, fault):
    (tmp_path / 'weights.pkl.part').write_bytes(part)
    server.faults['weights.pkl'] = [fault]
    fetch()
    assert ranges(server) == requests and (tmp_path / 'weights.pkl').read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ['weights.pkl']


def test_a_file_that_differs_from_the_published_one(fetch, tmp_path):
    with pytest.raises(DownloadError, match=rf'md5 {CHECKSUM[4:]}…, expected 000000…; nothing is kept. Fix: try again'):
        fetch(checksum='md5:000000')
    assert not list(tmp_path.iterdir())


def test_a_missing_file(fetch, tmp_path):
    with pytest.raises(AbsentError, match=r'HTTP 404 Not Found. Fix: find the file .* save it as .*/weights\.pkl$'):
        fetch('absent.pkl')
    assert not list(tmp_path.iterdir())


def test_no_network(tmp_path):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        address = f'http://127.0.0.1:{free.getsockname()[1]}/weights.pkl'
        message = (
            rf'{address} cannot be downloaded \(.*refused.*\). Fix: download it by hand and save it as {tmp_path}/w.pkl'
        )
        with pytest.raises(DownloadError, match=message):
            download(address, tmp_path / 'w.pkl', '', print)


def test_a_server_that_always_fails_is_reported_and_the_part_is_kept(server, fetch, tmp_path):
    server.faults['weights.pkl'] = ['break', *['busy'] * 9]
    with pytest.raises(DownloadError, match='HTTP 503 .* Fix: download it by hand'):
        fetch()
    assert len(server.requests) == 3  # two attempts in a row make no progress
    assert (tmp_path / 'weights.pkl.part').read_bytes() == CONTENT[: len(CONTENT) // 2]


def test_a_full_disk_is_named(fetch, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r'1 MB are needed for weights.pkl, 0 MB are free; nothing is .* Fix: free space'):
        fetch()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('fault', ['gzip', 'chunks', '/elsewhere/weights.pkl', 'chunks break', 'gzip break'])
def test_answers_of_other_forms_give_the_same_file(server, fetch, tmp_path, fault):
    """Compressed, without a length, or redirected; also if such a transfer breaks, which no length would reveal."""
    server.files['elsewhere/weights.pkl'] = CONTENT
    server.faults['weights.pkl'] = [fault]
    fetch(checksum='')
    assert (tmp_path / 'weights.pkl').read_bytes() == CONTENT
    assert len(server.requests) == 1 + (' ' in fault or '/' in fault)


def test_a_part_that_begins_elsewhere_is_not_added(server, fetch, tmp_path):
    (tmp_path / 'weights.pkl.part').write_bytes(CONTENT[:1000])
    server.faults['weights.pkl'] = ['later']
    fetch()
    assert ranges(server) == ['bytes=1000-', None] and (tmp_path / 'weights.pkl').read_bytes() == CONTENT


@pytest.mark.parametrize('changed', [False, True])
def test_the_rest_of_another_version_is_not_added(server, fetch, tmp_path, changed):
    """Without a checksum, nothing else would reveal it."""
    server.versions['weights.pkl'] = 'one'
    server.faults['weights.pkl'] = ['break', *['busy'] * 3]
    with pytest.raises(DownloadError, match='503'):
        fetch(checksum='')
    assert (tmp_path / 'weights.pkl.part').stat().st_size == len(CONTENT) // 2
    newer = bytes(reversed(CONTENT))
    server.faults.clear()
    server.requests.clear()
    if changed:
        server.versions['weights.pkl'], server.files['weights.pkl'] = 'two', newer
    fetch(checksum='')
    assert ranges(server) == [f'bytes={len(CONTENT) // 2}-']
    assert (tmp_path / 'weights.pkl').read_bytes() == (newer if changed else CONTENT)
    assert [path.name for path in tmp_path.iterdir()] == ['weights.pkl']


def test_a_part_of_unknown_origin_is_not_used(server, fetch, tmp_path):
    (tmp_path / 'weights.pkl.part').write_bytes(b'y' * 1000)
    fetch(checksum='')
    assert ranges(server) == [None] and (tmp_path / 'weights.pkl').read_bytes() == CONTENT


@pytest.mark.parametrize('fault, message', [
    ('/weights.pkl', 'the server answers HTTP 302 .*infinite loop.* Fix: find the file'),
    ('/none.pkl', 'the server answers HTTP 404 Not Found'),
    ('brotli', 'Content-Encoding: br, expected none, or one of gzip'),
    ('short', r'has md5 .*…, expected .*; nothing is kept. Fix: try again; .* save it as .*/weights\.pkl$'),
    ('page', 'it is a page of the hotel; nothing is kept'),
])  # fmt: skip
def test_answers_that_are_not_the_file(server, fetch, tmp_path, fault, message):
    def require_no_page(path):
        if path.read_bytes()[:1] == b'<':
            raise DownloadError('it is a page of the hotel')

    server.faults['weights.pkl'] = [fault] * 20
    with pytest.raises(DownloadError, match=message) as caught:
        fetch(check=require_no_page)
    assert not list(tmp_path.iterdir()) and '\n' not in str(caught.value)


def test_an_invalid_address_is_named(tmp_path):
    for address in ('http://[::1/w.pkl', 'nothing://a/w.pkl', 'http://a b/w.pkl'):
        with pytest.raises(DownloadError, match=r'cannot be downloaded \(.*\). Fix: download it by hand'):
            download(address, tmp_path / 'w.pkl', '', print)


def test_a_disk_that_fills_up_during_a_download_names_the_file_and_keeps_the_part(fetch, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) // 3, hard))
    try:
        with pytest.raises(OSError, match=r'weights.pkl: could not be written \(File too large\); no file exists'):
            fetch()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ['weights.pkl.part']
    fetch()
    assert (tmp_path / 'weights.pkl').read_bytes() == CONTENT


def test_a_name_that_is_taken_is_refused_before_anything_is_fetched(server, fetch, tmp_path):
    (tmp_path / 'weights.pkl').mkdir()
    with pytest.raises(FileExistsError, match='weights.pkl: found a folder, expected a file'):
        fetch()
    assert not server.requests
