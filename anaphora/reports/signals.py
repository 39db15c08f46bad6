"""How delivery apps learn of a new report, without reports knowing of them."""

from django.dispatch import Signal

report_ingested = Signal()
"""Sent by `ingest()` with `report`, inside the transaction that creates it: what a receiver writes appears
together with the report, and what a receiver raises undoes both."""
