"""``overlayws`` and ``python -m overlayws``."""

from __future__ import annotations

import signal


def main() -> None:
    """Load the command line and hand over to it.

    Until that has begun there is nothing to put in order, and ^C ends the process as it does any other: no traceback.
    """
    heard = signal.getsignal(signal.SIGINT)
    if heard is signal.default_int_handler:  # else it is ignored, as for what a script has in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from overlayws.cli.main import main as command

    signal.signal(signal.SIGINT, heard)
    command()


if __name__ == "__main__":
    main()
