"""A sample kind of destination: a folder. Each object is a file; a hidden file next to it contains its metadata."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from shutil import copyfileobj
from tempfile import NamedTemporaryFile
from typing import BinaryIO

from anaphora.deliveries import errors
from anaphora.deliveries.destinations import Condition, Integrity, ListedObject, Receipt, StoredObject, Upload
from anaphora.deliveries.errors import DeliveryError, Diagnosis, register

FOLDER_NOT_USABLE = Diagnosis(
    "folder_not_usable",
    "Folder not usable",
    "The folder does not exist, or this machine may not read or write it.",
    f"Check Folder, and the permissions of the folder. {errors.RETRIED}",
    field="folder",
    retryable=True,
)
register(globals())


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DeliveryError(FOLDER_NOT_USABLE, str(error)) from error


class FolderDestination:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self) -> None: ...

    def put(self, upload: Upload, body: BinaryIO) -> Receipt:
        target, condition = self._folder / upload.key, Condition.MET
        with _explained(), NamedTemporaryFile(dir=self._folder, prefix=".part-") as part:
            body.seek(0)
            copyfileobj(body, part)
            part.flush()
            os.fsync(part.fileno())
            if _digest(Path(part.name), "sha256") != upload.sha256:
                raise DeliveryError(errors.DIGEST_MISMATCH)
            target.parent.mkdir(parents=True, exist_ok=True)
            _metadata_of(target).write_text(json.dumps(asdict(upload)))
            try:
                os.link(part.name, target)  # fails if the name exists, which makes the write conditional
            except FileExistsError:
                condition = Condition.EXISTED
                if _digest(target, "sha256") != upload.sha256:
                    raise DeliveryError(errors.KEY_TAKEN, upload.key) from None
        return Receipt(upload.key, upload.size, upload.sha256, Integrity.SHA256, condition, etag=upload.md5)

    def head(self, key: str, version_id: str = "") -> StoredObject | None:
        path = self._folder / key
        with _explained():
            if not path.is_file():
                return None
            stat, described = path.stat(), json.loads(_metadata_of(path).read_text())
            at, etag, sha256 = datetime.fromtimestamp(stat.st_mtime, UTC), _digest(path, "md5"), _digest(path, "sha256")
            return StoredObject(stat.st_size, etag, sha256, at, "", described["content_type"], described["metadata"])

    def stream(
        self, key: str, version_id: str = "", *, size: int, between: tuple[int, int] | None = None, etag: str = ""
    ) -> Iterator[bytes]:
        start, end = between or (0, size)
        path = self._folder / key
        with _explained(), path.open("rb") as file:
            if path.stat().st_size != size or (etag and _digest(path, "md5") != etag):
                raise DeliveryError(errors.OBJECT_CHANGED, f"{key} is another file")
            file.seek(start)
            while start < end and (chunk := file.read(min(1024 * 1024, end - start))):
                start += len(chunk)
                yield chunk

    def list_objects(self, prefix: str) -> Iterator[list[ListedObject]]:
        with _explained():
            paths = sorted(path for path in self._folder.rglob("*") if path.is_file() and path.name[0] != ".")
            found = [ListedObject(str(path.relative_to(self._folder)), path.stat().st_size, "") for path in paths]
        yield [each for each in found if each.key.startswith(prefix)]

    def presigned_url(self, key: str, version_id: str, *, content_type: str, disposition: str) -> str:
        return ""


def _metadata_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.json")


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
