"""Kombu's filesystem transport, changed so that a truncated message does not stop the worker.

Each message is a file that becomes visible before it is written completely. A reader can open it too early, and a
writer can be killed while writing. A truncated message is dropped. This is safe: the next sweep finds the deliveries.
"""

import logging
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, filesystem

logger = logging.getLogger(__name__)


class Channel(filesystem.Channel):
    """Skips truncated messages."""

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        try:
            return super()._get(queue)
        except ValueError:
            logger.warning("Skipped a truncated message in the broker's folder")
            raise Empty from None


class Transport(filesystem.Transport):
    """The filesystem transport with the channel above."""

    Channel = Channel


def install() -> None:
    """Use this transport for broker URLs that begin with filesystem://."""
    TRANSPORT_ALIASES["filesystem"] = f"{__name__}:Transport"
