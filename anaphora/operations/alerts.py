"""Alerts: turns problems into messages on each channel.

A channel gets a message when an alert begins, every ALERT_REPEAT_HOURS while it lasts, and when it ends. Alerts that
are due for a channel at the same time are one message. Notices are recorded per alert and channel, so a channel that
fails gets its message later, and one that works does not get it twice.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from anaphora.admin_site import count_noun
from anaphora.operations import channels, situation
from anaphora.operations.models import Alert, AlertChannel, Installation, Notice
from anaphora.operations.situation import Problem

_PAUSE = timedelta(seconds=15)
"""Several processes check for alerts. If one did within this time, the others need not."""


def check(now: datetime, *, force: bool = False) -> bool:
    """Record which alerts begin and end, and notify the channels; return whether this process did.

    Unless `force`, nothing is done if another process did so a moment ago.
    """
    claimed = Installation.claim("alerts_checked_at", before=now if force else now - _PAUSE)
    if not claimed and not force:
        return False
    record(situation.problems(situation.gather(now)), now)
    for channel in AlertChannel.objects.filter(enabled=True):
        notify(channel, now)
    return True


def record(problems: Iterable[Problem], now: datetime) -> None:
    """Open an alert for each problem that has none, and end those whose problem is over."""
    current = {each.key: each for each in problems}
    opened = {alert.key: alert for alert in Alert.objects.filter(ended_at__isnull=True)}
    for key, each in current.items():
        if key not in opened:
            _open(each, now)
    over = [alert.pk for key, alert in opened.items() if key not in current]
    Alert.objects.filter(pk__in=over, ended_at__isnull=True).update(ended_at=now)
    for key, alert in opened.items():
        if (problem := current.get(key)) and (alert.title, alert.text) != (problem.title[:300], problem.text):
            Alert.objects.filter(pk=alert.pk).update(title=problem.title[:300], text=problem.text)


def _open(problem: Problem, now: datetime) -> None:
    facts = {"title": problem.title[:300], "text": problem.text, "path": problem.path, "began_at": now}
    with transaction.atomic():
        # Another process may have opened it a moment ago.
        _, created = Alert.objects.get_or_create(key=problem.key, ended_at=None, defaults=facts)
        if created and problem.when_it_begins:
            problem.when_it_begins()


@dataclass
class _Message:
    begun: list[Notice] = field(default_factory=list)
    lasting: list[Notice] = field(default_factory=list)
    over: list[Notice] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.begun or self.lasting or self.over)

    @property
    def subject(self) -> str:
        first = (self.begun or self.lasting or self.over)[0].alert.title
        rest = len(self.begun) + len(self.lasting) + len(self.over) - 1
        word = "" if self.begun else "Still: " if self.lasting else "Over: "
        more = f" (and {count_noun(rest, 'more', 'more')})" if rest else ""
        return f"Anaphora archive: {word}{first}{more}"

    @property
    def body(self) -> str:
        parts = []
        for heading, notices in (("New", self.begun), ("Still open", self.lasting), ("Over", self.over)):
            if notices:
                parts += [heading, ""] + [_paragraph(each.alert) for each in notices]
        return "\n".join(parts) + (f"Overview: {settings.SITE_URL}/admin/\n" if settings.SITE_URL else "")


def _paragraph(alert: Alert) -> str:
    lines = [f"- {alert.title}", f"  Since {_when(alert.began_at)}"]
    if alert.ended_at:
        lines[-1] += f", over since {_when(alert.ended_at)}"
    else:
        lines += [f"  {alert.text}"] if alert.text else []
        lines += [f"  {settings.SITE_URL}{alert.path}"] if settings.SITE_URL and alert.path else []
    return "\n".join([*lines, ""])


def notify(channel: AlertChannel, now: datetime) -> bool:
    """Send the alerts that are due for a channel; return whether a message was sent."""
    free = Q(claimed_until__isnull=True) | Q(claimed_until__lt=now) | Q(claimed_until__gt=now + 2 * channels.LEASE)
    mine = AlertChannel.objects.filter(free, pk=channel.pk)
    if not mine.update(claimed_until=now + channels.LEASE):
        return False
    try:
        message = _due(channel, now)
        if not message or not channels.deliver(channel, message.subject, message.body):
            return False
        notified = [each.pk for each in (*message.begun, *message.lasting, *message.over)]
        Notice.objects.filter(pk__in=notified).update(told_at=now)
        Notice.objects.filter(pk__in=[each.pk for each in message.over]).update(closed_at=now)
        return True
    finally:
        AlertChannel.objects.filter(pk=channel.pk).update(claimed_until=None)


def _due(channel: AlertChannel, now: datetime) -> _Message:
    new = Alert.objects.filter(ended_at__isnull=True).exclude(notices__channel=channel)
    Notice.objects.bulk_create([Notice(alert=alert, channel=channel) for alert in new], ignore_conflicts=True)
    message = _Message()
    repeat = timedelta(hours=settings.ALERT_REPEAT_HOURS)
    for notice in Notice.objects.filter(channel=channel, closed_at__isnull=True).select_related("alert").order_by("pk"):
        if notice.alert.ended_at:
            message.over.append(notice)
        elif notice.told_at is None:
            message.begun.append(notice)
        elif repeat and notice.told_at <= now - repeat:
            message.lasting.append(notice)
    return message


def _when(moment: datetime) -> str:
    return f"{timezone.localtime(moment):%d %b %Y %H:%M %Z}"
