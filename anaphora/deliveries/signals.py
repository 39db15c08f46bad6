"""The signals of this app. They are sent by `send_robust`, so a receiver that fails does not affect deliveries."""

from django.dispatch import Signal

outcomes_written = Signal()
"""Sent after outcomes of an interface's uploads were written. `interface_id`; `outcomes`: a list of
`outcomes.Outcome`; `failures`: a Counter of the diagnoses' codes."""

archive_verified = Signal()
"""Sent after an interface was verified. `interface_id`; `checked`: how many receipts and manifests; `different`: the
number of differences."""
