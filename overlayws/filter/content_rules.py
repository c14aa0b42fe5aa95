"""The rules of the content scan, as data: what a secret looks like in a file's bytes, and what is done about it.

A token shape is a ``head`` (a few literal bytes that issuers chose to be found by) and a ``body``. Every repeat is
bounded or runs over one class of bytes that the next part cannot begin with, so each pattern takes linear time. The
shapes are the issuers' published formats; each rule names where its format is described.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

WARN: Literal["warn"] = "warn"


class Action(Enum):
    """What becomes of a file, weakest first. A policy gives a rule one of these, or ``"warn"``."""

    SHOW = "show"  # as it is
    REDACT = "redact"  # shown with the secret replaced
    HIDE = "hide"  # not shown
    BLOCK = "block"  # no session is started


Effect = Action | Literal["warn"]


@dataclass(frozen=True, slots=True)
class ContentRule:
    """One rule. ``action`` is the default; ``about`` is one line for ``explain`` and the documentation."""

    id: str
    action: Effect
    about: str


@dataclass(frozen=True, slots=True)
class Shape:
    """A token known by its ``head``; ``body`` follows it at once. A group ``s`` is the secret, else all of it is."""

    rule: str
    head: bytes
    body: bytes
    about: str
    action: Effect = Action.REDACT


# The heads are tried in this order at one place: the more special before the more general.
SHAPES = (
    Shape("github-token", rb"gh[pousr]_", rb"[A-Za-z0-9]{36,251}", "GitHub: personal, OAuth, app and refresh tokens"),
    Shape("github-fine-grained", rb"github_pat_", rb"[A-Za-z0-9_]{50,120}", "GitHub: fine-grained personal token"),
    Shape("gitlab-token", rb"gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat)-", rb"[A-Za-z0-9_-]{20,80}", "GitLab tokens"),
    Shape("aws-access-key", rb"(?<![A-Za-z0-9])A(?:3T[A-Z0-9]|KIA|SIA|BIA|CCA)", rb"[A-Z2-7]{16}(?![A-Za-z0-9])",
          "AWS: access key id (IAM identifiers)"),  # fmt: skip
    Shape("gcp-api-key", rb"AIza", rb"[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])", "Google: API key"),
    Shape("gcp-oauth", rb"(?<![A-Za-z0-9])ya29\.", rb"[A-Za-z0-9_-]{20,512}", "Google: OAuth access token"),
    Shape("gcp-client-secret", rb"GOCSPX-", rb"[A-Za-z0-9_-]{24,40}", "Google: OAuth client secret"),
    Shape("slack-token", rb"xox[abeprs]-", rb"[A-Za-z0-9-]{20,250}", "Slack: bot, user, app and refresh tokens"),
    Shape("slack-token", rb"xapp-", rb"[0-9]-[A-Z0-9]{5,20}-[0-9]{5,20}-[a-f0-9]{20,80}", "Slack: app-level token"),
    Shape("slack-webhook", rb"/services/T", rb"[A-Z0-9]{6,14}/B[A-Z0-9]{6,14}/(?P<s>[A-Za-z0-9]{20,30})",
          "Slack: incoming webhook"),  # fmt: skip
    Shape("discord-webhook", rb"/api/webhooks/", rb"[0-9]{17,20}/(?P<s>[A-Za-z0-9_-]{60,80})", "Discord: webhook"),
    Shape("stripe-key", rb"(?<![A-Za-z0-9])(?:sk|rk)_(?:live|test)_", rb"[A-Za-z0-9]{20,250}", "Stripe: secret keys"),
    Shape("stripe-webhook", rb"whsec_", rb"[A-Za-z0-9+/]{24,64}", "Stripe and Svix: webhook signing secret"),
    Shape("anthropic-key", rb"sk-ant-", rb"[A-Za-z0-9_-]{32,200}", "Anthropic: API, admin and OAuth keys"),
    Shape("openai-key", rb"(?<![A-Za-z0-9])sk-(?:proj|svcacct|admin|None)-", rb"[A-Za-z0-9_-]{40,200}",
          "OpenAI: project, service and admin keys"),  # fmt: skip
    Shape("openai-key", rb"(?<![A-Za-z0-9])sk-(?:or-v1-)?", rb"[A-Za-z0-9]{40,64}(?![A-Za-z0-9])",
          "OpenAI (first generation), OpenRouter, DeepSeek and others"),  # fmt: skip
    Shape("npm-token", rb"npm_", rb"[A-Za-z0-9]{36}(?![A-Za-z0-9])", "npm: access token"),
    Shape("pypi-token", rb"pypi-Ag", rb"[A-Za-z0-9_-]{50,512}", "PyPI and TestPyPI: upload token (a macaroon)"),
    Shape("telegram-token", rb"(?<![A-Za-z0-9])[0-9]{8,10}:AA", rb"[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])",
          "Telegram: bot token"),  # fmt: skip
    Shape("twilio-key", rb"(?<![A-Za-z0-9])SK", rb"[0-9a-f]{32}(?![A-Za-z0-9])", "Twilio: API key"),
    Shape("sendgrid-key", rb"(?<![A-Za-z0-9])SG\.", rb"[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}", "SendGrid: API key"),
    Shape("mailgun-key", rb"(?<![A-Za-z0-9])key-", rb"[0-9a-f]{32}(?![A-Za-z0-9])", "Mailgun: API key"),
    Shape("mailchimp-key", rb"(?<![A-Za-z0-9])[0-9a-f]{32}-us", rb"[0-9]{1,2}(?![A-Za-z0-9])", "Mailchimp: API key"),
    Shape("huggingface-token", rb"(?<![A-Za-z0-9])hf_", rb"[A-Za-z0-9]{34,40}(?![A-Za-z0-9])", "Hugging Face: token"),
    Shape("vault-token", rb"(?<![A-Za-z0-9])hv[sbr]\.", rb"[A-Za-z0-9_-]{24,300}", "HashiCorp Vault: token"),
    Shape("terraform-token", rb"\.atlasv1\.", rb"[A-Za-z0-9_=-]{60,70}", "Terraform Cloud: API token"),
    Shape("digitalocean-token", rb"do[opr]_v1_", rb"[0-9a-f]{64}", "DigitalOcean: tokens"),
    Shape("docker-token", rb"dckr_(?:pat|oat)_", rb"[A-Za-z0-9_-]{27,60}", "Docker Hub: access token"),
    Shape("databricks-token", rb"(?<![A-Za-z0-9])dapi", rb"[0-9a-f]{32}(?:-[0-9])?(?![A-Za-z0-9])", "Databricks: token"),
    Shape("shopify-token", rb"shp(?:at|ca|pa|ss)_", rb"[0-9a-fA-F]{32}", "Shopify: tokens and shared secret"),
    Shape("square-token", rb"sq0(?:atp|csp)-", rb"[A-Za-z0-9_-]{22,60}", "Square: access token and secret"),
    Shape("linear-key", rb"lin_(?:api|oauth)_", rb"[A-Za-z0-9]{32,80}", "Linear: API key"),
    Shape("grafana-token", rb"gl(?:sa|c)_", rb"[A-Za-z0-9+/]{32,400}", "Grafana: service account and cloud tokens"),
    Shape("newrelic-key", rb"NRAK-", rb"[A-Z0-9]{27}", "New Relic: user key"),
    Shape("postman-key", rb"PMAK-", rb"[0-9a-f]{24}-[0-9a-f]{34}", "Postman: API key"),
    Shape("rubygems-key", rb"rubygems_", rb"[0-9a-f]{48}", "RubyGems: API key"),
    Shape("atlassian-token", rb"ATATT3", rb"[A-Za-z0-9_=-]{100,300}", "Atlassian: API token"),
    Shape("cargo-token", rb"(?<![A-Za-z0-9])cio", rb"[A-Za-z0-9]{32}(?![A-Za-z0-9])", "crates.io: API token"),
    Shape("age-key", rb"AGE-(?:SECRET-KEY|PLUGIN-[A-Z0-9]{1,20})-1", rb"[A-Z0-9]{38,200}", "age: identity"),
    Shape("private-key-der", rb"(?<![A-Za-z0-9+/])M[CEGHI]",
          rb"[A-Za-z0-9+/]{2,8}(?:IBADANBgkqhkiG9w0BAQEFAASC|CAQAw(?:EwYHKoZIzj0C|BQYDK2V)|IBAAKC)"
          rb"[A-Za-z0-9+/]{16,8192}={0,2}",
          "PKCS#8 and PKCS#1 private keys as base64 without armor (RFC 5958, RFC 8017)"),  # fmt: skip
    Shape("jwt", rb"(?<![A-Za-z0-9_-])eyJ",
          rb"[A-Za-z0-9_-]{12,4096}\.eyJ[A-Za-z0-9_-]{10,8192}\.[A-Za-z0-9_-]{20,2048}",
          "signed JSON Web Token (RFC 7519)"),  # fmt: skip
)  # fmt: skip

_OTHERS = (
    ContentRule("private-key", Action.REDACT, "PEM, OpenSSH, OpenPGP and SSH2 private key blocks"),
    ContentRule("private-key-cut", Action.HIDE, "a private key block without an end"),
    ContentRule("putty-key", Action.HIDE, "PuTTY private key file"),
    ContentRule("url-credentials", Action.REDACT, "user:password@ or token@ in a URL (RFC 3986, 3.2.1)"),
    ContentRule("password", Action.REDACT, "a name like password, passphrase, pwd or secret with a literal value"),
    ContentRule("named-secret", Action.REDACT, "a name like token, api_key or credential with a random value"),
    ContentRule("authorization", Action.REDACT, "an Authorization header with a literal value (RFC 9110, 11.6.2)"),
    ContentRule("password-hash", Action.REDACT, "crypt(5), htpasswd and argon2 hashes"),
    ContentRule("netrc-password", Action.REDACT, "login … password … on one line (netrc(5))"),
    ContentRule("config-secret", Action.REDACT, "a secret field of a file that is redacted by its name"),
    ContentRule("not-understood", Action.HIDE, "a file that is redacted by its name, but is not well-formed"),
    ContentRule("not-inspected", WARN, "a file too large to inspect"),
)

RULES: dict[str, ContentRule] = {
    **{shape.rule: ContentRule(shape.rule, shape.action, shape.about) for shape in reversed(SHAPES)},
    **{rule.id: rule for rule in _OTHERS},
}
