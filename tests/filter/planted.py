# ruff: noqa: E501 -- tables of texts
"""A tree of ordinary files with planted secrets and decoys.

Every secret is drawn at run time, so that nothing in this repository has the form of a token. The ordinary files are
texts of the Python that runs this: its standard library and what is installed beside it.
"""

from __future__ import annotations

import base64
import os
import random
import string
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

BASE62 = string.ascii_letters + string.digits
UPPER = string.ascii_uppercase + string.digits
HEX = "0123456789abcdef"
URLSAFE = BASE62 + "-_"
BASE32 = string.ascii_uppercase + "234567"


@dataclass(frozen=True, slots=True)
class Planted:
    """A secret ``value`` in the file ``path``; ``content`` is all of the file. ``rules`` are those that may find it."""

    kind: str
    path: str
    content: bytes
    value: bytes
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Decoy:
    """A file that holds what looks like a secret and is none."""

    kind: str
    path: str
    content: bytes


class Fakes:
    """Draws values. Two of one seed are equal."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def draw(self, alphabet: str, length: int) -> str:
        """Random characters, at least one a digit if the alphabet has digits (as nearly all real ones)."""
        while True:
            text = "".join(self.random.choice(alphabet) for _ in range(length))
            if any(c.isdigit() for c in text) and len(set(text)) > 6:
                return text

    def body(self, length: int) -> str:
        """Base64 of random bytes."""
        return base64.b64encode(self.random.randbytes(length)).decode()

    def armored(self, label: str, length: int = 600) -> str:
        text = self.body(length)
        lines = "\n".join(text[n : n + 64] for n in range(0, len(text), 64))
        return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"

    def jwt(self) -> str:
        def part(text: str) -> str:
            return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

        head = part('{"alg":"HS256","typ":"JWT"}')
        return f"{head}.{part(chr(123) + chr(34) + 'sub' + chr(34) + ':' + str(self.random.randrange(10**12)) + '}')}.{self.draw(URLSAFE, 43)}"


TOKENS: dict[str, tuple[str, Callable[[Fakes], str]]] = {
    "github-classic": ("github-token", lambda f: "ghp" + "_" + f.draw(BASE62, 36)),
    "github-app": ("github-token", lambda f: "ghs" + "_" + f.draw(BASE62, 36)),
    "github-fine-grained": ("github-fine-grained", lambda f: "github" + "_pat_" + f.draw(BASE62, 22) + "_" + f.draw(BASE62, 59)),
    "gitlab": ("gitlab-token", lambda f: "glpat" + "-" + f.draw(URLSAFE, 20)),
    "aws-key-id": ("aws-access-key", lambda f: "AK" + "IA" + f.draw(BASE32, 16)),
    "gcp-api-key": ("gcp-api-key", lambda f: "AI" + "za" + f.draw(URLSAFE, 35)),
    "gcp-oauth": ("gcp-oauth", lambda f: "ya" + "29." + f.draw(URLSAFE, 60)),
    "gcp-client-secret": ("gcp-client-secret", lambda f: "GOC" + "SPX-" + f.draw(URLSAFE, 28)),
    "slack-bot": ("slack-token", lambda f: "xo" + "xb-" + f.draw(string.digits, 12) + "-" + f.draw(string.digits, 12) + "-" + f.draw(BASE62, 24)),
    "slack-app": ("slack-token", lambda f: "xa" + "pp-1-" + f.draw(UPPER, 11) + "-" + f.draw(string.digits, 12) + "-" + f.draw(HEX, 64)),
    "stripe": ("stripe-key", lambda f: "sk" + "_live_" + f.draw(BASE62, 24)),
    "stripe-webhook": ("stripe-webhook", lambda f: "wh" + "sec_" + f.draw(BASE62, 32)),
    "anthropic": ("anthropic-key", lambda f: "sk-" + "ant-api03-" + f.draw(URLSAFE, 93) + "AA"),
    "openai-project": ("openai-key", lambda f: "sk-" + "proj-" + f.draw(URLSAFE, 74)),
    "openai": ("openai-key", lambda f: "sk" + "-" + f.draw(BASE62, 48)),
    "npm": ("npm-token", lambda f: "np" + "m_" + f.draw(BASE62, 36)),
    "pypi": ("pypi-token", lambda f: "py" + "pi-AgEIcHlwaS5vcmc" + f.draw(URLSAFE, 120)),
    "telegram": ("telegram-token", lambda f: f.draw(string.digits, 10).replace("0", "1") + ":" + "AA" + f.draw(URLSAFE, 33)),
    "twilio": ("twilio-key", lambda f: "S" + "K" + f.draw(HEX, 32)),
    "sendgrid": ("sendgrid-key", lambda f: "S" + "G." + f.draw(URLSAFE, 22) + "." + f.draw(URLSAFE, 43)),
    "mailgun": ("mailgun-key", lambda f: "ke" + "y-" + f.draw(HEX, 32)),
    "mailchimp": ("mailchimp-key", lambda f: f.draw(HEX, 32) + "-u" + "s12"),
    "huggingface": ("huggingface-token", lambda f: "h" + "f_" + f.draw(BASE62, 34)),
    "vault": ("vault-token", lambda f: "hv" + "s." + f.draw(URLSAFE, 90)),
    "terraform": ("terraform-token", lambda f: f.draw(BASE62, 14) + ".atlas" + "v1." + f.draw(BASE62, 67)),
    "digitalocean": ("digitalocean-token", lambda f: "do" + "p_v1_" + f.draw(HEX, 64)),
    "docker": ("docker-token", lambda f: "dckr" + "_pat_" + f.draw(URLSAFE, 27)),
    "databricks": ("databricks-token", lambda f: "da" + "pi" + f.draw(HEX, 32)),
    "shopify": ("shopify-token", lambda f: "sh" + "pat_" + f.draw(HEX, 32)),
    "square": ("square-token", lambda f: "sq0" + "atp-" + f.draw(URLSAFE, 22)),
    "linear": ("linear-key", lambda f: "lin" + "_api_" + f.draw(BASE62, 40)),
    "grafana": ("grafana-token", lambda f: "gl" + "sa_" + f.draw(BASE62, 32) + "_" + f.draw(HEX, 8)),
    "newrelic": ("newrelic-key", lambda f: "NR" + "AK-" + f.draw(UPPER, 27)),
    "postman": ("postman-key", lambda f: "PM" + "AK-" + f.draw(HEX, 24) + "-" + f.draw(HEX, 34)),
    "rubygems": ("rubygems-key", lambda f: "ruby" + "gems_" + f.draw(HEX, 48)),
    "atlassian": ("atlassian-token", lambda f: "ATA" + "TT3" + f.draw(URLSAFE, 180)),
    "cargo": ("cargo-token", lambda f: "c" + "io" + f.draw(BASE62, 32)),
    "age": ("age-key", lambda f: "AGE-" + "SECRET-KEY-1" + f.draw("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58)),
    "age-plugin": ("age-key", lambda f: "AGE-" + "PLUGIN-YUBIKEY-1" + f.draw("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 40)),
    "sentry-org": ("sentry-token", lambda f: "snt" + "rys_eyJ" + f.draw(BASE62, 120) + "_" + f.draw(BASE62, 43)),
    "sentry-user": ("sentry-token", lambda f: "snt" + "ryu_" + f.draw(HEX, 64)),
    "supabase": ("supabase-key", lambda f: "sb" + "p_" + f.draw(HEX, 40)),
    "supabase-secret": ("supabase-key", lambda f: "sb_se" + "cret_" + f.draw(BASE62, 31)),
    "planetscale": ("planetscale-token", lambda f: "pscal" + "e_tkn_" + f.draw(URLSAFE, 43)),
    "doppler": ("doppler-token", lambda f: "dp." + "pt." + f.draw(BASE62, 43)),
    "doppler-service": ("doppler-token", lambda f: "dp.st" + ".dev." + f.draw(BASE62, 43)),
    "fly": ("fly-token", lambda f: "fm" + "2_" + f.draw(BASE62, 300)),
    "fly-oauth": ("fly-token", lambda f: "fo" + "1_" + f.draw(URLSAFE, 43)),
    "groq": ("groq-key", lambda f: "gs" + "k_" + f.draw(BASE62, 52)),
    "perplexity": ("perplexity-key", lambda f: "pp" + "lx-" + f.draw(BASE62, 48)),
    "replicate": ("replicate-token", lambda f: "r" + "8_" + f.draw(BASE62, 37)),
    "xai": ("xai-key", lambda f: "xa" + "i-" + f.draw(BASE62, 80)),
    "figma": ("figma-token", lambda f: "fi" + "gd_" + f.draw(URLSAFE, 40)),
    "notion": ("notion-token", lambda f: "nt" + "n_" + f.draw(BASE62, 46)),
    "notion-first": ("notion-token", lambda f: "sec" + "ret_" + f.draw(BASE62, 43)),
    "dropbox": ("dropbox-token", lambda f: "sl" + ".u." + f.draw(URLSAFE, 140)),
    "heroku": ("heroku-key", lambda f: "HRK" + "U-AA" + f.draw(URLSAFE, 58)),
    "pulumi": ("pulumi-token", lambda f: "pu" + "l-" + f.draw(HEX, 40)),
    "sonar": ("sonar-token", lambda f: "sq" + "u_" + f.draw(HEX, 40)),
    "bedrock": ("aws-bedrock-key", lambda f: "AB" + "SK" + f.draw(BASE62, 128)),
    "onepassword": ("onepassword-token", lambda f: "ops" + "_eyJ" + f.draw(URLSAFE, 400)),
    "artifactory": ("artifactory-token", lambda f: "AK" + "Cp" + f.draw(BASE62, 69)),
    "artifactory-reference": ("artifactory-token", lambda f: "cmVm" + "dGtu" + f.draw(BASE62, 56)),
    "nuget": ("nuget-key", lambda f: "o" + "y2" + f.draw(string.ascii_lowercase + "234567", 43)),
    "buildkite": ("buildkite-token", lambda f: "bk" + "ua_" + f.draw(HEX, 40)),
    "flutterwave-test": ("flutterwave-key", lambda f: "FLWSEC" + "K_TEST-" + f.draw(HEX, 12)),
    "typeform": ("typeform-token", lambda f: "tf" + "p_" + f.draw(URLSAFE, 59)),
    "duffel": ("duffel-token", lambda f: "duffel" + "_live_" + f.draw(URLSAFE, 43)),
    "prefect": ("prefect-key", lambda f: "pn" + "u_" + f.draw(BASE62, 36)),
    "readme": ("readme-key", lambda f: "rd" + "me_" + f.draw(HEX, 70)),
    "easypost": ("easypost-key", lambda f: "EZ" + "AK" + f.draw(BASE62, 54)),
    "render": ("render-key", lambda f: "rn" + "d_" + f.draw(BASE62, 32)),
    "netlify": ("netlify-token", lambda f: "nf" + "p_" + f.draw(BASE62, 36)),
    "contentful": ("contentful-token", lambda f: "CFP" + "AT-" + f.draw(URLSAFE, 43)),
    "openshift": ("openshift-token", lambda f: "sha" + "256~" + f.draw(URLSAFE, 43)),
    "sourcegraph": ("sourcegraph-token", lambda f: "sgp_l" + "ocal_" + f.draw(HEX, 40)),
    "clojars": ("clojars-token", lambda f: "CLOJ" + "ARS_" + f.draw(HEX, 60)),
    "shippo": ("shippo-token", lambda f: "shippo" + "_live_" + f.draw(HEX, 40)),
    "langsmith": ("langsmith-key", lambda f: "lsv" + "2_pt_" + f.draw(HEX, 32) + "_" + f.draw(HEX, 10)),
    "airtable": ("airtable-token", lambda f: "pa" + "t" + f.draw(BASE62, 14) + "." + f.draw(HEX, 64)),
    "tailscale": ("tailscale-key", lambda f: "tsk" + "ey-auth-" + f.draw(BASE62, 12) + "CNTRL-" + f.draw(BASE62, 32)),
    "circleci": ("circleci-token", lambda f: "CCI" + "PAT_" + f.draw(BASE62, 22) + "_" + f.draw(HEX, 40)),
    "flutterwave": ("flutterwave-key", lambda f: "FLW" + "SECK-" + f.draw(HEX, 32) + "-X"),
    "brevo": ("brevo-key", lambda f: "xkey" + "sib-" + f.draw(HEX, 64) + "-" + f.draw(BASE62, 16)),
    "mapbox": ("mapbox-token", lambda f: "sk" + ".eyJ" + f.draw(BASE62, 60) + "." + f.draw(URLSAFE, 22)),
    "discord-bot": ("discord-token", lambda f: "M" + "T" + f.draw(BASE62, 24) + "." + f.draw(URLSAFE, 12)[:6] + "." + f.draw(BASE62, 38)),
    "dynatrace": ("dynatrace-token", lambda f: "dt0" + "c01." + f.draw(UPPER, 24) + "." + f.draw(UPPER, 64)),
    "jwt": ("jwt", lambda f: f.jwt()),
    "pkcs8-der": ("private-key-der", lambda f: "MIIEvg" + "IBADANBgkqhkiG9w0BAQEFAASC" + f.draw(BASE62, 400)),
}  # fmt: skip

# What text a token stands in: (extension, before, after).
_PLACES = (
    ("py", "import os\n\nclient = connect('", "')\nprint(client)\n"),
    ("md", "# Setup\n\nRun it with `", "` and wait.\n"),
    ("txt", "notes\n", "\nmore notes\n"),
    ("yml", "jobs:\n  build:\n    with: ", "\n    runs-on: linux\n"),
    ("js", 'const a = 1;\nfetch(url, {x: "', '"});\n'),
    ("sh", "#!/bin/sh\ncurl -H 'X-Thing: ", "' https://example.com/\n"),
    ("log", "12:00:01 INFO start\n12:00:02 DEBUG sent ", " to upstream\n"),
)


def tokens(fakes: Fakes) -> Iterator[Planted]:
    """One secret of every token kind, each in some text."""
    for number, (kind, (rule, make)) in enumerate(TOKENS.items()):
        extension, before, after = _PLACES[number % len(_PLACES)]
        value = make(fakes)
        content = f"{before}{value}{after}".encode()
        yield Planted(kind, f"planted/{kind}.{extension}", content, value.encode(), (rule,))


def others(fakes: Fakes) -> Iterator[Planted]:
    """Secrets that are known by their place: names, URLs, blocks, encodings."""

    def one(kind: str, name: str, text: str | bytes, value: str | bytes, *rules: str) -> Planted:
        return Planted(
            kind,
            f"planted/{name}",
            text if isinstance(text, bytes) else text.encode(),
            value if isinstance(value, bytes) else value.encode(),
            rules,
        )

    draw = fakes.draw
    for label in ("RSA PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK"):
        text = fakes.armored(label)
        yield one(f"pem {label}", f"{label.lower().replace(' ', '-')}.py", f'KEY = """\n{text}"""\n', text.split("\n")[1], "private-key")  # fmt: skip
    text = fakes.armored("PRIVATE KEY").replace("\n", "\\n")
    yield one("pem in json", "account.json", f'{{"type": "x", "k": "{text}"}}\n', text.split("\\n")[2], "private-key")
    text = fakes.body(500)
    yield one("pem without end", "cut.txt", "-----BEGIN " + f"RSA PRIVATE KEY-----\n{text}\n", text, "private-key-cut")
    value = fakes.body(64)
    yield one("putty", "site.txt", "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nPrivate-Lines: 1\n" + value + "\nPrivate-MAC: " + draw(HEX, 64) + "\n", value, "putty-key")  # fmt: skip
    value = draw(BASE62, 20)
    yield one("url password", "db.py", f'connect("postgres://shop:{value}@db.internal:5432/shop")\n', value, "url-credentials")  # fmt: skip
    value = "hunter" + "42!"
    yield one("url human password", "broker.yml", f"url: amqp://rabbit:{value}@mq/vhost\n", value, "url-credentials")
    value = draw(BASE62, 30)
    yield one("url token", "deps.txt", f"git+https://{value}@git.internal/team/lib.git\n", value, "url-credentials")
    value = "Tr0ub4dor" + "&3"
    yield one("human password", "settings.py", f'PASSWORD = "{value}"\n', value, "password")
    value = draw(BASE62, 16)
    yield one("random password", "app.js", f"const cfg = {{ dbPassword: '{value}' }};\n", value, "password")
    value = "correcthorse" + "battery"
    yield one("properties", "app.properties", f"spring.datasource.password={value}\n", value, "password")
    value = "s3cr3t " + "with spaces!"
    yield one("ini with spaces", "mail.ini", f"[smtp]\npassword = {value}\n", value, "password")
    value = "Winter" + "2031"
    yield one("xml", "beans.xml", f"<bean><password>{value}</password></bean>\n", value, "password")
    value = draw(BASE62, 12)
    yield one("connection string", "web.config", f'<add connectionString="Server=db;User Id=sa;Password={value};" />\n', value, "password")  # fmt: skip
    value = draw(HEX, 40)
    yield one("yaml token", "deploy.yaml", f"env:\n  DEPLOY_TOKEN: {value}\n", value, "named-secret")
    value = draw(BASE62 + "+/", 40)
    yield one("aws secret", "terraform.tf", f'  secret_key = "{value}"\n', value, "named-secret", "password")
    value = fakes.body(64)
    yield one("azure account key", "azure.cs", f'var c = "DefaultEndpointsProtocol=https;AccountKey={value};Endpoint=x";\n', value, "named-secret")  # fmt: skip
    value = draw(HEX, 32)
    yield one("api key", "client.ts", f'export const apiKey: string = "{value}";\n', value, "named-secret")
    value = draw(BASE62, 32)
    yield one("json credential", "app.json", f'{{\n  "client_credential": "{value}"\n}}\n', value, "named-secret")
    value = draw(BASE62 + "!@#%^&*", 50)
    yield one("django", "conf_settings.py", f"SECRET_KEY = 'django-insecure-{value}'\n", value, "password", "named-secret")  # fmt: skip
    value = draw(BASE62, 40)
    yield one("bearer", "call.http", f"GET / HTTP/1.1\nAuthorization: Bearer {value}\n", value, "authorization")
    value = base64.b64encode(f"deploy:{draw(BASE62, 14)}".encode()).decode()
    yield one("basic", "call2.http", f"GET / HTTP/1.1\nAuthorization: Basic {value}\n", value, "authorization")
    value = draw(BASE62, 14)
    yield one("netrc line", "setup.txt", f"machine git.internal login deploy password {value}\n", value, "netrc-password")  # fmt: skip
    value = "$apr1$" + draw(BASE62, 8) + "$" + draw(BASE62 + "./", 22)
    yield one("htpasswd", "users.list", f"deploy:{value}\n", value, "password-hash")
    value = "$2y$" + "10$" + draw(BASE62 + "./", 53)
    yield one("bcrypt", "fixtures.sql", f"INSERT INTO users VALUES ('deploy', '{value}');\n", value, "password-hash")
    value = fakes.body(20)
    yield one("sha htpasswd", "users2.list", "deploy:{SHA}" + value + "\n", value, "password-hash")
    value = base64.b64encode(fakes.armored("RSA PRIVATE KEY").encode()).decode()
    yield one("kubeconfig key data", "cluster.yaml", f"users:\n- name: a\n  user:\n    client-key-data: {value}\n", value, "named-secret", "private-key")  # fmt: skip
    inner = TOKENS["github-classic"][1](fakes)
    value = base64.b64encode(f"machine token is {inner} ok".encode()).decode()
    yield one("base64", "blob.yaml", f"data:\n  blob: {value}\n", value, "github-token")
    value = TOKENS["stripe"][1](fakes)
    yield one("utf-16 with mark", "wide.ps1", f"$k = '{value}'\r\n".encode("utf-16"), value.encode("utf-16-le"), "stripe-key")  # fmt: skip
    value = TOKENS["npm"][1](fakes)
    yield one("utf-16 without mark", "wide.txt", f"the key is {value}\r\n".encode("utf-16-le"), value.encode("utf-16-le"), "npm-token")  # fmt: skip
    value = TOKENS["gitlab"][1](fakes)
    yield one("utf-8 mark", "mark.txt", f"\ufeff{value}\n".encode(), value, "gitlab-token")
    value = TOKENS["slack-bot"][1](fakes)
    yield one("binary", "cache.bin", b"\0\1\2\xff" * 40 + value.encode() + b"\0\3" * 20, value, "slack-token")
    value = TOKENS["github-classic"][1](fakes)
    yield one("allow comment", "allowed.py", f'X = "{value}"  # gitleaks:allow noqa nosec\n', value, "github-token")
    value = TOKENS["npm"][1](fakes)
    yield one("vendored", "node_modules/left/index.js", f"module.exports = '{value}'\n", value, "npm-token")
    value = TOKENS["github-app"][1](fakes)
    yield one("lock file", "package-lock.json", f'{{"resolved": "https://x:{value}@registry.internal/a.tgz"}}\n', value, "github-token", "url-credentials")  # fmt: skip
    value = TOKENS["sendgrid"][1](fakes)
    yield one("pdf", "manual.pdf", b"%PDF-1.4\n1 0 obj (" + value.encode() + b")\nstream\n\xff\0\xfe endstream\n", value, "sendgrid-key")  # fmt: skip
    value = TOKENS["anthropic"][1](fakes)
    yield one("notebook", "work.ipynb", f'{{"cells": [{{"source": ["key = \\"{value}\\"\\n"]}}]}}\n', value, "anthropic-key")  # fmt: skip
    value = draw(BASE62, 24)
    yield one("slack webhook", "notify.sh", f"curl https://hooks.slack.com/services/T{draw(UPPER, 9)}/B{draw(UPPER, 9)}/{value}\n", value, "slack-webhook")  # fmt: skip
    value = draw(BASE62, 24)
    yield one("split literal", "split.py", f'TOKEN = ("{value[:8]}"\n         "{value[8:16]}"\n         "{value[16:]}")\n', value[:8], "named-secret")  # fmt: skip
    value = draw(BASE62, 14)
    yield one("curl user", "get.sh", f"curl -fsS -u deploy:{value} https://files.internal/x\n", value, "password")
    value = draw(BASE62, 14)
    yield one("sshpass", "copy.sh", f"sshpass -p {value} scp a root@host:\n", value, "password")
    value = draw(BASE62, 14)
    yield one("option", "login.md", f"    registry login --user ci --password {value}\n", value, "password")
    value = draw(BASE62, 24)
    yield one("token option", "ship.sh", f"deploy --prod --token {value}\n", value, "named-secret")
    value = draw(BASE62, 14)
    yield one("sql user", "init.sql", f"CREATE USER shop IDENTIFIED BY '{value}';\n", value, "password")
    value = draw(BASE62, 14)
    yield one("sql role", "roles.sql", f"ALTER ROLE shop WITH PASSWORD '{value}';\n", value, "password")
    value = draw(BASE62, 14)
    yield one("docker ENV", "Dockerfile", f"FROM x\nENV DB_PASSWORD {value}\n", value, "password")
    value = draw(BASE62, 14)
    yield one("c macro", "wifi.h", f'#define WIFI_PASSWORD "{value}"\n', value, "password")
    value = draw(BASE62, 14)
    yield one("wpa", "wpa.conf", f'network={{\n  ssid="x"\n  psk="{value}"\n}}\n', value, "password")
    value = draw(BASE62, 14)
    yield one("pass", "Makefile", f"export DB_PASS := {value}\n", value, "password")
    value = draw(BASE62, 14)
    yield one("mailer pass", "mail.js", f"auth: {{ user: 'x', pass: '{value}' }},\n", value, "password")
    value = draw(BASE62, 14)
    yield one("rust type", "main.rs", f'const DB_PASSWORD: &str = "{value}";\n', value, "password")
    value = draw(BASE62, 14)
    yield one("xml attribute", "app.config", f'<add key="SmtpPassword" value="{value}" />\n', value, "password")
    value = draw(BASE62, 14)
    yield one("terraform default", "vars.tf", f'variable "db_password" {{\n  type = string\n  default = "{value}"\n}}\n', value, "password")  # fmt: skip
    value = draw(BASE62, 14)
    yield one("yaml block", "values.yaml", f"password: >-\n  {value}\n", value, "password")
    value = draw(string.ascii_letters + "5", 14)
    yield one("jdbc", "jdbc.properties", f"url=jdbc:mysql://db/x?user=root&password={value}\n", value, "password")
    value = draw(BASE62, 14)
    yield one("netrc lines", "hosts.txt", f"machine git.internal\n  login deploy\n  password {value}\n", value, "netrc-password", "password")  # fmt: skip
    value = draw(BASE62, 14)
    yield one(
        "powershell", "setup.ps1", f'$p = ConvertTo-SecureString "{value}" -AsPlainText -Force\n', value, "password"
    )
    value = draw(BASE62, 40)
    yield one("okta", "call.py", f'h = {{"Authorization": "SSWS 00{value}"}}\n', value, "authorization")
    value = "xkq" + "7"
    yield one("short password", "pin.py", f'password = "{value}"\n', value, "password")


def planted(seed: int = 1) -> list[Planted]:
    """All planted secrets; equal for equal seeds."""
    fakes = Fakes(seed)
    return [*tokens(fakes), *others(fakes)]


def decoys(seed: int = 2) -> list[Decoy]:
    """What must not be taken for a secret."""
    fakes = Fakes(seed)
    texts = {
        "changeme": ("a.ini", "password = changeme\n"),
        "variable": ("b.yml", "password: ${DB_PASSWORD}\ntoken: $GITHUB_TOKEN\n"),
        "template": ("c.yaml", "token: {{ secrets.token }}\npassword: <your-password>\n"),
        "aws documentation": ("d.md", "aws_access_key_id = AKIA" + "IOSFODNN7EXAMPLE\n"),
        "x's": ("e.md", "export TOKEN=ghp" + "_" + "x" * 36 + "\n"),
        "environment": ("f.py", 'password = os.environ["PASSWORD"]\ntoken = get_token(user)\n'),
        "prompt": ("g.py", 'password = getpass.getpass("Password: ")\nlabel = "Password:"\n'),
        "sha256": ("h.txt", f"sha256:{fakes.draw(HEX, 64)}  file.tar.gz\n"),
        "commit": ("i.lock", f"commit = {fakes.draw(HEX, 40)}\nintegrity = sha512-{fakes.body(64)}\n"),
        "uuid": ("j.json", '{"id": "3f2b8c1e-9d4a-4c7b-8e21-5a6d7c8b9e0f", "token_type": "bearer"}\n'),
        "public key": ("k.txt", "-----BEGIN PUBLIC KEY-----\n" + fakes.body(90) + "\n-----END PUBLIC KEY-----\n"),
        "certificate": ("l.txt", fakes.armored("CERTIFICATE")),
        "header line alone": ("m.py", 'if line == "-----BEGIN ' + 'RSA PRIVATE KEY-----":\n    parse(line)\n'),
        "url without password": ("n.md", "https://github.com/a/b@v1.2.3 and ssh://git@github.com:22/a/b\n"),
        "url with stand-in": ("o.md", "postgres://user:password@localhost/db and http://user:${PASS}@host/\n"),
        "secret reference": ("p.yaml", "secretKeyRef:\n  name: my-app-secret-2\n  key: token\nsecretName: db-pass-1\n"),
        "typed field": ("q.ts", "interface L { password: string; token?: string }\nlet secret = makeSecret1(a, b);\n"),
        "image": ("r.html", f'<img src="data:image/png;base64,{fakes.body(900)}">\n'),
        "e-mail": ("s.txt", "From: a@example.com\nmailto://someone@example.com\n"),
        "long name": ("t.py", "def test_that_a_secret_token_with_2_parts_is_parsed_in_python3_9():\n    pass\n"),
        "translation": ("u.json", '{"password": "Password", "password2": "Repeat your password", "token": "Jeton"}\n'),
        "command with variables": (
            "w.sh",
            'curl -u "$USER:$PASSWORD" https://x/\nsshpass -p "$PASS" ssh h\nx --password "$PW" --token ${T}\n',
        ),
        "usage": (
            "x.md",
            "Usage: tool --password PASSWORD --token TOKEN\ncurl -u username:password https://x/\nIDENTIFIED BY 'password';\n",
        ),
        "pass as a word": (
            "y.py",
            "def f(bypass='abc123def'): pass\ncompass = 'north2east4'\n# pass: 2 of 3\npass_count = 'a1b2c3d4'\n",
        ),
        "password in prose": (
            "z.md",
            'Enter the password "twice" below. The password field-2 is optional.\nlogin with a\npassword manager of yours\n',
        ),
        "redacted": ("v.ini", "password = overlayws-" + "redacted-0123456789abcdef\n"),
    }
    return [Decoy(kind, f"decoys/{name}", text.encode()) for kind, (name, text) in texts.items()]


def ordinary(count: int) -> Iterator[tuple[str, bytes]]:
    """(path, content) of ``count`` ordinary text files, from this Python's library and packages."""
    found = 0
    for where in (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), "/usr/lib/python3", "/usr/share/doc"):
        for folder, folders, names in os.walk(where):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                if path.suffix in (".pyc", ".so", ".gz", ".exe", ".a", ".o") or path.is_symlink() or not path.is_file():
                    continue
                yield f"ordinary/{found:05d}/{name}", path.read_bytes()
                found += 1
                if found == count:
                    return
