"""Links from diagnoses on pages to their sections in docs/troubleshooting.md. No I/O."""

from django.conf import settings
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import slugify


def address(title: str) -> str:
    """Return the URL of the section about the diagnosis with this title; empty unless DOCS_URL is set."""
    return f"{settings.DOCS_URL.rstrip('/')}/troubleshooting.html#{slugify(title)}" if settings.DOCS_URL else ""


def link(title: str) -> SafeString:
    """Return a link to the section about the diagnosis with this title; empty unless DOCS_URL is set.

    The link opens in a new tab, because the page with the link may be a form with unsaved values.
    """
    found = address(title)
    if not found:
        return SafeString("")
    return format_html('<a href="{}" target="_blank" rel="noopener">Documentation: {}</a>', found, title)
