"""Creates the botocore sessions that sign requests: with an access key, the machine's role or an assumed role.

Requests do not use any other AWS configuration of the machine. Only this module and `storage` import boto3 or botocore.
"""

import os
from collections.abc import Callable
from typing import Any

import boto3
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
from botocore.exceptions import NoCredentialsError
from botocore.loaders import create_loader
from botocore.session import Session as BotocoreSession

_LOADER = create_loader()
"""Reads botocore's descriptions of services. It keeps what it has read, so all sessions share it: reading takes most of
the time in which a client is created.
"""

SESSION_NAME = "anaphora"
"""The role session name, shown in CloudTrail of the account that owns the role."""


def access_key_session(access_key_id: str, secret_access_key: str) -> BotocoreSession:
    """Return a session that signs with this access key."""
    session = _isolated_session()
    session.set_credentials(access_key_id, secret_access_key)
    return session


def machine_role_session() -> BotocoreSession:
    """Return a session that signs with the credentials of boto3's default chain.

    The chain is: environment variables, web identity (Kubernetes), ~/.aws, container role, instance role. Raises
    botocore's NoCredentialsError if it finds none.
    """
    credentials = BotocoreSession().get_credentials()
    if credentials is None:
        raise NoCredentialsError
    return _session_with(credentials)


def assumed_role_session(
    session: BotocoreSession, role_arn: str, external_id: str, make_sts: Callable[[BotocoreSession], Any]
) -> BotocoreSession:
    """Return a session that signs as `role_arn`, assumed with the credentials of `session` and renewed before expiry.

    `make_sts` creates an STS client from a session. The first request assumes the role, not this function.
    """
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=lambda *args, **kwargs: make_sts(session),
        source_credentials=session.get_credentials(),
        role_arn=role_arn,
        extra_args={"RoleSessionName": SESSION_NAME} | ({"ExternalId": external_id} if external_id else {}),
    )
    return _session_with(DeferredRefreshableCredentials(fetcher.fetch_credentials, method="assume-role"))


def sts_client(
    session: BotocoreSession, *, region: str, endpoint_url: str, verify: str, timeouts: tuple[float, float]
) -> Any:
    """Return an STS client for `endpoint_url` (MinIO, Ceph), or for AWS in the region if that is empty."""
    return boto3.Session(botocore_session=session).client(
        "sts",
        region_name=region,
        endpoint_url=endpoint_url or None,
        verify=verify,
        config=Config(  # type: ignore[call-arg]  # the stubs lag behind botocore
            connect_timeout=timeouts[0],
            read_timeout=timeouts[1],
            retries={"total_max_attempts": 2, "mode": "standard"},
            ignore_configured_endpoint_urls=True,
        ),
    )


def _session_with(credentials: Any) -> BotocoreSession:
    session = _isolated_session()
    session.register_component("credential_provider", _FixedCredentials(credentials))
    return session


class _FixedCredentials:
    """A credential provider that replaces botocore's chain."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials

    def load_credentials(self) -> Any:
        return self._credentials


def _isolated_session() -> BotocoreSession:
    """Return a botocore session that ignores AWS environment variables and the files in ~/.aws.

    Otherwise AWS_PROFILE, AWS_ENDPOINT_URL, AWS_CA_BUNDLE, AWS_SESSION_TOKEN and about thirty other variables would
    affect the requests of an interface with its own access key. Proxy variables still apply, because they belong to the
    network of the machine and not to an AWS account.
    """
    session = BotocoreSession(
        session_vars={
            name: (None, None, default, conversion)
            for name, (_, _, default, conversion) in BotocoreSession.SESSION_VARIABLES.items()
        }
    )
    session.register_component("data_loader", _LOADER)
    session.set_config_variable("config_file", os.devnull)
    session.set_config_variable("credentials_file", os.devnull)
    return session
