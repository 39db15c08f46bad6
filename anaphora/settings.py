"""All settings, read from the environment and from a `.env` file.

Each setting can also be given as `NAME_FILE`, the path of a file that contains the value. See
docs/configuration.md. If a value is missing or invalid, the process exits with a message that names the setting.
"""

import os
import re
import zoneinfo
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import django_stubs_ext
import environ
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.core.management.utils import get_random_secret_key

# Allows admin.ModelAdmin[Report] and similar at run time. Without it, Django supports this for type checking only.
django_stubs_ext.monkeypatch()

T = TypeVar("T")

# Files are readable by the owner only, including an SQLite database outside DATA_DIR. Every process reads this
# module before it creates files.
os.umask(0o077)

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.FileAwareEnv()
environ.Env.read_env(os.environ.get("ENV_FILE", BASE_DIR / ".env"))


def _stop(name: str, problem: str) -> NoReturn:
    raise SystemExit(f"anaphora: setting {name}: {problem}")


def _read(name: str, parse: Callable[[str], T], default: str | None) -> T:
    """Return the setting `name`, parsed. Exit with a message if it is missing, unreadable or invalid."""
    try:
        # Not env.str(), because it interprets a value that begins with $ as the name of another variable.
        text = env.ENVIRON.get(name, default or "").strip()
    except OSError as error:
        _stop(name, f"the file named by {name}_FILE cannot be read: {error.strerror}")
    if not text and default is None:
        hint = f" For example: {name}='{get_random_secret_key()}'" if name in {"SECRET_KEY", "FERNET_KEYS"} else ""
        _stop(name, f"is not set; see docs/configuration.md.{hint}")
    try:
        return parse(text)
    except ValueError as error:
        _stop(name, str(error))


def _boolean(text: str) -> bool:
    known = {
        "true": True,
        "on": True,
        "yes": True,
        "1": True,
        "false": False,
        "off": False,
        "no": False,
        "0": False,
    }
    if text.lower() not in known:
        raise ValueError(f"{text!r} is not a Boolean; use true or false")
    return known[text.lower()]


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise ValueError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return parse


def _names(text: str) -> list[str]:
    return [part for part in (part.strip() for part in text.split(",")) if part]


def _mapping(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in _names(text)]
    if not all(key.strip() and value.strip() for key, _, value in pairs):
        raise ValueError(f"{text!r} is not a list such as archive-admins=Administrator,archive-readers=Viewer")
    return {key.strip(): value.strip() for key, _, value in pairs}


def _time_zone(text: str) -> str:
    if text not in zoneinfo.available_timezones():
        raise ValueError(f"{text!r} is not a time zone of the IANA database, such as Europe/Berlin")
    return text


def _rate(text: str) -> str:
    number, _, unit = text.partition("/")
    if text and not (number.isdecimal() and int(number) > 0 and unit in {"s", "min", "h", "d"}):
        raise ValueError(f"{text!r} is not a rate such as 600/min; the unit is s, min, h or d")
    return text


def _networks(text: str) -> list[IPv4Network | IPv6Network]:
    try:
        return [ip_network(part) for part in _names(text)]
    except ValueError as error:
        raise ValueError(f"{error}; write networks such as 10.0.0.0/8,192.168.7.4/32") from error


def _mail_server(text: str) -> dict[str, Any]:
    # The value can contain a password, so no message repeats it.
    schemes = ("smtp", "smtp+tls", "smtp+ssl", "consolemail")
    if urlsplit(text).scheme not in schemes:
        raise ValueError("must begin with smtp://, smtp+tls:// or smtp+ssl://")
    try:
        config: dict[str, Any] = environ.Env.email_url_config(text)
    except Exception as error:
        raise ValueError("is not a mail server's address, such as smtp+tls://user:password@host:587") from error
    return config


def _address(text: str) -> str:
    parts = urlsplit(text)
    if text and (parts.scheme not in {"http", "https"} or not parts.netloc):
        raise ValueError(f"{text!r} is not an address such as https://archive.example.com")
    return text.rstrip("/")


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text!r} is not one of {', '.join(choices)}")
        return text

    return parse


def _log_level(text: str) -> str:
    levels = ("DEBUG", "INFO", "WARNING", "ERROR")
    if text.upper() not in levels:
        raise ValueError(f"{text!r} is not one of {', '.join(levels)}")
    return text.upper()


def _folder(text: str) -> Path:
    folder = Path(text).expanduser()
    folder = folder if folder.is_absolute() else BASE_DIR / folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"the folder {folder} cannot be created: {error.strerror}") from error
    return folder


def _private_folder(text: str) -> Path:
    folder = _folder(text)
    # The folder contains reports, sessions and messages, so other users must not read it. If another user owns it, the
    # system check of the local store reports whether it can be used.
    with suppress(OSError):
        folder.chmod(0o700)
    return folder


def _database(text: str) -> dict[str, Any]:
    # The value can contain a password, so no message repeats it.
    if urlsplit(text).scheme not in {"sqlite", "postgres", "postgresql"}:
        raise ValueError("must begin with postgresql:// or sqlite:///")
    try:
        config: dict[str, Any] = environ.Env.db_url_config(text)
    except Exception as error:
        raise ValueError("is not a database address, such as postgresql://user:password@host:5432/name") from error
    if config["ENGINE"].endswith("sqlite3"):
        # WAL allows reads while a worker writes. IMMEDIATE acquires the write lock at the start of a transaction, where
        # SQLite waits for it. At the first write, SQLite would fail immediately.
        config["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        }
    else:
        config["CONN_MAX_AGE"] = 60
        config["CONN_HEALTH_CHECKS"] = True
    return config


_PEM = re.compile(r"-----BEGIN PRIVATE KEY-----.+?-----END PRIVATE KEY-----", re.DOTALL)


def _signing_keys(text: str) -> list[str]:
    # The value is a secret, so no message repeats it. In a .env file a line end may be written as \n.
    found = [f"{each}\n" for each in _PEM.findall(text.replace("\\n", "\n"))]
    if text and not found:
        raise ValueError("is not a private key in PEM form (openssl genpkey -algorithm ed25519)")
    for each in found:
        try:
            usable = isinstance(load_pem_private_key(each.encode(), password=None), Ed25519PrivateKey)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            usable = False
        if not usable:
            raise ValueError("is not an Ed25519 key (openssl genpkey -algorithm ed25519)")
    return found


def _http_address(text: str) -> str:
    if text and not (urlsplit(text).scheme in {"http", "https"} and urlsplit(text).hostname):
        raise ValueError("must begin with http:// or https:// and name a host")
    return text


def _broker(text: str) -> str:
    schemes = ("filesystem", "redis", "rediss", "amqp", "amqps")
    if urlsplit(text).scheme not in schemes:
        raise ValueError(f"must begin with one of {', '.join(f'{scheme}://' for scheme in schemes)}")
    return text


SECRET_KEY = _read("SECRET_KEY", str, None)
FERNET_KEYS = _read("FERNET_KEYS", _names, None)
DEBUG = _read("DEBUG", _boolean, "false")
ALLOWED_HOSTS = _read("ALLOWED_HOSTS", _names, "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = _read("CSRF_TRUSTED_ORIGINS", _names, "")
HTTPS = _read("HTTPS", _boolean, "false")
LOGIN_ATTEMPTS = _read("LOGIN_ATTEMPTS", _whole_number(1, 10_000), "10")
TIME_ZONE = _read("TIME_ZONE", _time_zone, "UTC")
LOG_LEVEL = _read("LOG_LEVEL", _log_level, "INFO")
DATA_DIR = _read("DATA_DIR", _private_folder, "var")
DATABASES = {"default": _read("DATABASE_URL", _database, f"sqlite:///{DATA_DIR / 'anaphora.sqlite3'}")}

DELIVERY_CONCURRENCY = _read("DELIVERY_CONCURRENCY", _whole_number(1, 256), "8")
DELIVERY_LEASE_SECONDS = _read("DELIVERY_LEASE_SECONDS", _whole_number(10, 86_400), "300")
DELIVERY_RETRY_SECONDS = _read("DELIVERY_RETRY_SECONDS", _whole_number(1, 86_400), "3600")
DELIVERY_SWEEP_SECONDS = _read("DELIVERY_SWEEP_SECONDS", _whole_number(1, 86_400), "30")

DOCS_URL = _read("DOCS_URL", _address, "")
SIGNING_KEY = _read("SIGNING_KEY", _signing_keys, "")
TIME_STAMP_URL = _read("TIME_STAMP_URL", _http_address, "")

ALLOW_PRIVATE_ENDPOINTS = _read("ALLOW_PRIVATE_ENDPOINTS", _boolean, "true")

# The maximum size of one PutObject is 5 GiB (Amazon S3 User Guide, "Uploading objects").
INGEST_MAX_BYTES = _read("INGEST_MAX_BYTES", _whole_number(1, 5 * 1024**3), str(5 * 1024**3))
INGEST_OTHER_TYPES = _read("INGEST_OTHER_TYPES", _names, "*")
INBOX_DIR = _read("INBOX_DIR", lambda text: _folder(text) if text else None, "")
INBOX_SECONDS = _read("INBOX_SECONDS", _whole_number(1, 86_400), "10")
INBOX_SETTLE_SECONDS = _read("INBOX_SETTLE_SECONDS", _whole_number(1, 86_400), "5")
INBOX_KEEP_DAYS = _read("INBOX_KEEP_DAYS", _whole_number(0, 36_500), "7")
API_RATE = _read("API_RATE", _rate, "600/min")
HOUSEKEEPING_INTEGRITY = _read("HOUSEKEEPING_INTEGRITY", _one_of("sha256", "etag", "md5", "none"), "md5")
PRESIGN_DOWNLOADS = _read("PRESIGN_DOWNLOADS", _boolean, "false")
MIN_FREE_MB = _read("MIN_FREE_MB", _whole_number(0, 10**9), "500")

OIDC_ISSUER = _read("OIDC_ISSUER", _address, "")
OIDC_CLIENT_ID = _read("OIDC_CLIENT_ID", str, None if OIDC_ISSUER else "")
OIDC_CLIENT_SECRET = _read("OIDC_CLIENT_SECRET", str, None if OIDC_ISSUER else "")
OIDC_GROUPS = _read("OIDC_GROUPS", _mapping, None if OIDC_ISSUER else "")
OIDC_GROUPS_CLAIM = _read("OIDC_GROUPS_CLAIM", str, "groups")
OIDC_USERNAME_CLAIM = _read("OIDC_USERNAME_CLAIM", str, "preferred_username")
OIDC_SCOPES = _read("OIDC_SCOPES", str, "openid email profile")
OIDC_NAME = _read("OIDC_NAME", str, "single sign-on")

METRICS_TOKEN = _read("METRICS_TOKEN", str, "")
METRICS_NETWORKS = _read("METRICS_NETWORKS", _networks, "")
RETEST_HOURS = _read("RETEST_HOURS", _whole_number(0, 8_760), "24")
SITE_URL = _read("SITE_URL", _address, "")
ALERT_REPEAT_HOURS = _read("ALERT_REPEAT_HOURS", _whole_number(0, 8_760), "24")
ALERT_WAITING_MINUTES = _read("ALERT_WAITING_MINUTES", _whole_number(1, 525_600), "60")
AUDIT_RETENTION = _read("AUDIT_RETENTION", _whole_number(0, 36_500), "0")
ALERT_DISK_MB = _read("ALERT_DISK_MB", _whole_number(0, 10**9), "2000")
_mail = _read("EMAIL_URL", _mail_server, "smtp://localhost:25")
EMAIL_BACKEND, EMAIL_HOST, EMAIL_PORT = _mail["EMAIL_BACKEND"], _mail["EMAIL_HOST"], _mail["EMAIL_PORT"] or 25
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _mail["EMAIL_HOST_USER"] or "", _mail["EMAIL_HOST_PASSWORD"] or ""
EMAIL_USE_TLS, EMAIL_USE_SSL = _mail.get("EMAIL_USE_TLS", False), _mail.get("EMAIL_USE_SSL", False)
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = _read("EMAIL_FROM", str, "anaphora@localhost")

CELERY_BROKER_URL = _read("CELERY_BROKER_URL", _broker, "filesystem://localhost")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
# An unreachable broker must not delay an ingest. The sweep finds the delivery later.
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0.2}
CELERY_TIMEZONE = TIME_ZONE
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULER = "anaphora.beat:Scheduler"
CELERY_BEAT_SCHEDULE: dict[str, Any] = {
    "look for due deliveries": {
        "task": "deliveries.sweep",
        "schedule": DELIVERY_SWEEP_SECONDS,
        "options": {"expires": DELIVERY_SWEEP_SECONDS},
    },
}
CELERY_BEAT_SCHEDULE["housekeeping"] = {
    "task": "deliveries.housekeeping",
    "schedule": 3600,
    "options": {"expires": 3600},
}
CELERY_BEAT_SCHEDULE["manifests"] = {
    "task": "deliveries.write_manifests",
    "schedule": 3600,
    "options": {"expires": 3600},
}
CELERY_BEAT_SCHEDULE["immutability"] = {
    "task": "deliveries.check_immutability",
    "schedule": 86_400,
    "options": {"expires": 86_400},
}
CELERY_BEAT_SCHEDULE["previews"] = {"task": "timeline.make_previews", "schedule": 10, "options": {"expires": 10}}
if AUDIT_RETENTION:
    CELERY_BEAT_SCHEDULE["audit retention"] = {
        "task": "operations.remove_old_audit_entries",
        "schedule": 86_400,
        "options": {"expires": 86_400},
    }
if RETEST_HOURS:
    CELERY_BEAT_SCHEDULE["connection tests"] = {
        "task": "operations.retest",
        "schedule": 600,
        "options": {"expires": 600},
    }
if INBOX_DIR:
    CELERY_BEAT_SCHEDULE["look into the inbox"] = {
        "task": "reports.scan_inbox",
        "schedule": INBOX_SECONDS,
        "options": {"expires": INBOX_SECONDS},
    }
for _entry in CELERY_BEAT_SCHEDULE.values():
    # A worker discards expired tasks by its own clock, which can be up to 60 seconds ahead of beat's clock.
    _entry["options"]["expires"] += 60
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {}
if CELERY_BROKER_URL.startswith("filesystem:"):
    for _part in ("messages", "control"):
        _folder(str(DATA_DIR / "broker" / _part))
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(DATA_DIR / "broker" / "messages"),
        "data_folder_out": str(DATA_DIR / "broker" / "messages"),
        "control_folder": str(DATA_DIR / "broker" / "control"),
    }
    # With remote control, every worker would leave a mailbox folder behind.
    CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
elif CELERY_BROKER_URL.startswith("redis"):
    # A server that accepts connections but does not respond must not delay an ingest.
    CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_connect_timeout": 3, "socket_timeout": 5}

INSTALLED_APPS = [
    "anaphora.operations.admin_config.OverviewAdminConfig",  # django.contrib.admin
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.forms",  # its templates are used by FORM_RENDERER
    "django_celery_beat",
    "ninja",
    "axes",
    "anaphora.reports",
    "anaphora.deliveries",
    "anaphora.timeline",
    "anaphora.api",
    "anaphora.operations",
    "delivery_s3",
]
MIDDLEWARE = [
    "anaphora.operations.probes.Probes",  # must be first: probes use neither the host name nor TLS
    "anaphora.middleware.RejectInvalidRequests",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "anaphora.operations.audit_actor.RememberRequest",
    "anaphora.operations.audit_changes.RecordRefusedTokens",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "anaphora.api.middleware.ApiProblems",
    "axes.middleware.AxesMiddleware",  # must be last, see its documentation
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"  # allows form fields with templates of this project
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "timeline"
ROOT_URLCONF = "anaphora.urls"
WSGI_APPLICATION = "anaphora.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en-us"
USE_I18N = False
USE_TZ = True
# Uploads larger than this are written to the disk of the local store first, so that memory use has a bound.
FILE_UPLOAD_MAX_MEMORY_SIZE = 1_000_000
FILE_UPLOAD_TEMP_DIR = _folder(str(DATA_DIR / "uploads"))
FILE_UPLOAD_HANDLERS = [
    "anaphora.reports.upload_handler.UploadGuard",  # must be first
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "anaphora.reports.upload_handler.DiskUploadHandler",
]
FORMAT_MODULE_PATH = ["anaphora.formats"]
STATIC_URL = "static/"
# Static files are served from the packages that contain them, without collectstatic.
WHITENOISE_USE_FINDERS = True
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
# A user name is locked only for the address that sent the wrong passwords, not for other addresses.
AXES_FAILURE_LIMIT = LOGIN_ATTEMPTS
AXES_CLIENT_IP_CALLABLE = "anaphora.client_address.client_address"
AXES_USERNAME_CALLABLE = "anaphora.client_address.typed_name"
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_RESET_ON_SUCCESS = True
# GET requests are redirects from single sign-on. They contain no user name, so one person could lock out everybody at
# an address, and their query must not be stored. Passwords are sent by POST.
AXES_NEVER_LOCKOUT_GET = True
AXES_LOCKOUT_TEMPLATE = "locked_out.html"
AXES_VERBOSE = False
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
if OIDC_ISSUER:
    AUTHENTICATION_BACKENDS.append("anaphora.operations.oidc.OpenIDConnect")
X_FRAME_OPTIONS = "DENY"
DEFAULT_EXCEPTION_REPORTER = "anaphora.error_pages.ErrorReporter"
DEFAULT_EXCEPTION_REPORTER_FILTER = "anaphora.error_pages.ErrorReportFilter"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    # At level DEBUG these loggers write access key IDs, signatures and request headers.
    "loggers": {
        name: {"level": "INFO" if LOG_LEVEL == "DEBUG" else LOG_LEVEL}
        for name in ("botocore", "boto3", "s3transfer", "urllib3", "apprise")
    }
    # Otherwise four lines for each login, which the audit trail records.
    | {"axes": {"level": "WARNING" if LOG_LEVEL in {"DEBUG", "INFO"} else LOG_LEVEL}},
}
