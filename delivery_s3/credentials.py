"""Whose credentials sign: an interface's own keys, this machine's role, or a role that either of them assumes.

Nothing else of the machine's AWS configuration takes part in a request. This module and `storage` are the only ones
that import boto3 or botocore.
"""

import os
from collections.abc import Callable
from typing import Any

import boto3
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
from botocore.exceptions import NoCredentialsError
from botocore.session import Session as BotocoreSession

SESSION_NAME = "anaphora"
"""Names us in the log of the account whose role is assumed."""


def own_keys(access_key_id: str, secret_access_key: str) -> BotocoreSession:
    """Return a session that signs with these keys."""
    session = _isolated()
    session.set_credentials(access_key_id, secret_access_key)
    return session


def machine_role() -> BotocoreSession:
    """Return a session that signs with what boto3's default chain finds.

    That is, in this order: the environment, web identity (Kubernetes), ~/.aws, the container's and the instance's role.
    Raises botocore's NoCredentialsError where there is nothing.
    """
    found = BotocoreSession().get_credentials()
    if found is None:
        raise NoCredentialsError
    return _signing_with(found)


def assumed_role(
    session: BotocoreSession, role_arn: str, external_id: str, make_sts: Callable[[BotocoreSession], Any]
) -> BotocoreSession:
    """Return a session that signs as `role_arn`, assumed with the credentials of `session` and renewed in time.

    `make_sts` makes a client of the Security Token Service from a session. Nothing is requested yet.
    """
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=lambda *args, **kwargs: make_sts(session),
        source_credentials=session.get_credentials(),
        role_arn=role_arn,
        extra_args={"RoleSessionName": SESSION_NAME} | ({"ExternalId": external_id} if external_id else {}),
    )
    return _signing_with(DeferredRefreshableCredentials(fetcher.fetch_credentials, method="assume-role"))


def sts(session: BotocoreSession, *, region: str, endpoint_url: str, verify: str, timeouts: tuple[float, float]) -> Any:
    """Return a client of the token service: the one behind `endpoint_url` (MinIO, Ceph), else AWS's of the region."""
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


def _signing_with(credentials: Any) -> BotocoreSession:
    session = _isolated()
    session.register_component("credential_provider", _Known(credentials))
    return session


class _Known:
    """What botocore asks for credentials instead of its chain."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials

    def load_credentials(self) -> Any:
        return self._credentials


def _isolated() -> BotocoreSession:
    """Return a botocore session that reads no AWS variable and no file of ~/.aws.

    Without this, AWS_PROFILE, AWS_ENDPOINT_URL, AWS_CA_BUNDLE, AWS_SESSION_TOKEN and some thirty more would
    take part in requests of an interface that has its own keys. Proxy variables still count: they belong to
    the machine's network, not to an account.
    """
    session = BotocoreSession(
        session_vars={
            name: (None, None, default, conversion)
            for name, (_, _, default, conversion) in BotocoreSession.SESSION_VARIABLES.items()
        }
    )
    session.set_config_variable("config_file", os.devnull)
    session.set_config_variable("credentials_file", os.devnull)
    return session
