"""Immutability checks, made each night and by Test: what they found is kept, and a change listed in a manifest."""

import logging
from datetime import datetime
from typing import Any

from anaphora.deliveries import irregularities, manifests
from anaphora.deliveries.errors import DeliveryError
from anaphora.deliveries.models import Interface

logger = logging.getLogger(__name__)


def check_all(now: datetime) -> None:
    """Check every interface that is in use; one that cannot be checked holds up no other."""
    for interface in manifests.interfaces_in_use():
        try:
            found = interface.check_protection(now)
        except DeliveryError as error:
            logger.warning("No immutability check of %s: %s", interface, error)
            continue
        if found is not None:
            record(interface, found.as_json())


def record(interface: Interface, found: dict[str, Any]) -> None:
    """Keep what a check found, as `Protection.as_json()` gives it."""
    stored = Interface.objects.filter(pk=interface.pk)
    before = stored.values_list("protection", flat=True).first() or {}
    stored.update(protection=found)
    if before and before["grade"] != found["grade"]:
        logger.warning("The immutability of %s changed from %s to %s", interface, before["grade"], found["grade"])
        irregularities.record_irregularity(
            irregularities.IMMUTABILITY_CHANGED, interface, before=before["grade"], now=found["grade"]
        )
