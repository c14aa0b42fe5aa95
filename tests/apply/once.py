"""One apply, undo or recover in a process of its own: ``python -m tests.apply.once VERB HOME JOURNALS``."""

from __future__ import annotations

import sys
from pathlib import Path

from overlayws.errors import OverlaywsError
from tests.apply.build import Case, differences


def main(verb: str, home: Path, journals: Path) -> int:
    base, theirs = home / "base", home / "theirs"
    changes = differences(base, theirs)
    case = Case(home, home / "workspace", base, theirs, home / "manifest", journals, changes)
    try:
        if verb == "apply":
            case.apply()
        elif verb == "undo":
            for journal in journals.iterdir():
                case.undo(journal)
        else:
            case.recover()
    except OverlaywsError as error:
        sys.stderr.write(f"{error.message}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
