"""The project's own settings, with the values that a test run needs and a user's environment rarely has."""

import os
import tempfile

os.environ.setdefault("SECRET_KEY", "only for tests")
os.environ.setdefault("FERNET_KEYS", "the newest key of the tests,an older key of the tests")
# Each test process has its own folder and queue; workers started by a test use those of their parent.
if os.environ.get("ANAPHORA_TEST_OWNER") != os.environ.get("PYTEST_XDIST_WORKER", "main"):
    os.environ["ANAPHORA_TEST_OWNER"] = os.environ.get("PYTEST_XDIST_WORKER", "main")
    os.environ["ANAPHORA_TEST_QUEUE"] = f"anaphora-test-{os.getpid()}"
    os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="anaphora-test-")
# Most tests care for bytes, not for what they are, and not for how full the machine's disk is.
os.environ.setdefault("INGEST_OTHER_TYPES", "*")
os.environ.setdefault("MIN_FREE_MB", "0")

from anaphora.settings import *  # noqa: F403
from anaphora.settings import DATA_DIR, DATABASES, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.folder_destination"]
if os.environ.get("WITHOUT_S3"):
    INSTALLED_APPS.remove("delivery_s3")

CELERY_TASK_DEFAULT_QUEUE = os.environ["ANAPHORA_TEST_QUEUE"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # A file, because the worker that a test starts must see the same database.
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}
