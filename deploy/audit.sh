#!/usr/bin/env bash
# What an installation of the guard consists of, as a CycloneDX SBOM, and what is known to be wrong with it.
#   bash deploy/audit.sh [EXTRA] > sbom.json      EXTRA: otel (default), demo, or empty
# Known vulnerabilities come from the package index's own JSON; where that cannot be had, it says so and ends with 2.
set -euo pipefail
cd "$(dirname "$0")/.."

extra="${1-otel}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python="${PYTHON:-python3}"
"$python" -m venv "$work/app"
"$work/app/bin/pip" install -q --disable-pip-version-check -c .ci/constraints.txt ".${extra:+[$extra]}" >&2
"$python" -m venv "$work/tools"
"$work/tools/bin/pip" install -q --disable-pip-version-check pip-audit cyclonedx-bom >&2
"$work/app/bin/pip" uninstall -q -y pip setuptools >&2 || true
"$work/tools/bin/cyclonedx-py" environment "$work/app/bin/python"
if ! "$work/tools/bin/pip-audit" --path "$work/app"/lib/python3*/site-packages --progress-spinner off --skip-editable >&2; then
    status=$?
    printf 'audit.sh: pip-audit found something, or could not ask (above)\n' >&2
    exit $((status == 1 ? 1 : 2))
fi
