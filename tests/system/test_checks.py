from pathlib import Path
from typing import Any

import pytest
from django.db import connection as database

from anaphora.reports.checks import local_store_can_be_written
from delivery_s3.checks import secrets_can_be_decrypted
from delivery_s3.models import S3Interface


def test_a_writable_data_dir_is_no_error() -> None:
    assert local_store_can_be_written() == []


def test_an_unwritable_data_dir_is_an_error(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path / "a-file"
    settings.DATA_DIR.touch()
    (message,) = local_store_can_be_written()
    assert message.id == "reports.E001"
    assert "Cannot write to the folder" in message.msg


@pytest.mark.django_db
def test_a_secret_that_no_key_decrypts_is_named(interface: S3Interface) -> None:
    assert secrets_can_be_decrypted(databases=["default"]) == []
    with database.cursor() as cursor:
        cursor.execute("UPDATE delivery_s3_s3interface SET secret_access_key = %s", [b"nonsense"])
    (message,) = secrets_can_be_decrypted(databases=["default"])
    assert interface.name in message.msg
    assert secrets_can_be_decrypted() == []
