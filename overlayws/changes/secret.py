"""Whether a change brings a secret, or a placeholder of one, to where it was not: the flag ``secret``."""

from __future__ import annotations

from collections.abc import Callable

from overlayws.changes.reading import Read
from overlayws.filter.contents import Inspector
from overlayws.filter.redact_merge import retargeted, stray

_INSPECTED = 256 << 20  # bytes of one change set: some seconds
_WIDE = "overlayws-redacted-".encode("utf-16-le")[:-1]  # in either byte order


class Secrets:
    """The search of one change set; after 256 MiB nothing is looked at any more."""

    def __init__(self) -> None:
        self._inspector = Inspector()
        self._left = _INSPECTED

    def brought(self, path: str, now: Read, was: Read | None, given: Callable[[], Read] | None) -> bool:
        """Whether the file ``path`` holds a secret that the content scan knows and that was not there, or not as often;
        or a placeholder that is not in its own unchanged line: the secret that it stands for is nowhere new, but
        somebody wanted it there. Or one that is, in a file whose other lines now may give its secret to another host.

        ``was`` is what the base has there if that was read already, ``given`` reads it, None where there is nothing.
        Of a file of more than 16 MiB nothing is looked at.
        """
        data = now.text
        if data is None or self._left < len(data):
            return False
        self._left -= len(data)
        marked = b"overlayws-redacted-" in data or _WIDE in data
        values = self._inspector.values(path, data)
        if not values and not marked:
            return False
        if was is None and given is not None:
            was = given()
        old = was.text if was is not None else None
        if marked and (stray(old, data) or (old is not None and retargeted(old, data))):
            return True
        return bool(values if old is None else values - self._inspector.values(path, old))
