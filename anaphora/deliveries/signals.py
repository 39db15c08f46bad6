"""What deliveries tell of themselves. Receivers are called robustly: one that fails costs no delivery anything."""

from django.dispatch import Signal

outcomes_written = Signal()
"""Sent after outcomes of an interface's uploads were written. `interface_id`; `outcomes`: as `outcomes.Outcome`;
`failures`: a Counter of the diagnoses' codes."""

archive_verified = Signal()
"""Sent after an interface was verified. `interface_id`; `checked`: how many receipts and manifests; `different`: the
number of differences."""
