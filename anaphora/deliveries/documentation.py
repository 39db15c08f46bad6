"""Where the documentation explains a diagnosis: links from the pages to docs/troubleshooting.md. No I/O."""

from django.conf import settings
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import slugify


def address(title: str) -> str:
    """Return the address of the section on the diagnosis of that title; empty unless DOCS_URL is set."""
    return f"{settings.DOCS_URL.rstrip('/')}/troubleshooting.html#{slugify(title)}" if settings.DOCS_URL else ""


def link(title: str) -> SafeString:
    """Return a link to that section; empty unless DOCS_URL is set.

    It opens a new tab, because the page that shows it may be a form with unsaved values.
    """
    found = address(title)
    if not found:
        return SafeString("")
    return format_html('<a href="{}" target="_blank" rel="noopener">Documentation: {}</a>', found, title)
