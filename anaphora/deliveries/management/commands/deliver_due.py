"""`manage.py deliver_due`: deliver what is due in this process, without Celery."""

import json
import signal
from typing import Any

from django.core.management.base import CommandError, CommandParser

from anaphora import commands
from anaphora.deliveries import engine, heartbeat, queue
from anaphora.deliveries.errors import DIAGNOSES
from anaphora.deliveries.models import Interface, Role
from anaphora.deliveries.outcomes import Drained


class Command(commands.Command):
    """An operator who runs this wants an attempt now, so the pause of an interface is ignored.

    On SIGTERM it finishes the uploads in progress, gives the rest back and ends.
    """

    help = (
        "Delivers what is due, in this process. Exits 0 when nothing due is left undelivered, "
        "otherwise 1 with the diagnoses."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--interface", metavar="NAME", help="only this interface; without it every enabled one")
        parser.add_argument("--json", action="store_true", help="print one JSON object per interface")

    def handle(self, *args: Any, **options: Any) -> None:
        complete = True
        queue.reset_future_timestamps()
        before = signal.signal(signal.SIGTERM, lambda *_: engine.stop())
        try:
            for interface in _interfaces(options["interface"]):
                heartbeat.note(Role.WORKER)  # some installations run this command every few minutes instead of a worker
                drained = engine.deliver_due(interface.pk, ignore_pause=True)
                complete = complete and drained.complete
                self._print(interface, drained, as_json=options["json"])
        finally:
            signal.signal(signal.SIGTERM, before)
        if not complete:
            raise CommandError("Not all due deliveries were delivered.")

    def _print(self, interface: Interface, drained: Drained, *, as_json: bool) -> None:
        problems = [(DIAGNOSES[code], detail, count) for (code, detail), count in drained.diagnoses.most_common()]
        if as_json:
            facts = {
                "interface": interface.name,
                "delivered": drained.delivered,
                "failed": drained.failed,
                "postponed": drained.postponed,
                "diagnoses": [
                    {"code": each.code, "title": each.title, "remedy": each.remedy, "detail": detail, "count": count}
                    for each, detail, count in problems
                ],
            }
            self.stdout.write(json.dumps(facts))
            return
        self.stdout.write(
            f"{interface.name}: {drained.delivered} delivered, {drained.failed} failed, {drained.postponed} postponed"
        )
        for diagnosis, detail, count in problems:
            self.stdout.write(f"  {count} × {diagnosis.title}. {diagnosis.remedy}")
            if detail:
                self.stdout.write(f"      {detail}")


def _interfaces(name: str | None) -> list[Interface]:
    if name is None:
        return list(Interface.objects.filter(enabled=True))
    interface = Interface.objects.filter(name=name).first()
    if interface is None:
        raise CommandError(f"There is no interface named {name!r}.")
    if not interface.enabled:
        raise CommandError(f"The interface {name!r} is disabled; enable it first.")
    return [interface]
