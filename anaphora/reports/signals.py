"""Signals that other apps receive from `reports`."""

from django.dispatch import Signal

report_ingested = Signal()
"""Sent with `reports`, a list, inside the transaction that creates them. Rows written by a receiver are committed
together with the reports. An exception in a receiver rolls back both."""
