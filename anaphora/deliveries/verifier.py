"""Loads the stand-alone verifier, docs/verify_archive.py.

The same file runs in this process and on an auditor's machine, and a copy is stored in the bucket.
"""

import hashlib
import importlib.util
import sys
from functools import cache
from types import ModuleType

from django.conf import settings

PATH = settings.BASE_DIR / "docs" / "verify_archive.py"


@cache
def content() -> bytes:
    """Return the verifier's bytes."""
    return PATH.read_bytes()


@cache
def sha256() -> str:
    """Return the SHA-256 of the verifier, in hexadecimal."""
    return hashlib.sha256(content()).hexdigest()


@cache
def module() -> ModuleType:
    """Return the verifier as a module."""
    spec = importlib.util.spec_from_file_location("verify_archive", PATH)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules["verify_archive"] = loaded  # dataclasses look their module up there
    spec.loader.exec_module(loaded)
    return loaded
