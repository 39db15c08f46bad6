"""Dates and times in English; see Django's FORMAT_MODULE_PATH."""

DATE_FORMAT = "j M Y"
TIME_FORMAT = "H:i"
DATETIME_FORMAT = "j M Y, H:i:s T"
