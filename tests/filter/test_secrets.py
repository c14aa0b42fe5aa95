"""The table of names: what is hidden at any depth, in which spellings, and what must stay visible."""

from __future__ import annotations

import pytest

from overlayws.filter.match import Filter
from overlayws.filter.secrets import _CORES, SECRETS, copied_names, suspicious

RULES = Filter()

HIDDEN = {
    "env": ".env .env.local .env.production .env.production.local .env-prod .env_prod prod.env .envrc .flaskenv",
    "ssh-key": "id_rsa id_dsa id_ecdsa id_ed25519 id_ed25519_sk id_xmss deploy_rsa x_dsa x_ecdsa github_ed25519",
    "key-file": "putty.ppk AuthKey.p8 a.p12 a.pfx a.pkcs12 a.jks debug.keystore a.bks a.kdb a.kdbx a.psafe3 "
    "secring.gpg vpn.ovpn a.mobileprovision master.key config/master.key config/credentials/live.key .chef/me.pem",
    "keychain": "login.keychain login.keychain-db x.agilekeychain/data private-keys-v1.d/AB.key",
    "key-content": "server.pem tls.key",
    "certificate": "ca.crt ca.cer ca.cert ca.der me.asc me.age",
    "keyring": "me.gpg me.pgp",
    "cloud-directory": ".aws/ .aws/credentials .azure/x home/.config/gcloud/x .oci/config .kube/config .terraform.d/x "
    ".pulumi/x .fly/config.yml .netlify/x",
    "cloud-credentials": "application_default_credentials.json my-service-account.json x-service-account-1.json "
    "service_account.json gcloud-key.json credentials.json client_secret_1.json firebase-adminsdk-1.json "
    "app-firebase-adminsdk-1.json .boto .s3cfg .cf/config.json .vault-token .terraformrc terraform.rc .vault_pass.txt",
    "kubeconfig": "kubeconfig kubeconfig.yaml kubeconfig-prod prod.kubeconfig",
    "terraform": "terraform.tfstate terraform.tfstate.backup prod.tfvars prod.auto.tfvars.json",
    "docker-credentials": ".docker/config.json .dockercfg",
    "git-credentials": ".git-credentials .config/hub .config/gh/hosts.yml",
    "package-credentials": ".npmrc .pypirc .gem/credentials .cargo/credentials .cargo/credentials.toml "
    ".m2/settings.xml auth.json",
    "login": ".netrc _netrc .pgpass .my.cnf .mylogin.cnf .htpasswd .ftpconfig sftp-config.json filezilla.xml "
    "recentservers.xml .dbeaver-data-sources-1.xml .remote-sync.json",
    "secrets-file": "secrets.yml secrets.yaml secrets.json secrets.toml a.secret a.secrets secret_token.rb",
    "home-directory": ".ssh/ .ssh/known_hosts .gnupg/x .password-store/x",
    "history": ".bash_history .zsh_history .psql_history .lesshst .viminfo",
    "dump": "java.hprof crash.dmp core.app.1000.zst",
    "capture": "a.pcap a.pcapng a.pcap.gz",
    "core-dump": "core core.1234 app.core",
    "git": ".git .git/config sub/.git",
    "git-copy": ".git.bak/config .git~",
}
COPIES = (
    "{}~ {}.~1~ {}.bak {}.bak2 {}.backup {}.old {}.orig {}.save {}.swp {}.swo {}.1 {}.copy {}.tmp "
    "{}.bak.old~ #{}# .#{} ._{} {}_bak {}-old {}.bk {}.new "
    "{}.20240131 {}-2024-01-31 {}.dpkg-old {}.rpmsave {}.gz {}.zip"
).split() + ["{} copy", "{} (1)", "{} (copy)", "{}(2)", "copy of {}", "{} ", "{}."]
VISIBLE = (
    ".env.example .env.sample .env.template .env.dist .env.defaults .env.schema .env.production.example .env.example~ "
    ".envrc.example env environment.py .environment env.sh id_rsa.pub known_hosts rsa.py my_rsa.py keys.py keyboard.js "
    "monkey.py .yarnrc.yml pip.conf nuget.config gradle.properties wp-config.php LocalSettings.php database.yml "
    "app.sqlite core.py core.ts src/core/x core-js kubeconfig.go kubeconfig_test.go kubeconfig.example pcap.py "
    "a.pcap.py variables.tf prod.tfvars.example config.json docker/config.json settings.xml credentials.py "
    "service.json .gitignore .gitattributes .gitmodules .github/workflows/x.yml .dockerignore .aws-sam/x .config/x "
    "history.md bash_history secrets.py secret.txt authors.json npmrc package.json .npmignore .kubernetes/x .sshd "
    "deploy_rsa/readme keystore.py docs/core/index.md x.env.md .overlaywsignore"
).split()


def hidden_by(path: str) -> str | None:
    verdict = RULES.hidden_path(path.rstrip("/"), path.endswith("/"))
    assert verdict.rule is None or verdict.hidden
    return verdict.rule.pattern if verdict.rule else None


@pytest.mark.parametrize("rule", HIDDEN)
def test_names_of_a_rule_are_hidden_at_any_depth_and_in_any_case(rule: str) -> None:
    for path in HIDDEN[rule].split():
        assert hidden_by(path) == rule, path
        assert hidden_by(f"a/b c/{path}") == rule, path
        assert hidden_by(path.upper()) == rule, path
        assert hidden_by(f"A/{path.title()}") == rule, path


def test_each_rule_is_in_the_table() -> None:
    assert {"git"} | {secret.id for secret in SECRETS} == set(HIDDEN)


@pytest.mark.parametrize("copy", COPIES)
def test_copies_count_as_the_file(copy: str) -> None:
    for name in (".env", "id_rsa", ".npmrc", ".netrc", "a.p12", "credentials.json", ".pypirc"):
        assert hidden_by(copy.format(name)), copy.format(name)
        assert hidden_by(copy.format(name).upper()), copy.format(name)


def test_the_swap_file_of_vim() -> None:
    assert hidden_by(".id_rsa.swp") == "ssh-key"
    assert hidden_by(".env.swp") == "env"
    assert hidden_by(".id_rsa.un~") == "ssh-key"
    assert hidden_by(".credentials.json.swp") == "cloud-credentials"


@pytest.mark.parametrize("path", VISIBLE)
def test_stays_visible(path: str) -> None:
    assert hidden_by(path) is None


def test_names_are_compared_folded_and_composed() -> None:
    assert hidden_by(".\u017fsh/x") == "home-directory"  # a long s
    assert hidden_by(".\u212aube/config") == "cloud-directory"  # the Kelvin sign
    assert hidden_by("e\u0301.env") == hidden_by("\u00e9.ENV") == "env"
    assert hidden_by("\udcff.env") == "env"


def test_a_directory_is_hidden_where_the_name_says_a_directory() -> None:
    assert hidden_by(".env/") == "env"
    assert hidden_by("server.pem/") is None
    assert hidden_by("id_rsa/") is None


def test_names_without_end_are_no_work_without_end() -> None:
    assert len(copied_names(".bak" * 60)) <= 61
    assert hidden_by(".env" + ".bak" * 60) == "env"


def test_content_decides_and_what_cannot_be_read_is_hidden() -> None:
    def broken(limit: int) -> bytes:
        raise PermissionError

    assert not RULES.hidden_path("ca.pem", False, lambda limit: b"").hidden
    assert RULES.hidden_path("ca.pem", False, broken).hidden
    assert RULES.hidden_path("ca.pem", False, None).hidden
    assert RULES.hidden_path("ca.pem.bak", False, lambda limit: b"-----BEGIN RSA PRIVATE KEY-----").hidden


def test_only_names_that_need_it_are_read() -> None:
    def unwanted(limit: int) -> bytes:
        raise AssertionError

    for path in ("a.py", ".env", "x.p12", "README.md"):
        RULES.hidden_path(path, False, unwanted)


def test_whatever_a_rule_hides_by_its_name_is_asked_for() -> None:
    """``suspicious`` looks at all names of a folder at once; what it leaves out nobody looks at."""
    names = [
        name.replace("*", "x").replace("[0-9]", "7").rpartition("/")[2] for s in SECRETS for name in s.names.split()
    ]
    for name in names:
        for variant in (name, name.upper(), f"{name}~", f".{name}.swp", f"Copy of {name}", f"{name} (1)"):
            assert suspicious(["ordinary.py", variant, "other.txt"]) == [variant]
    assert suspicious(["ordinary.py", "other.txt"]) == []


@pytest.mark.parametrize("around", ["{}", "x{}y", "a.b.{}", "..{}.", "{}.txt", "é{}"])
def test_a_name_with_what_every_match_of_a_rule_holds_is_asked_for(around: str) -> None:
    for core in _CORES:
        for name in (around.format(core), around.format(core.upper())):
            assert suspicious(["a.py", name, "Makefile"]) == [name]
