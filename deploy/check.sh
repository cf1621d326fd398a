#!/usr/bin/env bash
# Proves what an operator looks at: rules, alerts, metrics and dashboards, against a real Prometheus that watches four
# real members being hurt. Takes about three minutes.
#
#   deploy/check.sh [DIRECTORY OF alys-node AND federation-sim]     default: target/release
#
# Needs prometheus and promtool: from PATH, else unpacked from Debian's package into target/tools, without being root.
set -euo pipefail
cd "$(dirname "$0")/.."

binaries=${1:-target/release}
tools=target/tools/prometheus

find_tool() {
    command -v "$1" || { [ -x "$tools/usr/bin/$1" ] && echo "$tools/usr/bin/$1"; } || true
}

if [ -z "$(find_tool prometheus)" ] || [ -z "$(find_tool promtool)" ]; then
    mkdir -p "$tools"
    # The lists of packages may be missing, or too old.
    (cd "$tools" && { apt-get download prometheus || { apt-get update && apt-get download prometheus; }; } \
        && dpkg -x prometheus_*.deb . && rm prometheus_*.deb) > "$tools/download.log" 2>&1 || true
fi
prometheus=$(find_tool prometheus)
promtool=$(find_tool promtool)
if [ -z "$prometheus" ] || [ -z "$promtool" ]; then
    echo "deploy/check.sh: skipped: neither in PATH nor as a Debian package is there a prometheus"
    exit 0
fi
for binary in alys-node federation-sim; do
    if [ ! -x "$binaries/$binary" ]; then
        echo "deploy/check.sh: no $binaries/$binary; expected cargo build --release -p alys-node -p federation-sim" >&2
        exit 4
    fi
done

"$promtool" check rules deploy/prometheus/rules/*.yml
"$promtool" test rules deploy/prometheus/tests/*.yml
# The configuration of the testnet, rules included.
"$promtool" check config deploy/prometheus/prometheus.yml
exec python3 deploy/check.py "$prometheus" "$promtool" "$binaries"
