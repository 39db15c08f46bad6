"""The filesystem broker, without its one weakness: half a message ends a worker.

Its messages are files that appear before they are written, so a reader may come too soon, and a writer may be killed in
between. Such a message counts as lost, which costs nothing: the sweep finds what it would have announced.
"""

import logging
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, filesystem

logger = logging.getLogger(__name__)


class Channel(filesystem.Channel):
    """Passes over what is no message."""

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        try:
            return super()._get(queue)
        except ValueError:
            logger.warning("Half a message was in the broker's folder; it counts as lost")
            raise Empty from None


class Transport(filesystem.Transport):
    """The filesystem transport with that channel."""

    Channel = Channel


def install() -> None:
    """Let addresses that begin with filesystem:// mean this one."""
    TRANSPORT_ALIASES["filesystem"] = f"{__name__}:Transport"
