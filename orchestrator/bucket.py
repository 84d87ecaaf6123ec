"""A shelf in S3, or whatever speaks S3. Region, credentials and endpoint are boto3's own settings (`AWS_…`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from orchestrator.documents import ERASURES
from orchestrator.errors import StoreUnavailable

_ERASURES = "erasures/"
_SECONDS = 10
_GLANCE_SECONDS = 2
"""Whether the bucket lets us in is asked by `/readyz`, whose probes wait for some seconds only."""


class Bucket:
    """A shelf at `s3://bucket/prefix`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._bucket = parts.netloc
        self._prefix = f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
        session = boto3.session.Session()
        retries = {"max_attempts": 3, "mode": "standard"}
        config = Config(connect_timeout=_SECONDS, read_timeout=_SECONDS, retries=retries)
        self._client: Any = session.client("s3", config=config)
        glance = Config(
            connect_timeout=_GLANCE_SECONDS, read_timeout=_GLANCE_SECONDS, retries={"total_max_attempts": 1}
        )
        self._glancing: Any = session.client("s3", config=glance)

    def write(self, location: str, sealed: bytes) -> None:
        """See Shelf.write."""
        self._call("put_object", Key=self._prefix + location, Body=sealed)

    def read(self, location: str) -> bytes | None:
        """See Shelf.read."""
        try:
            found = self._client.get_object(Bucket=self._bucket, Key=self._prefix + location)
            content: bytes = found["Body"].read()
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                return None
            raise _unavailable(error) from error
        except BotoCoreError as error:
            raise _unavailable(error) from error
        return content

    def remove(self, location: str) -> None:
        """See Shelf.remove."""
        self._call("delete_object", Key=self._prefix + location)

    def locations(self) -> Iterator[tuple[str, float]]:
        """See Shelf.locations."""
        for name, written_at in self._names(self._prefix):
            if not name.startswith(_ERASURES) and name != ERASURES:
                yield name, written_at

    def note_erasure(self, onboarding_id: str, at: str) -> None:
        """See Shelf.note_erasure: an object `erasures/<time> <id>` below the prefix."""
        self._call("put_object", Key=f"{self._prefix}{_ERASURES}{at} {onboarding_id}", Body=b"")

    def erasures(self) -> list[str]:
        """See Shelf.erasures; those noted while the documents were in a folder came with its `erasures.log`."""
        log = (self.read(ERASURES) or b"").decode().splitlines()
        noted = [name.rpartition(" ")[2] for name, _ in self._names(self._prefix + _ERASURES)]
        return [line.rpartition(" ")[2] for line in log if " " in line] + noted

    def check_writable(self) -> None:
        """See Shelf.check_writable: whether the bucket lets us in, without waiting long."""
        try:
            self._glancing.head_bucket(Bucket=self._bucket)
        except (ClientError, BotoCoreError) as error:
            raise _unavailable(error) from error

    def _names(self, prefix: str) -> Iterator[tuple[str, float]]:
        try:
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                for item in page.get("Contents", ()):
                    yield item["Key"].removeprefix(self._prefix), item["LastModified"].timestamp()
        except (ClientError, BotoCoreError) as error:
            raise _unavailable(error) from error

    def _call(self, operation: str, **arguments: Any) -> None:
        try:
            getattr(self._client, operation)(Bucket=self._bucket, **arguments)
        except (ClientError, BotoCoreError) as error:
            raise _unavailable(error) from error


def _unavailable(error: Exception) -> StoreUnavailable:
    code = error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""
    return StoreUnavailable(
        f"the bucket could not be used ({code or type(error).__name__}): check ORCHESTRATOR_DOCUMENTS_URL, the "
        "credentials (AWS_… in the environment, not in .env) and the network"
    )
