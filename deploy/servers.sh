#!/usr/bin/env bash
# The servers that the tests run for real, from Debian's packages; installs those that are absent.
#   redis-server   shared state          nginx       in front of the guard
#   chromium       the dashboard         prometheus  rules and their tests (promtool)
#   systemd        its unit            gcc         the compiled build, with Python's headers
set -euo pipefail

missing=()
for pair in redis-server:redis-server nginx:nginx-light chromium:chromium promtool:prometheus systemd-analyze:systemd; do
  command -v "${pair%%:*}" >/dev/null || [ -x "/usr/sbin/${pair%%:*}" ] || missing+=("${pair##*:}")
done
command -v gcc >/dev/null || missing+=(gcc)
[ -f /usr/include/stdio.h ] || missing+=(libc6-dev)
include="$("${GUARD_PYTHON:-python3}" -c 'import sysconfig; print(sysconfig.get_path("include"))' 2>/dev/null || true)"
[ -f "$include/Python.h" ] || missing+=(python3-dev)
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  printf 'servers.sh: the tests need %s; as root on Debian or Ubuntu: apt-get install %s\n' "${missing[*]}" "${missing[*]}" >&2
  exit 2
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# The tests start their own; Debian's services stay off.
if [ ! -e /usr/sbin/policy-rc.d ]; then
  printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
  chmod +x /usr/sbin/policy-rc.d
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
