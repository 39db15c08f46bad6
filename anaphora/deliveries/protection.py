"""Runs the nightly immutability checks and records their results, which Test does too.

A change of the grade is recorded as an irregularity, so the next manifest lists it.
"""

import logging
from datetime import datetime
from typing import Any

from anaphora.deliveries import irregularities, manifests
from anaphora.deliveries.errors import DeliveryError
from anaphora.deliveries.models import Interface

logger = logging.getLogger(__name__)


def check_all(now: datetime) -> None:
    """Check every interface in use. One that cannot be checked is logged and skipped."""
    for interface in manifests.interfaces_in_use():
        try:
            found = interface.check_protection(now)
        except DeliveryError as error:
            logger.warning("Immutability of %s not checked: %s", interface, error)
            continue
        if found is not None:
            record(interface, found.as_json())


def record(interface: Interface, found: dict[str, Any]) -> None:
    """Store the result of a check, in the form of `Protection.as_json()`."""
    stored = Interface.objects.filter(pk=interface.pk)
    before = stored.values_list("protection", flat=True).first() or {}
    stored.update(protection=found)
    if before and before["grade"] != found["grade"]:
        logger.warning("The immutability of %s changed from %s to %s", interface, before["grade"], found["grade"])
        irregularities.record_irregularity(
            irregularities.IMMUTABILITY_CHANGED, interface, before=before["grade"], now=found["grade"]
        )
