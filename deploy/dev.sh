#!/usr/bin/env bash
# From a fresh checkout to the demo or the tests in one command, on Debian or Ubuntu with Python 3.11 or later.
#   bash deploy/dev.sh demo [options of `guard demo`]
#   bash deploy/dev.sh vllm-demo [options of `guard demo`]    the same on a real vLLM, on the CPU (makes its environment)
#   bash deploy/dev.sh test [options of pytest]
#   bash deploy/dev.sh vllm-test [options of pytest]    on real vLLM, on the CPU; makes its environment (3.5 GB)
# The environment goes to .venv in the checkout; GUARD_PYTHON names an interpreter to use instead.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'dev.sh: %s\n' "$*" >&2; exit 2; }

find_python() {
  local name
  # Shims of pyenv for versions that are not chosen complain, and at length.
  for name in python3.13 python3.12 python3.11 python3; do
    if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s' "$name"
      return
    fi
  done
  fail "no Python 3.11 or later found; on Debian: apt-get install python3 python3-venv"
}

environment() { # $1: extra
  if [ -n "${GUARD_PYTHON:-}" ]; then
    python="$GUARD_PYTHON"
    return
  fi
  local base key
  base="$(find_python)"
  python=.venv/bin/python
  key="$1 $(cat pyproject.toml .ci/constraints.txt | cksum)"
  if [ -x "$python" ] && [ "$(cat .venv/.key 2>/dev/null)" = "$key" ]; then
    return
  fi
  if ! "$base" -c 'import ensurepip, venv' 2>/dev/null; then
    [ "$(id -u)" = 0 ] || fail "$base has no venv module; as root: apt-get install $base-venv"
    apt-get update -qq
    apt-get install -y -qq "$base-venv" >/dev/null || apt-get install -y -qq python3-venv >/dev/null
  fi
  echo "Making the environment in .venv ..." >&2
  "$base" -m venv .venv
  "$python" -m pip install -q --disable-pip-version-check -c .ci/constraints.txt -e ".[$1]"
  printf '%s' "$key" > .venv/.key
}

command="${1:-}"
[ $# -eq 0 ] || shift
case "$command" in
  demo)
    environment demo
    exec "$python" -m guard demo "$@"
    ;;
  test)
    bash deploy/servers.sh
    environment test
    exec "$python" -m pytest "$@"
    ;;
  vllm-demo)
    vllm_python="$(bash deploy/vllm_env.sh)"
    exec "$vllm_python" -m guard demo --backend vllm "$@"
    ;;
  vllm-test)
    vllm_python="$(bash deploy/vllm_env.sh)"
    exec "$vllm_python" -m pytest tests/vllm "$@"
    ;;
  *)
    fail "say what to do: demo, vllm-demo, test or vllm-test"
    ;;
esac
