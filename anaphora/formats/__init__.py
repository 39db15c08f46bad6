"""The formats of dates on pages, for every language: unambiguous, and with the time zone."""
