# Sourced by the other scripts: makes .venv beside them and installs overlayws into it. Sets $VENV.
# Usage: . scripts/venv.sh [EXTRA]        (EXTRA: a group of optional dependencies, such as dev)

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${OVERLAYWS_VENV:-$top/.venv}

say() { printf '%s\n' "$*" >&2; }

# The distribution's Python first, if it can make a venv: it is built with profile-guided optimisation, which one of
# pyenv is not unless that was asked for, and a start takes a tenth to a quarter longer with that.
find_python() {
  local candidate
  for candidate in ${PYTHON:-} /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
    [ "$candidate" != /usr/bin/python3 ] || "$candidate" -c 'import ensurepip, venv' 2>/dev/null || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  say "error: no Python 3.11 or newer"
  say "hint: install python3 (Debian 12, Ubuntu 24.04 or newer have it), or set PYTHON"
  return 1
}

# Debian packages the standard library's venv on its own; without it there may still be a pip, virtualenv or uv.
make_venv() {
  local python=$1
  if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    "$python" -m venv "$VENV"
  elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    install_packages python3-venv && "$python" -m venv "$VENV"
  elif "$python" -m virtualenv --version >/dev/null 2>&1; then
    "$python" -m virtualenv --quiet "$VENV"
  elif command -v uv >/dev/null; then
    uv venv --quiet --seed --python "$python" "$VENV"
  elif "$python" -m pip --version >/dev/null 2>&1; then
    "$python" -m venv --without-pip "$VENV" && "$python" -m pip --quiet --python "$VENV/bin/python" install pip
  else
    say "error: $python has neither venv, virtualenv nor pip"
    say "hint: apt-get install python3-venv"
    return 1
  fi
}

install_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return
  say "installing Debian packages: ${missing[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 update >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
}

setup_venv() {
  local extra=${1:-} python stamp wanted
  wanted="$extra $(cksum <"$top/pyproject.toml") $top"
  stamp="$VENV/.overlayws-setup"
  if [ -x "$VENV/bin/overlayws" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    return
  fi
  python=$(find_python) || return 1
  if [ ! -x "$VENV/bin/python" ] || ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    say "setting up $VENV"
    rm -rf "$VENV"
    make_venv "$python" || return 1
  fi
  PIP_DISABLE_PIP_VERSION_CHECK=1 "$VENV/bin/python" -m pip install -qq --editable "$top${extra:+[$extra]}" || return 1
  # pip compiles what it copies, not what it links to; and where PYTHONDONTWRITEBYTECODE is set, no command would.
  "$VENV/bin/python" -m compileall -q "$top/overlayws" || say "overlayws stays without byte code: its commands are slower"
  printf '%s' "$wanted" >"$stamp"
}
