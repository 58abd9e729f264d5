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
"$work/tools/bin/pip-audit" --path "$work/app"/lib/python3*/site-packages --progress-spinner off --format json \
    >"$work/audit.json" || [ -s "$work/audit.json" ] || exit 2
"$python" - "$work/audit.json" <<'PY' >&2
import json, sys

found = json.load(open(sys.argv[1]))["dependencies"]
bad = [(one["name"], one["version"], hole["id"]) for one in found for hole in one.get("vulns", ())]
unasked = [one["name"] for one in found if "skip_reason" in one and one["name"] != "specdec-guard"]
for name, version, hole in bad:
    print(f"audit.sh: {name} {version}: {hole}")
if unasked:
    print(f"audit.sh: nothing could be learned of {len(unasked)} packages: the package index does not tell of vulnerabilities")
print(f"audit.sh: {len(found) - len(unasked)} packages asked about, {len(bad)} known vulnerabilities")
sys.exit(1 if bad else 2 if unasked else 0)
PY
