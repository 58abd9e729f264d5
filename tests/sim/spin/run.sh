#!/usr/bin/env bash
# Checks handshake.pml with spin (Debian: apt-get install spin gcc): safety, liveness, and that each mutation is refuted.
# A long job, not part of CI.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"

check() { # name, expected errors (0 or some), pan options, spin defines...
  local name="$1" expected="$2" options="$3"
  shift 3
  spin "$@" -a "$here/handshake.pml" >/dev/null
  gcc -O2 -w -DVECTORSZ=2048 $([[ "$options" == *-a* ]] && echo -DNFAIR=3 || echo -DSAFETY -DNOCLAIM) -o pan pan.c
  ./pan $options -m1000000 >out.txt 2>&1 || true
  local errors states
  errors="$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' out.txt | tail -n 1)"
  states="$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' out.txt | tail -n 1)"
  printf '%-28s %10s states  errors: %s\n' "$name" "$states" "$errors"
  if grep -q 'search depth too small\|out of memory' out.txt; then echo "incomplete search"; exit 1; fi
  if [ "$expected" = 0 ]; then [ "$errors" = 0 ]; else [ "$errors" != 0 ]; fi
}

check "safety" 0 ""
check "liveness (weak fairness)" 0 "-a -f"
for mutation in NO_DEAD_FIRST NO_WAIT FIRST_ANSWER TIMEOUT_FREES NO_GENERATION; do
  check "$mutation" some "" "-D$mutation"
done
check "NO_RESEND (liveness)" some "-a -f" "-DNO_RESEND"
echo "all as expected"
