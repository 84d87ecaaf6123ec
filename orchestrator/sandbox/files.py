"""Files as a provider receives them: typed by content, weighed, hashed; the bytes themselves are not kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from werkzeug.datastructures import FileStorage

LARGEST_FILE = 5_000_000
LARGEST_SUM = 10_000_000

_BEGINNINGS = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"%PDF-": "application/pdf",
}


@dataclass(frozen=True)
class ReceivedFile:
    """What is remembered of one file part. `media_type` is by content; None when it is none of those taken."""

    part: str
    filename: str
    size: int
    sha256: str
    media_type: str | None

    def as_json(self) -> dict[str, object]:
        """As `/sandbox/requests` shows it."""
        return {
            "part": self.part,
            "filename": self.filename,
            "size": self.size,
            "sha256": self.sha256,
            "mediaType": self.media_type,
        }


def receive_file(part: str, storage: FileStorage) -> ReceivedFile:
    """Read one uploaded part to its end."""
    data = storage.read()
    media_type = next((kind for mark, kind in _BEGINNINGS.items() if data.startswith(mark)), None)
    return ReceivedFile(part, storage.filename or "", len(data), hashlib.sha256(data).hexdigest(), media_type)
