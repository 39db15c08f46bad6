"""Sending a message by a channel: mail by Django, everything else by Apprise. No message of an error holds a secret."""

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
"""For how long a process that sends keeps others from sending the same."""


class ChannelError(Exception):
    """A message was not sent; says why, without a secret."""


def addresses(text: str) -> list[str]:
    """Return the mail addresses in a text. Raises ValidationError for what is none."""
    found = [each.strip() for each in text.replace("\n", ",").replace(";", ",").split(",") if each.strip()]
    for each in found:
        validate_email(each)
    return found


def deliver(channel: AlertChannel, subject: str, body: str) -> bool:
    """Send a message and record on the channel whether that worked; return it. Never raises: a plug-in with a bug
    must not keep other channels from being told.
    """
    try:
        {ChannelKind.MAIL: _mail, ChannelKind.APPRISE: _apprise}[ChannelKind(channel.kind)](channel, subject, body)
    except Exception as error:
        if not isinstance(error, ChannelError):
            logger.exception("Unexpected error while %s was told", channel)
            error = ChannelError(f"Unexpected error ({type(error).__name__}); the log has the particulars.")
        channel.error, channel.failed_at = str(error), timezone.now()
        channel.save(update_fields=["error", "failed_at"])
        return False
    channel.error, channel.sent_at = "", timezone.now()
    channel.save(update_fields=["error", "sent_at"])
    return True


def send_test(channel: AlertChannel) -> bool:
    """Send a test message, by the same way as alerts."""
    return deliver(channel, "Anaphora archive: test alert", "This is a test alert. Nothing is wrong.")


def _mail(channel: AlertChannel, subject: str, body: str) -> None:
    try:
        EmailMessage(subject, body, to=addresses(channel.recipients)).send()
    except (OSError, smtplib.SMTPException) as error:
        raise ChannelError(
            f"The mail server (EMAIL_URL) did not take the message: {clean_line(str(error), 300)}"
        ) from error


def _apprise(channel: AlertChannel, subject: str, body: str) -> None:
    from apprise import Apprise, AppriseAsset, NotifyFormat  # loads a hundred modules, which nothing else needs

    if isinstance(channel.url, UnreadableSecret):
        raise ChannelError("No key of FERNET_KEYS decrypts the service URL. Enter it again.")
    # A redirect could lead to an address that was not checked.
    service = Apprise(asset=AppriseAsset(http_redirects=False))
    if not service.add(channel.url.reveal()):
        raise ChannelError("Apprise does not know this kind of service URL.")
    for each in service:
        each.redirects = False  # also where the URL asks for them
        _refuse_files(each)
        for host in (each.host, getattr(each, "smtp_host", "")):
            _refuse_forbidden(str(host or ""))
    if not service.notify(title=subject, body=body, body_format=NotifyFormat.TEXT):
        raise ChannelError("The service did not take the message. Check the service URL and that the service answers.")


def _refuse_files(service: Any) -> None:
    """Raise ChannelError if an Apprise service would read a file of this machine, or one behind another URL."""
    from apprise import AppriseAttachment

    if any(isinstance(value, AppriseAttachment) and len(value) for value in vars(service).values()):
        raise ChannelError("The service URL names a file (template or keyfile). Remove that part of it.")


def _refuse_forbidden(host: str) -> None:
    """Raise ChannelError if the host of an Apprise service is an address that must not be connected to.

    Many services have no host of their own, or keep a token in its place: what does not resolve is theirs to refuse.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return
    for address in {str(each[4][0]).partition("%")[0] for each in found}:
        if reason := why_forbidden(ip_address(address), allow_private=settings.ALLOW_PRIVATE_ENDPOINTS):
            raise ChannelError(f"The host of the service URL must not be connected to: it is {reason}.")
