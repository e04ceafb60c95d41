"""A model zoo of small models on a local server, in the true file formats."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from helpers.file_server import FileServer


class Zoo(NamedTuple):
    """A server, the cache, and the list of models.

    Attributes:
        server: serves the files.
        cache: folder of the downloaded files.
        data: the list; `add` rewrites it.
    """

    server: FileServer
    cache: Path
    data: Path

    def add(self, name: str, path: Path, **more) -> None:
        """Serve a file, or a folder of transformers, as the model of this name."""
        entries = json.loads(self.data.read_text())['models'] if self.data.exists() else {}
        entry = dict(package='official', task='semantic', licence='a licence for tests', result={'mIoU': 12.5})
        entry['address'] = f'{self.server.address}{name}/'
        if path.is_dir():
            self.server.files |= {f'{name}/{file.name}': file.read_bytes() for file in path.iterdir()}
            entry['package'] = 'transformers'
        else:
            self.server.files[f'{name}/{path.name}'] = path.read_bytes()
            entry['address'] += path.name
            entry['checksum'] = f'sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}'
        entries[name] = entry | more
        self.data.write_text(json.dumps({'models': entries}))

    def use(self, monkeypatch) -> None:
        """Make this process and its children use this zoo."""
        monkeypatch.setenv('MMMASKFORMER_ZOO', str(self.data))
        monkeypatch.setenv('MMMASKFORMER_CACHE', str(self.cache))
        monkeypatch.delenv('MMMASKFORMER_OFFLINE', raising=False)
