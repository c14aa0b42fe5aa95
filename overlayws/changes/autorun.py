"""Files that tools run or obey on their own: a reviewer must know when one of them changes.

By name and place only, at any depth, in any case. The list is wide on purpose: the flag asks for a look, it
forbids nothing.
"""

from __future__ import annotations

import re
import sys
from functools import lru_cache

_NAMES = frozenset(
    """
    .gitmodules .gitattributes .gitconfig .lfsconfig hgrc
    .bashrc .bash_profile .bash_login .bash_logout .zshrc .zprofile .zshenv .zlogin .zlogout .profile .kshrc
    .inputrc .bash_logout config.fish .xonshrc .envrc .tool-versions mise.toml .mise.toml .nvmrc .node-version
    .python-version .ruby-version
    .ripgreprc .curlrc .wgetrc .netrc .tmux.conf .screenrc
    .vimrc .exrc .nvimrc .nvim.lua .dir-locals.el .gdbinit .lldbinit .emacs
    claude.md agents.md agent.md gemini.md qwen.md .claude.json .mcp.json mcp.json opencode.json .goosehints
    .roomodes .rules .cursorrules .windsurfrules .clinerules
    .gitlab-ci.yml .gitlab-ci.yaml jenkinsfile azure-pipelines.yml azure-pipelines.yaml .drone.yml .travis.yml
    bitbucket-pipelines.yml codeowners renovate.json renovate.json5 .pre-commit-config.yaml .pre-commit-hooks.yaml
    action.yml action.yaml earthfile .goreleaser.yml .goreleaser.yaml .releaserc ansible.cfg nodemon.json
    lefthook.yml lefthook.yaml .lefthook.yml appveyor.yml .appveyor.yml cloudbuild.yaml
    makefile gnumakefile cmakelists.txt configure configure.ac meson.build build sconstruct wscript
    package.json package-lock.json npm-shrinkwrap.json yarn.lock pnpm-lock.yaml bun.lock bun.lockb .npmrc .pnpmfile.cjs
    .pnp.cjs .pnp.loader.mjs .overlaywsignore overlayws.toml
    pnpm-workspace.yaml bunfig.toml deno.json deno.jsonc lerna.json nx.json turbo.json
    setup.py setup.cfg pyproject.toml tox.ini noxfile.py conftest.py pytest.ini sitecustomize.py usercustomize.py
    pip.conf .pypirc .pylintrc poetry.lock pdm.lock uv.lock pipfile pipfile.lock pyvenv.cfg tasks.py fabfile.py
    cargo.toml cargo.lock build.rs rust-toolchain rust-toolchain.toml
    gradlew gradlew.bat gradle.properties mvnw mvnw.cmd pom.xml nuget.config global.json packages.config
    gemfile gemfile.lock rakefile .rspec .irbrc .pryrc composer.json composer.lock mix.exs rebar.config
    go.mod go.sum go.work build.sbt build.xml flake.nix shell.nix default.nix
    vagrantfile tiltfile justfile .justfile procfile .terraformrc .rprofile .renviron
    """.split()
)
_DIRECTORIES = frozenset(
    """
    .hg .jj .svn .vscode .idea .zed .fleet .devcontainer .claude .cursor .codex .gemini .continue .kiro
    .windsurf .clinerules .roo .opencode
    .amazonq .junie .trae .augment .aider .mcp
    .circleci .buildkite .gitlab .teamcity .semaphore .azure-pipelines .azuredevops .husky .githooks .cargo .mvn
    .yarn .woodpecker .forgejo .gitea
    node_modules .venv venv vendor target __pycache__ site-packages
    """.split()
)
_PLACES = frozenset(
    [*((".github", name) for name in "workflows actions instructions prompts chatmodes agents".split()),
     ("gradle", "wrapper"), (".git", "hooks")]
)  # fmt: skip
_SUFFIXES = frozenset(
    """
    .mk .code-workspace .sublime-project .pth .pyc .tf .desktop .service .so .dylib .dll .gradle .csproj .vcxproj .sln
    .targets .props .dockerfile
    """.split()
)
_PATTERNS = re.compile(
    r"""(?x)
      .*\.so\.[0-9.]+ | .*\.gradle\.kts | .*\.config\.[cm]?[jt]s
    | dockerfile.* | containerfile.* | (?:docker-)?compose.*\.ya?ml | taskfile\.ya?ml | \.yarnrc.*
    | \.eslintrc.* | \.prettierrc.* | \.lintstagedrc.* | \.babelrc.* | \.mocharc.* | \.aider.*
    | (?:gulp|grunt)file\..* | requirements.*\.txt | directory\.build\..*
    """
)
_GITHUB = frozenset({"copilot-instructions.md", "dependabot.yml", "dependabot.yaml"})


def is_run_on_its_own(path: str) -> bool:
    """Whether tools run or obey a file at ``path`` without being told to."""
    parent, _, name = path.rpartition("/")
    name = name.casefold()
    if name in _NAMES or name[name.rfind(".") :] in _SUFFIXES or _is_obeyed(parent):
        return True
    if name in _GITHUB and parent.casefold().rpartition("/")[2] == ".github":
        return True
    if name.endswith(".py"):
        # `python -c "import json"` in the workspace runs ./json.py, or ./json/__init__.py.
        module = name[:-3] if not parent else parent if name == "__init__.py" else ""
        return module in sys.stdlib_module_names
    return _PATTERNS.fullmatch(name) is not None


@lru_cache(maxsize=64)  # directories come sorted, and may have very long names
def _is_obeyed(directory: str) -> bool:
    components = directory.casefold().split("/")
    if not _DIRECTORIES.isdisjoint(components):
        return True
    return not _PLACES.isdisjoint(zip(components, components[1:], strict=False))
