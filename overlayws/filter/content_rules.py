"""The rules of the content scan, as data: what a secret looks like in a file's bytes, and what is done about it.

A token shape is one of a few literal ``heads`` (the bytes that issuers chose to be found by) and a ``body`` after it.
Every repeat is bounded, and what follows a repeat is not of its class, so each body takes linear time. The shapes are
the formats that the issuers publish.
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
    """A token that begins with one of the ``heads`` (separated by spaces) and goes on with ``body``.

    ``edge``: no letter or digit stands before the head. ``before``: what stands before the head and is part of the
    token. ``near``: what the 24 bytes before the head hold. A group ``s`` of the body is the secret, else all of it.
    """

    rule: str
    about: str
    heads: str
    body: bytes
    edge: bool = False
    before: bytes = b""
    near: bytes = b""
    action: Effect = Action.REDACT


_END = rb"(?![A-Za-z0-9_-])"

# Of two shapes with one head the first that fits counts; a longer head is tried before a shorter one.
SHAPES = (
    Shape("github-token", "GitHub: personal, OAuth, app and refresh tokens", "ghp_ gho_ ghu_ ghs_ ghr_",
          rb"[A-Za-z0-9]{36,251}"),
    Shape("github-fine-grained", "GitHub: fine-grained personal token", "github_pat_", rb"[A-Za-z0-9_]{50,120}"),
    Shape("gitlab-token", "GitLab: personal, deploy, runner, job, trigger, feed and agent tokens",
          "glpat- gldt- glrt- glcbt- glptt- glft- glimt- glagent- glsoat-", rb"[A-Za-z0-9_.-]{20,80}"),
    Shape("aws-access-key", "AWS: access key id", "AKIA ASIA ABIA ACCA A3T", rb"[A-Z0-9]{16,17}" + _END, edge=True),
    Shape("gcp-api-key", "Google: API key", "AIza", rb"[A-Za-z0-9_-]{35}" + _END),
    Shape("gcp-oauth", "Google: OAuth access token", "ya29.", rb"[A-Za-z0-9_-]{20,512}", edge=True),
    Shape("gcp-client-secret", "Google: OAuth client secret", "GOCSPX-", rb"[A-Za-z0-9_-]{24,40}"),
    Shape("slack-token", "Slack: bot, user, app and refresh tokens",
          "xoxa- xoxb- xoxe- xoxe. xoxp- xoxr- xoxs- xoxc- xoxd- xapp-", rb"[A-Za-z0-9%.-]{20,250}"),
    Shape("slack-webhook", "Slack: incoming webhook", "/services/T",
          rb"[A-Z0-9]{6,14}/B[A-Z0-9]{6,14}/(?P<s>[A-Za-z0-9]{20,30})", near=b"hooks.slack"),
    Shape("discord-webhook", "Discord: webhook", "/api/webhooks/",
          rb"[0-9]{17,20}/(?P<s>[A-Za-z0-9_-]{60,80})", near=b"discord"),
    Shape("stripe-key", "Stripe: secret and restricted keys", "sk_live_ rk_live_ sk_test_ rk_test_",
          rb"[A-Za-z0-9]{20,250}", edge=True),
    Shape("stripe-webhook", "Stripe, Svix: webhook signing secret", "whsec_", rb"[A-Za-z0-9+/]{24,64}"),
    Shape("anthropic-key", "Anthropic: API, admin and OAuth keys", "sk-ant-", rb"[A-Za-z0-9_-]{32,200}"),
    Shape("openai-key", "OpenAI: project, service account and admin keys", "sk-proj- sk-svcacct- sk-admin- sk-None-",
          rb"[A-Za-z0-9_-]{40,200}", edge=True),
    Shape("openai-key", "OpenAI: first generation; OpenRouter, DeepSeek and others", "sk-or-v1- sk-",
          rb"[A-Za-z0-9]{32,64}" + _END, edge=True),
    Shape("npm-token", "npm: access token", "npm_", rb"[A-Za-z0-9]{36}" + _END),
    Shape("pypi-token", "PyPI, TestPyPI: upload token", "pypi-Ag", rb"[A-Za-z0-9_-]{50,512}"),
    Shape("telegram-token", "Telegram: bot token", ":AA", rb"[A-Za-z0-9_-]{33}" + _END,
          before=rb"(?<![A-Za-z0-9])[0-9]{8,10}\Z"),
    Shape("twilio-key", "Twilio: API key", "SK", rb"[0-9a-f]{32}" + _END, edge=True),
    Shape("sendgrid-key", "SendGrid: API key", "SG.", rb"[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}" + _END, edge=True),
    Shape("mailgun-key", "Mailgun: API key", "key-", rb"[0-9a-f]{32}" + _END, edge=True),
    Shape("mailchimp-key", "Mailchimp: API key", "-us", rb"[0-9]{1,2}" + _END,
          before=rb"(?<![A-Za-z0-9])[0-9a-f]{32}\Z"),
    Shape("huggingface-token", "Hugging Face: user token", "hf_", rb"[A-Za-z0-9]{34,40}" + _END, edge=True),
    Shape("vault-token", "HashiCorp Vault: service, batch and recovery tokens", "hvs. hvb. hvr.",
          rb"[A-Za-z0-9_-]{24,300}", edge=True),
    Shape("terraform-token", "Terraform Cloud: API token", ".atlasv1.", rb"[A-Za-z0-9_=-]{60,70}",
          before=rb"[A-Za-z0-9]{14}\Z"),
    Shape("digitalocean-token", "DigitalOcean: personal, OAuth and refresh tokens", "dop_v1_ doo_v1_ dor_v1_",
          rb"[0-9a-f]{64}"),
    Shape("docker-token", "Docker Hub: access tokens", "dckr_pat_ dckr_oat_", rb"[A-Za-z0-9_-]{27,60}"),
    Shape("databricks-token", "Databricks: personal token", "dapi", rb"[0-9a-f]{32}(?:-[0-9])?" + _END, edge=True),
    Shape("shopify-token", "Shopify: access tokens and shared secret", "shpat_ shpca_ shppa_ shpss_",
          rb"[0-9a-fA-F]{32}"),
    Shape("square-token", "Square: access token and OAuth secret", "sq0atp- sq0csp-", rb"[A-Za-z0-9_-]{22,60}"),
    Shape("linear-key", "Linear: API and OAuth keys", "lin_api_ lin_oauth_", rb"[A-Za-z0-9]{32,80}"),
    Shape("grafana-token", "Grafana: service account and cloud tokens", "glsa_ glc_", rb"[A-Za-z0-9+/_]{32,400}"),
    Shape("newrelic-key", "New Relic: user key", "NRAK-", rb"[A-Z0-9]{27}" + _END),
    Shape("postman-key", "Postman: API key", "PMAK-", rb"[0-9a-f]{24}-[0-9a-f]{34}"),
    Shape("rubygems-key", "RubyGems: API key", "rubygems_", rb"[0-9a-f]{48}"),
    Shape("atlassian-token", "Atlassian: API token", "ATATT3", rb"[A-Za-z0-9_=-]{100,300}"),
    Shape("cargo-token", "crates.io: API token", "cio", rb"[A-Za-z0-9]{32}" + _END, edge=True),
    Shape("age-key", "age: identity", "AGE-SECRET-KEY-1", rb"[A-Z0-9]{58}"),
    Shape("age-key", "age: identity of a plugin", "AGE-PLUGIN-", rb"[A-Z0-9]{1,24}-1[A-Z0-9]{20,200}"),
    Shape("sentry-token", "Sentry: organization and user tokens", "sntrys_", rb"eyJ[A-Za-z0-9+/=_]{60,600}"),
    Shape("sentry-token", "Sentry: user token", "sntryu_", rb"[0-9a-f]{64}"),
    Shape("supabase-key", "Supabase: access token and secret key", "sbp_", rb"[0-9a-f]{40}" + _END),
    Shape("supabase-key", "Supabase: secret key", "sb_secret_", rb"[A-Za-z0-9_-]{24,60}"),
    Shape("planetscale-token", "PlanetScale: tokens and passwords", "pscale_tkn_ pscale_pw_ pscale_oauth_",
          rb"[A-Za-z0-9_=.-]{32,64}"),
    Shape("doppler-token", "Doppler: personal, CLI, service and audit tokens",
          "dp.pt. dp.ct. dp.sa. dp.scim. dp.audit.", rb"[A-Za-z0-9]{40,44}" + _END, edge=True),
    Shape("doppler-token", "Doppler: service token of one configuration", "dp.st.",
          rb"(?:[a-z0-9_-]{2,35}\.)?[A-Za-z0-9]{40,44}" + _END, edge=True),
    Shape("fly-token", "Fly.io: access tokens", "fm1r_ fm1a_ fm2_", rb"[A-Za-z0-9+/]{60,4096}", edge=True),
    Shape("fly-token", "Fly.io: OAuth token", "fo1_", rb"[A-Za-z0-9_-]{43}" + _END, edge=True),
    Shape("groq-key", "Groq: API key", "gsk_", rb"[A-Za-z0-9]{52}" + _END, edge=True),
    Shape("perplexity-key", "Perplexity: API key", "pplx-", rb"[A-Za-z0-9]{40,64}" + _END, edge=True),
    Shape("replicate-token", "Replicate: API token", "r8_", rb"[A-Za-z0-9]{37}" + _END, edge=True),
    Shape("xai-key", "xAI: API key", "xai-", rb"[A-Za-z0-9_]{70,90}" + _END, edge=True),
    Shape("langsmith-key", "LangSmith: personal and service keys", "lsv2_pt_ lsv2_sk_",
          rb"[0-9a-f]{32}_[0-9a-f]{10}"),
    Shape("figma-token", "Figma: personal and plan tokens", "figd_ figp_", rb"[A-Za-z0-9_-]{40,60}", edge=True),
    Shape("notion-token", "Notion: integration token", "ntn_", rb"[A-Za-z0-9]{40,50}" + _END, edge=True),
    Shape("notion-token", "Notion: integration token, first generation", "secret_",
          rb"[A-Za-z0-9]{43}" + _END, edge=True),
    Shape("airtable-token", "Airtable: personal token", "pat",
          rb"[A-Za-z0-9]{14}\.[0-9a-f]{64}" + _END, edge=True),
    Shape("dropbox-token", "Dropbox: short-lived access token", "sl.",
          rb"(?:u\.)?[A-Za-z0-9_-]{130,1400}", edge=True),
    Shape("heroku-key", "Heroku: API key", "HRKU-", rb"[A-Za-z0-9_-]{36,64}", edge=True),
    Shape("pulumi-token", "Pulumi: access token", "pul-", rb"[0-9a-f]{40}" + _END, edge=True),
    Shape("tailscale-key", "Tailscale: auth, API, OAuth and webhook keys", "tskey-",
          rb"(?:auth|api|client|scim|webhook)-[A-Za-z0-9]{8,24}-[A-Za-z0-9]{20,48}", edge=True),
    Shape("sonar-token", "SonarQube: user, project and global tokens", "squ_ sqp_ sqa_",
          rb"[0-9a-f]{40}" + _END, edge=True),
    Shape("aws-bedrock-key", "AWS Bedrock: long-lived API key", "ABSK",
          rb"[A-Za-z0-9+/]{109,269}={0,2}", edge=True),
    Shape("onepassword-token", "1Password: service account token", "ops_eyJ", rb"[A-Za-z0-9_+/-]{200,4096}={0,3}"),
    Shape("artifactory-token", "JFrog Artifactory: API key and reference token", "AKCp",
          rb"[A-Za-z0-9]{60,72}" + _END, edge=True),
    Shape("artifactory-token", "JFrog: reference token (base64 of reftkn)", "cmVmdGtu",
          rb"[A-Za-z0-9]{56}" + _END, edge=True),
    Shape("nuget-key", "NuGet: API key", "oy2", rb"[a-z0-9]{43}" + _END, edge=True),
    Shape("buildkite-token", "Buildkite: user token", "bkua_", rb"[0-9a-f]{40}" + _END, edge=True),
    Shape("circleci-token", "CircleCI: personal and project tokens", "CCIPAT_ CCIPRJ_",
          rb"[A-Za-z0-9]{22}_[0-9a-f]{40}"),
    Shape("flutterwave-key", "Flutterwave: secret keys", "FLWSECK-", rb"[0-9a-z]{32}-X", edge=True),
    Shape("flutterwave-key", "Flutterwave: secret key for tests", "FLWSECK_TEST-", rb"[0-9a-h]{12,32}", edge=True),
    Shape("typeform-token", "Typeform: personal token", "tfp_", rb"[A-Za-z0-9_.=-]{40,80}", edge=True),
    Shape("duffel-token", "Duffel: access token", "duffel_live_ duffel_test_", rb"[A-Za-z0-9_=-]{43}"),
    Shape("prefect-key", "Prefect: API keys", "pnu_ pnb_", rb"[A-Za-z0-9]{36}" + _END, edge=True),
    Shape("readme-key", "ReadMe: API key", "rdme_", rb"[a-z0-9]{70}" + _END),
    Shape("easypost-key", "EasyPost: production and test keys", "EZAK EZTK",
          rb"[A-Za-z0-9]{54}" + _END, edge=True),
    Shape("brevo-key", "Brevo: API key", "xkeysib-", rb"[0-9a-f]{64}-[A-Za-z0-9]{16}"),
    Shape("render-key", "Render: API key", "rnd_", rb"[A-Za-z0-9]{28,40}" + _END, edge=True),
    Shape("netlify-token", "Netlify: personal, CLI and OAuth tokens", "nfp_ nfc_ nfo_ nfu_",
          rb"[A-Za-z0-9]{36}" + _END, edge=True),
    Shape("mapbox-token", "Mapbox: secret token", "sk.eyJ",
          rb"[A-Za-z0-9_-]{30,400}\.[A-Za-z0-9_-]{20,30}", edge=True),
    # The first part is the bot's number in base64.
    Shape("discord-token", "Discord: bot token", "MT Mj Mz ND NT Nj Nz OD OT",
          rb"[A-Za-z0-9_-]{22,26}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,45}" + _END, edge=True),
    Shape("contentful-token", "Contentful: management token", "CFPAT-", rb"[A-Za-z0-9_-]{43}"),
    Shape("dynatrace-token", "Dynatrace: API token", "dt0c01.", rb"[A-Z0-9]{24}\.[A-Z0-9]{64}"),
    Shape("openshift-token", "OpenShift: user token", "sha256~", rb"[A-Za-z0-9_-]{43}" + _END),
    Shape("sourcegraph-token", "Sourcegraph: access token", "sgp_",
          rb"(?:[0-9a-f]{16}_|local_)?[0-9a-f]{40}" + _END),
    Shape("clojars-token", "Clojars: deploy token", "CLOJARS_", rb"[a-z0-9]{60}"),
    Shape("shippo-token", "Shippo: API token", "shippo_live_ shippo_test_", rb"[0-9a-f]{40}"),
    Shape("private-key-der", "PKCS#8 and PKCS#1 private keys as base64 without armor (RFC 5958, RFC 8017)",
          "MII MIG MHc MC4 MIC ME4",
          rb"[A-Za-z0-9+/]{1,6}(?:IBADANBgkqhkiG9w0BAQEFAASC|AgEAMA0GCSqGSIb3DQEBAQUABI|EAMBMGByqGSM49|CAQAwBQYDK2V"
          rb"|CAQAwEwYHKoZIzj0C|EAMAUGAytl|IBAAKC|CAQEEI)[A-Za-z0-9+/]{16,8192}={0,2}", edge=True),
    Shape("jwt", "signed JSON Web Token (RFC 7519)", "eyJ",
          rb"[A-Za-z0-9_-]{12,4096}"
          rb"\.eyJ[A-Za-z0-9_-]{10,8192}\.[A-Za-z0-9_-]{20,2048}", before=rb"(?<![A-Za-z0-9_-])\Z"),
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
