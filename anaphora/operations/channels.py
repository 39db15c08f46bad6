"""Sends messages through alert channels: mail by Django, everything else by Apprise. No error contains a secret."""

import logging
import smtplib
import socket
from datetime import timedelta
from ipaddress import ip_address
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.validators import validate_email
from django.utils import timezone

from anaphora.forbidden_addresses import why_forbidden
from anaphora.foreign_text import clean_line
from anaphora.operations.models import AlertChannel, ChannelKind
from anaphora.secret import UnreadableSecret

logger = logging.getLogger(__name__)

LEASE = timedelta(minutes=3)
"""How long a sending process keeps others from sending the same message."""


class ChannelError(Exception):
    """A message was not sent. The error says why, without a secret."""


def addresses(text: str) -> list[str]:
    """Return the mail addresses in a text. Raises ValidationError if one is not valid."""
    found = [each.strip() for each in text.replace("\n", ",").replace(";", ",").split(",") if each.strip()]
    for each in found:
        validate_email(each)
    return found


def deliver(channel: AlertChannel, subject: str, body: str) -> bool:
    """Send a message, record the result on the channel, and return whether it was sent.

    Never raises, so that a bug in an Apprise plug-in does not affect other channels.
    """
    try:
        {ChannelKind.MAIL: _mail, ChannelKind.APPRISE: _apprise}[ChannelKind(channel.kind)](channel, subject, body)
    except Exception as error:
        if not isinstance(error, ChannelError):
            logger.exception("Unexpected error while sending through %s", channel)
            error = ChannelError(f"Unexpected error ({type(error).__name__}); the log has the details.")
        channel.error, channel.failed_at = str(error), timezone.now()
        channel.save(update_fields=["error", "failed_at"])
        return False
    channel.error, channel.sent_at = "", timezone.now()
    channel.save(update_fields=["error", "sent_at"])
    return True


def send_test(channel: AlertChannel) -> bool:
    """Send a test message in the same way as alerts."""
    return deliver(channel, "Anaphora archive: test alert", "This is a test alert. Nothing is wrong.")


def _mail(channel: AlertChannel, subject: str, body: str) -> None:
    try:
        EmailMessage(subject, body, to=addresses(channel.recipients)).send()
    except (OSError, smtplib.SMTPException) as error:
        raise ChannelError(
            f"The mail server (EMAIL_URL) did not accept the message: {clean_line(str(error), 300)}"
        ) from error


def _apprise(channel: AlertChannel, subject: str, body: str) -> None:
    from apprise import Apprise, AppriseAsset, NotifyFormat  # here, because it loads a hundred modules

    if isinstance(channel.url, UnreadableSecret):
        raise ChannelError("No key of FERNET_KEYS decrypts the service URL. Enter it again.")
    # A redirect could lead to an address that was not checked.
    service = Apprise(asset=AppriseAsset(http_redirects=False))
    if not service.add(channel.url.reveal()):
        raise ChannelError("Apprise does not support this kind of service URL.")
    for each in service:
        each.redirects = False  # even if the URL enables them
        _refuse_files(each)
        for host in (each.host, getattr(each, "smtp_host", "")):
            _refuse_forbidden(str(host or ""))
    if not service.notify(title=subject, body=body, body_format=NotifyFormat.TEXT):
        raise ChannelError(
            "The service did not accept the message. Check the service URL and whether the service works."
        )


def _refuse_files(service: Any) -> None:
    """Raise ChannelError if an Apprise service would read a local file or another URL."""
    from apprise import AppriseAttachment

    if any(isinstance(value, AppriseAttachment) and len(value) for value in vars(service).values()):
        raise ChannelError("The service URL contains a file (template or keyfile). Remove that part.")


def _refuse_forbidden(host: str) -> None:
    """Raise ChannelError if the host of an Apprise service is a forbidden address.

    Many service URLs have no host, or a token in its place. A host that does not resolve is therefore left to the
    service to refuse.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return
    for address in {str(each[4][0]).partition("%")[0] for each in found}:
        if reason := why_forbidden(ip_address(address), allow_private=settings.ALLOW_PRIVATE_ENDPOINTS):
            raise ChannelError(f"Connections to the host of the service URL are forbidden: it is {reason}.")
