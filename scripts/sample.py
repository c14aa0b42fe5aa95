"""Make the sample workspace of ``scripts/demo``: a small Python project in git, a secret, and an agent script."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FILES = {
    "README.md": "# shop\n\nPrices and orders of a small shop.\n",
    "pyproject.toml": '[project]\nname = "shop"\nversion = "1.0"\n',
    ".gitignore": ".env\n__pycache__/\n",
    ".env": "STRIPE_KEY=sample-value-that-stays-here\nDATABASE_URL=postgres://shop:hunter2@db/shop\n",
    "shop/__init__.py": "",
    "shop/price.py": """\
def total(items):
    sum = 0
    for item in items:
        sum = sum + item["price"] * item["count"]
    return sum


def with_tax(amount, rate = 0.19):
    return amount + amount * rate
""",
    "shop/helpers.py": """\
\"\"\"Small things that everybody needs.\"\"\"


def euros(cents):
    return f"{cents // 100},{cents % 100:02d} EUR"


def plural(count, word):
    return word if count == 1 else word + "s"


def shorten(text, length):
    return text if len(text) <= length else text[: length - 1] + "…"
""",
    "shop/legacy.py": "# Nobody calls this any more.\ndef old_total(a, b):\n    return a + b\n",
    "tests/test_price.py": """\
from shop.price import total


def test_total():
    assert total([{"price": 2, "count": 3}]) == 6
""",
    "tools/agent.py": """\
\"\"\"Stands for an AI agent, a codemod or an upgrade script: it edits, adds, deletes, renames - and pries.\"\"\"

import os
import urllib.request
from pathlib import Path

price = Path("shop/price.py")
price.write_text(
    price.read_text()
    .replace("    sum = 0\\n    for item in items:\\n        sum = sum + item[\\"price\\"] * item[\\"count\\"]\\n"
             "    return sum\\n", "    return sum(item[\\"price\\"] * item[\\"count\\"] for item in items)\\n")
    .replace("rate = 0.19", "rate=0.19")
)
Path("tests/test_tax.py").write_text(
    "from shop.price import with_tax\\n\\n\\ndef test_tax():\\n    assert with_tax(100, 0.5) == 150\\n"
)
Path("shop/legacy.py").unlink()
Path("shop/helpers.py").rename("shop/text.py")

print("agent: .env is", "readable!" if Path(".env").exists() else "not there")
print("agent: my home holds", os.listdir(Path.home()))
try:
    urllib.request.urlopen("http://192.0.2.1/", timeout=3)
    print("agent: the network is reachable!")
except OSError as error:
    print("agent: no network:", getattr(error, "reason", error))
print("agent: done")
""",
}


def main(where: str) -> None:
    root = Path(where)
    for name, content in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    git = [
        "git",
        "-C",
        where,
        "-c",
        "user.name=Dana",
        "-c",
        "user.email=dana@example.org",
        "-c",
        "commit.gpgSign=false",
    ]
    subprocess.run([*git, "init", "--quiet", "--initial-branch=main"], check=True)
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "Prices and orders"], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
