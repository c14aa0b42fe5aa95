"""``python -m overlayws``."""

from overlayws.cli.main import main

main()
