"""The built-in secret rules: names that are hidden from the program at any depth, whoever wrote what elsewhere.

Names are compared case-folded and in Unicode NFC; the copies that editors, shells and people make of a file
(``.env~``, ``#.env#``, ``.id_rsa.swp``, ``Copy of .npmrc``) count as the file. Where a name only says that a file
may hold a secret, its content decides (``keyfile.py``).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from typing import Self

from overlayws.filter import keyfile
from overlayws.filter.automaton import Automaton, State
from overlayws.filter.ignorefile import Rule
from overlayws.filter.keyfile import Read
from overlayws.filter.pattern import compile_pattern

BUILT_IN = "built-in"  # the ``file`` of a rule made here

EXAMPLES = frozenset(("example", "sample", "template", "dist", "defaults", "schema"))
# Programs and texts about secrets: kubeconfig.go, pcap.py. Only rules whose names end in a '*' need it.
SOURCES = frozenset(
    "adoc c cc cpp cs css cxx go h hpp htm html java js jsx kt lua md mjs pl php py pyi rb rs rst scala sh swift ts "
    "tsx txt vue".split()
)


@dataclass(frozen=True, slots=True)
class Secret:
    """One rule: names as Docker patterns in lower case, each at any depth.

    ``files`` rules do not concern directories. ``decide`` reads the file and says True for a secret.
    Names with one of the ``spared`` extensions stay visible.
    """

    id: str
    names: str
    files: bool = False
    decide: Callable[[Read], bool] | None = None
    spared: frozenset[str] = frozenset()


SECRETS = (
    Secret("git-copy", ".git"),
    Secret("env", ".env .env.* .env-* .env_* *.env .envs .envrc .envrc.* .flaskenv .flaskenv.*", spared=EXAMPLES),
    Secret(
        "ssh-key",
        "id_rsa id_dsa id_ecdsa id_ecdsa_sk id_ed25519 id_ed25519_sk id_xmss "
        "*_rsa *_dsa *_ecdsa *_ecdsa_sk *_ed25519 *_ed25519_sk",
        files=True,
    ),
    Secret(
        "key-file",
        "*.ppk *.p8 *.p12 *.pfx *.pkcs12 *.jks *.keystore *.bks *.kdb *.kdbx *.psafe3 secring.* *.ovpn "
        "*.mobileprovision master.key credentials/*.key .chef/*.pem",
        files=True,
    ),
    Secret("keychain", "*.agilekeychain *.keychain* private-keys-v1.d", spared=SOURCES),
    Secret("key-content", "*.pem *.key", files=True, decide=keyfile.unless_public),
    Secret("certificate", "*.crt *.cer *.cert *.der *.asc *.age", files=True, decide=keyfile.if_private),
    Secret("keyring", "*.gpg *.pgp", files=True, decide=keyfile.unless_public_keyring),
    Secret("cloud-directory", ".aws .azure .config/gcloud .oci .kube .terraform.d .pulumi .fly .netlify"),
    Secret(
        "cloud-credentials",
        "application_default_credentials.json *-service-account*.json service_account*.json service-account*.json "
        "gcloud*.json credentials.json client_secret*.json *firebase-adminsdk*.json .boto .s3cfg .cf/config.json "
        ".vault-token .terraformrc terraform.rc .vault_pass* .vault-pass*",
        files=True,
    ),
    Secret("kubeconfig", "kubeconfig* *.kubeconfig", files=True, spared=SOURCES | EXAMPLES),
    Secret("terraform", "*.tfstate* *.tfvars*", files=True, spared=SOURCES | EXAMPLES),
    Secret("docker-credentials", ".docker/config.json .dockercfg .dockerconfigjson", files=True),
    Secret("git-credentials", ".git-credentials .config/git/credentials .config/hub .config/gh/hosts.yml", files=True),
    Secret(
        "package-credentials",
        ".npmrc .pypirc .gem/credentials .cargo/credentials* .m2/settings.xml .m2/settings-security.xml auth.json",
        files=True,
    ),
    Secret(
        "login",
        ".netrc _netrc .pgpass pgpass.conf .my.cnf .mylogin.cnf .htpasswd .ftpconfig sftp-config.json filezilla.xml "
        "recentservers.xml .dbeaver-data-sources*.xml .remote-sync.json",
        files=True,
    ),
    Secret(
        "secrets-file",
        "secrets.y*ml secrets.json secrets.toml *.secret *.secrets secret_token.rb",
        files=True,
    ),
    Secret("home-directory", ".ssh .gnupg .password-store"),
    Secret("history", ".*_history .lesshst .viminfo", files=True),
    Secret("dump", "*.hprof *.dmp core.*.zst core.*.lz4 core.*.xz", files=True),
    Secret("capture", "*.pcap*", files=True, spared=SOURCES),
    Secret("core-dump", "core core.[0-9]* *.core", files=True, decide=keyfile.if_core_dump),
)

GIT = Rule("git", False, BUILT_IN, 0)  # nothing re-opens it: the program gets a repository of its own
_GIT_NAMES = frozenset((".git", "git~1"))  # the second is the first on FAT and NTFS

_COPY_WORDS = (
    "bak backup bk bkp back old orig original save saved sav copy prev previous tmp new disabled "
    "dpkg rpmsave rpmnew rpmorig gz bz2 xz zst zip"
).split()
_COPY_TAIL = re.compile(
    rf"(?:~|\.~\d+~|[._-](?:{'|'.join(_COPY_WORDS)})\d*|\.\d{{1,3}}"
    r"|[._-]\d{4}[._-]?\d\d[._-]?\d\d(?:[-_T]?\d{4,6})?"  # a date
    r"| ?\(\d+\)| ?\(copy\)|(?: -)? copy(?: \d+)?| [-–] kopie(?: \(\d+\))?|\s|(?<=.)\.)\Z"
)
_COPY_HEAD = re.compile(r"\A(?:\.#|\._|#|copy of |kopie von )")
_SWAP = re.compile(r"\.(?:sw[a-p]|un~)\Z")
# What the name of a copy ends with at least: most names end otherwise, and need none of the above.
_ENDS = (*_COPY_WORDS, "kopie", *"~#). 0123456789", *(f".sw{c}" for c in "abcdefghijklmnop"))


class SecretNames:
    """The built-in rules, matched with a state per folder (see ``automaton.py``)."""

    def __init__(self) -> None:
        patterns = [(secret, compile_pattern("**/" + name)) for secret in SECRETS for name in secret.names.split()]
        self._secrets = [secret for secret, _ in patterns]
        self._rules = {secret.id: Rule(secret.id, False, BUILT_IN, 0) for secret in SECRETS}
        self._automaton = Automaton(branches for _, branches in patterns)
        self.top: State = self._automaton.start

    def begin(self) -> Self:
        """Count the work of another session from here on; itself."""
        self._automaton.work = 0
        return self

    def below(self, folder: State, name: str) -> State:
        """The state for what is in the folder ``name`` of ``folder``."""
        return folder.after(_folded(name))["/"]

    def find(self, folder: State, name: str, directory: bool, read: Read | None = None) -> Rule | None:
        """The rule that hides ``name`` in ``folder``, or None.

        Where the content decides and there is no ``read``, or it raises OSError, the name is hidden.
        """
        folded = _folded(name)
        if folded in _GIT_NAMES:
            return GIT
        matched = folder.after(folded).hits
        names = copied_names(folded)
        if not matched and len(names) == 1:  # nearly always
            return None
        hits = set(matched).union(*(folder.after(name).hits for name in names[1:]))
        if not hits:
            return None
        extensions = {candidate.rpartition(".")[2] for candidate in names}
        found = []
        for number in sorted(hits):
            secret = self._secrets[number]
            if (directory and secret.files) or extensions & secret.spared:
                continue
            if secret.decide is None:
                return self._rules[secret.id]
            found.append(secret)
        for secret in found:
            if _decided(secret, read):
                return self._rules[secret.id]
        return None

    def named(self, pattern: str) -> Rule | None:
        """The rule whose names an ignore pattern spells (``**/.env``, ``*.pem``), or None."""
        folder = self.top
        for component in pattern.split("/"):
            if _folded(component) in _GIT_NAMES:
                return GIT
            if rule := self.find(folder, component, directory=False) or self.find(folder, component, directory=True):
                return rule
            folder = self.below(folder, component)
        return None


@cache
def secret_names() -> SecretNames:
    """The built-in rules, laid out once in a process: that takes longer than to walk some hundred folders."""
    return SecretNames()


def _core(name: str) -> str:
    """The longest text that every file name which the pattern ``name`` matches has in it."""
    last = name.rpartition("/")[2]
    return max(re.split(r"\*|\[[^]]*\]", last), key=len)


def _shortest(cores: Collection[str]) -> tuple[str, ...]:
    """Those of ``cores`` that no other one is part of: a name that holds one of ``cores`` holds one of them."""
    return tuple(core for core in cores if not any(other != core and other in core for other in cores))


# A copy's name has the name of what it is a copy of in it, so this holds for copies too.
_CORES = _shortest({_core(name) for secret in SECRETS for name in secret.names.split()} | _GIT_NAMES)


def _after_dot(core: str) -> str:
    return core.partition(".")[2][:2]


# Most cores have a dot in them, and the names of a folder only a few kinds of endings: two letters after a dot that no
# name has need not be looked for.
_DOTTED = {two: tuple(core for core in _CORES if _after_dot(core) == two) for two in set(map(_after_dot, _CORES))}
_UNDOTTED = tuple(core for two in list(_DOTTED) if len(two) < 2 for core in _DOTTED.pop(two))


def suspicious(names: Collection[str]) -> list[str]:
    """Those of ``names``, all in one folder, that a built-in rule may hide: no other one can be hidden by its name.

    One search of all names together costs a tenth of asking ``find`` for each.
    """
    joined = "\0".join(names)
    if not joined.isascii():
        ordinary = [name for name in names if not name.isascii()]
        return [*ordinary, *suspicious([name for name in names if name.isascii()])]
    joined = joined.lower()
    endings = {part[:2] for part in joined.split(".")}
    cores = [core for core in _UNDOTTED if core in joined]
    cores += [core for two in endings if two in _DOTTED for core in _DOTTED[two] if core in joined]
    if not cores:
        return []
    return [name for name in names if any(core in name.lower() for core in cores)]


@cache
def fixed_names() -> tuple[str, ...]:
    """The names of the built-in rules that have no wildcard and are secret whatever is in the file."""
    names = [name for secret in SECRETS if secret.decide is None for name in secret.names.split()]
    return tuple(name for name in names if not set("*[/").intersection(name))


def copied_names(name: str) -> list[str]:
    """A folded name, then the names that it may be a copy of."""
    names = [name]
    if not (name.endswith(_ENDS) or name[-1:].isspace() or _COPY_HEAD.match(name)):
        return names
    while True:
        name = names[-1]
        if swap := _SWAP.search(name):
            name = name[: swap.start()]
            names.append(name.removeprefix("."))  # vim puts a dot before the name if it has none
        else:
            name = _COPY_HEAD.sub("", name)
            if name != names[-1]:
                name = name.removesuffix("#")
            name = _COPY_TAIL.sub("", name)
        if not name or name == names[-1]:
            return names
        names.append(name)


def is_git(name: str) -> bool:
    """Whether the name is that of a repository, on any file system."""
    return _folded(name) in _GIT_NAMES


def _folded(name: str) -> str:
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _decided(secret: Secret, read: Read | None) -> bool:
    assert secret.decide is not None
    if read is None:
        return True
    try:
        return secret.decide(read)
    except OSError:
        return True
