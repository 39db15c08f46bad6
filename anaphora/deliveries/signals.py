"""What deliveries tell of themselves. Receivers are called robustly: one that fails costs no delivery anything."""

from django.dispatch import Signal

outcomes_written = Signal()
"""Sent after outcomes of an interface's uploads were written. `interface_id`; `outcomes`: the deliveries as written;
`failures`: a Counter of the diagnoses' codes."""

archive_verified = Signal()
"""Sent after the receipts of an interface were compared. `interface_id`; `checked` and `different`: numbers of them."""
