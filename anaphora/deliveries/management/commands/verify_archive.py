"""`manage.py verify_archive`: compare receipts and manifests with what the store holds now."""

import json
from collections import Counter
from typing import Any

from django.core.management.base import CommandError, CommandParser

from anaphora import commands
from anaphora.activity import Action, record
from anaphora.deliveries import irregularities, proof, signals, verification
from anaphora.deliveries.errors import DeliveryError
from anaphora.deliveries.models import Interface
from anaphora.deliveries.verification import Finding, Verdict


class Command(commands.Command):
    """Prints every object that is missing, changed or unreadable, and every finding in the manifests."""

    help = "Compares receipts and manifests with what the store holds now. Exits 1 on any difference."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--interface", metavar="NAME", help="only this interface; default: all")
        parser.add_argument("--full", action="store_true", help="read every object from end to end")
        parser.add_argument("--json", action="store_true", help="print one JSON object per difference, and a summary")

    def handle(self, *args: Any, **options: Any) -> None:
        """Compare, and print the differences."""
        interfaces = Interface.objects.select_subclasses()
        if options["interface"] is not None:
            interfaces = interfaces.filter(name=options["interface"])
            if not interfaces:
                raise CommandError(f"There is no interface named {options['interface']!r}.")
        counts: Counter[Verdict] = Counter()
        manifests: Counter[str] = Counter()
        for interface in interfaces:
            found = self._verify(interface, full=options["full"], as_json=options["json"])
            proof = self._verify_manifests(interface, as_json=options["json"])
            differences = found.total() - found[Verdict.SAME] + proof["findings"]
            checked = found.total() + proof["verified"]
            record(Action.VERIFIED, interface, checked=checked, different=differences)
            signals.archive_verified.send_robust(
                None, interface_id=interface.pk, checked=checked, different=differences
            )
            if differences:
                irregularities.record_irregularity(irregularities.DIFFERENCE_FOUND, interface, findings=differences)
            counts, manifests = counts + found, manifests + proof
        summary: dict[str, Any] = {verdict.value: counts[verdict] for verdict in Verdict}
        words = ", ".join(f"{number} {verdict}" for verdict, number in summary.items())
        if manifests:
            summary["manifests"] = {"verified": manifests["verified"], "findings": manifests["findings"]}
            words += f"; {manifests['verified']:,} manifests, {manifests['findings']:,} findings in them"
        self.stdout.write(json.dumps(summary) if options["json"] else words)
        if counts.total() != counts[Verdict.SAME]:
            raise CommandError("The archive differs from its receipts.")
        if manifests["findings"]:
            raise CommandError("The manifests do not prove the archive.")

    def _verify(self, interface: Interface, *, full: bool, as_json: bool) -> Counter[Verdict]:
        counts: Counter[Verdict] = Counter()
        total = verification.count_receipts(interface)
        try:
            for finding in verification.verify(interface, full=full):
                counts[finding.verdict] += 1
                if finding.verdict is not Verdict.SAME:
                    self._print(finding, interface, as_json=as_json)
                if self.stderr.isatty():
                    self.stderr.progress(f"{interface.name}: {counts.total()} of {total}")
        except DeliveryError as error:
            raise CommandError(f"{interface.name}: {error.diagnosis.title}. {error.diagnosis.remedy}") from error
        return counts

    def _verify_manifests(self, interface: Interface, *, as_json: bool) -> Counter[str]:
        """Verify the manifests, if there are any; return their number and the number of findings."""
        if not interface.manifests.filter(written_at__isnull=False).exists():
            return Counter()
        try:
            findings = proof.verify_manifests(interface)
        except DeliveryError as error:
            raise CommandError(f"{interface.name}: {error.diagnosis.title}. {error.diagnosis.remedy}") from error
        for each in findings.kept:
            facts = {"interface": interface.name, "object_key": each["where"], "version_id": ""}
            facts |= {"verdict": each["kind"], "detail": each["text"]}
            line = f"{each['kind']}  {interface.name}  {each['where']}  {each['text']}"
            self.stdout.write(json.dumps(facts) if as_json else commands.one_line(line))
        for remark in findings.remarks if not as_json else ():
            self.stdout.write(commands.one_line(f"remark  {interface.name}  {remark}"))
        number = sum(chain["manifests"] for chain in findings.chains)
        return Counter(verified=number, findings=findings.counts.total())

    def _print(self, finding: Finding, interface: Interface, *, as_json: bool) -> None:
        row = finding.delivery
        facts = {
            "interface": interface.name,
            "object_key": row.object_key,
            "version_id": row.version_id,
            "verdict": finding.verdict.value,
            "detail": finding.detail,
        }
        line = f"{finding.verdict:10}  {interface.name}  {row.object_key}  {finding.detail}".rstrip()
        self.stdout.write(json.dumps(facts) if as_json else commands.one_line(line))
