"""What does the content scan find, what does it take for a secret that is none, and how long does a file take?

As a program it prints the tables of ``docs/secrets.md``::

    python -m benchmarks.bench_contents [FOLDER…]

with the planted secrets and decoys of ``tests/filter/planted.py`` among 5,000 ordinary files, and the findings by rule
in every FOLDER. As a benchmark it measures the scan of one clean source file of 6 KB, and of 1,000 files::

    pytest benchmarks/bench_contents.py
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from overlayws.filter.content_rules import Action
from overlayws.filter.contents import ContentPolicy, Inspector
from tests.filter.planted import decoys, ordinary, planted

# An ordinary module: names, calls, comments; nothing in it is called a password.
CLEAN = (
    b"def total(items):\n    # prices are in cents\n    result = 0\n    for item in items:\n"
    b'        result += item["price"] * item["count"]\n    return result\n\n\n'
    b"class Basket(Container):\n    def __init__(self, owner, limit=20):\n        self.owner = owner\n"
    b'        self.limit = limit\n        raise ValueError(f"{owner!r} is not a customer: {limit}")\n\n'
)
CLEAN = (CLEAN * (6000 // len(CLEAN) + 1))[:6000]


def test_a_clean_source_file_of_6_kb(benchmark: Callable[..., object]) -> None:
    inspector = Inspector()
    assert inspector.inspect("basket.py", CLEAN).action is Action.SHOW
    benchmark(inspector.inspect, "basket.py", CLEAN)


def test_ordinary_files(benchmark: Callable[..., object], quick: bool) -> None:
    inspector = Inspector()
    files = list(ordinary(100 if quick else 1000))
    benchmark.extra_info["bytes"] = sum(len(data) for _, data in files)  # type: ignore[attr-defined]
    benchmark.pedantic(  # type: ignore[attr-defined]
        lambda: [inspector.inspect(path, data) for path, data in files], rounds=3, warmup_rounds=1
    )


def _below(folder: str) -> Iterator[tuple[str, bytes]]:
    for where, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(where, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    yield os.path.relpath(path, folder), file.read()


def _report(title: str, files: Iterable[tuple[str, bytes]], inspector: Inspector) -> None:
    """Findings by rule, files with any, and the time for all of it."""
    found: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    count = size = 0
    spent = 0.0
    for path, data in files:
        begin = time.process_time()
        inspection = inspector.inspect(path, data)
        spent += time.process_time() - begin
        count, size = count + 1, size + len(data)
        found.update(finding.rule for finding in inspection.findings)
        changed.update({finding.rule for finding in inspection.findings})
    print(f"\n{title}: {count:,} files, {size / 1e6:.1f} MB, {spent:.2f} s ({size / spent / 1e6:.0f} MB/s)\n")
    print("| rule | findings | files |\n| --- | ---: | ---: |")
    for rule, number in sorted(found.items()):
        print(f"| {rule} | {number} | {changed[rule]} |")
    print(f"| all | {sum(found.values())} | |")


def main(folders: list[str]) -> None:
    inspector = Inspector(ContentPolicy())
    print("| kind | rule | found |\n| --- | --- | --- |")
    recalled = 0
    everything = planted()
    for one in everything:
        inspection = inspector.inspect(one.path, one.content)
        rules = {finding.rule for finding in inspection.findings}
        kept = inspection.action is Action.HIDE or (
            inspection.data is not None and inspection.action is Action.REDACT and one.value not in inspection.data
        )
        good = bool(rules & set(one.rules)) and kept
        recalled += good
        print(f"| {one.kind} | {', '.join(sorted(rules)) or '-'} | {inspection.action.value if good else '**no**'} |")
    print(f"\nplanted: {recalled} of {len(everything)} found")
    taken = [d.kind for d in decoys() if inspector.inspect(d.path, d.content).findings]
    print(f"decoys: {len(taken)} of {len(decoys())} taken for secrets {taken or ''}")
    _report("Ordinary files", ordinary(5000), inspector)
    for folder in folders:
        _report(folder, _below(folder), inspector)
    best = 1.0
    for _ in range(300):
        begin = time.perf_counter()
        inspector.inspect("basket.py", CLEAN)
        best = min(best, time.perf_counter() - begin)
    print(f"\na clean source file of {len(CLEAN)} bytes: {best * 1e6:.1f} us (best of 300)")


if __name__ == "__main__":
    if "--quick" in sys.argv:
        sys.argv.remove("--quick")
    main(sys.argv[1:])
