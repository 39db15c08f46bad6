"""Signals that other apps receive from `reports`."""

from django.dispatch import Signal

report_ingested = Signal()
"""Sent by `ingest()` with `report`, inside the transaction that creates the report. Rows written by a receiver are
committed together with the report. An exception in a receiver rolls back both."""
