#!/usr/bin/env bash
# Starts the testnet of docker-compose.yml for real and hurts it: a stopped member, two stopped, the network taken from
# one and from two; each time it asks what an operator would. Takes about three minutes, and leaves nothing behind.
#
# Takes the static binary that the head of deploy/Dockerfile tells how to build, or the image that ALYS_IMAGE names.
set -euo pipefail
cd "$(dirname "$0")/.."

project=alys-check
binary=target/x86_64-unknown-linux-gnu/release/alys-node

skip() { echo "deploy/testnet.sh: skipped: $*"; exit 0; }
fail() { echo "deploy/testnet.sh: failed: $*" >&2; exit 1; }
say() { printf '%6.1f s  %s\n' "$(since "$began")" "$*"; }
now() { date +%s.%N; }
since() { python3 -c "import sys, time; print(time.time() - float(sys.argv[1]))" "$1"; }

docker info > /dev/null 2>&1 || skip "no container engine answers"
if docker compose version > /dev/null 2>&1; then
    compose() { docker compose -p "$project" "$@"; }
elif command -v docker-compose > /dev/null; then
    compose() { docker-compose -p "$project" "$@"; }
else
    skip "neither docker compose nor docker-compose is installed"
fi

if [ -z "${ALYS_IMAGE:-}" ]; then
    [ -x "$binary" ] || { echo "deploy/testnet.sh: no $binary; see the head of deploy/Dockerfile" >&2; exit 4; }
    export ALYS_IMAGE=alys-node:check
    docker build -q -f deploy/Dockerfile --target prebuilt -t "$ALYS_IMAGE" . > /dev/null 2> target/image.log \
        || { cat target/image.log; fail "the image can not be built"; }
fi

end() {
    status=$?
    if [ "$status" != 0 ]; then
        compose logs --tail 15 2> /dev/null || true
    fi
    compose kill > /dev/null 2>&1 || true
    compose down -v --remove-orphans > /dev/null 2>&1 || true
}
trap end EXIT

container() { compose ps -q "node-$1"; }
# ask N PATH KEY: a value of what member N answers, or nothing.
ask() {
    curl -s -m 2 "127.0.0.1:300$1$2" 2> /dev/null \
        | python3 -c "import json, sys; print(json.load(sys.stdin)[sys.argv[1]])" "$3" 2> /dev/null || true
}
height() { local found; found=$(ask "$1" /chain/head height); echo "${found:-0}"; }
# within SECONDS WHAT COMMAND…: waits until the command succeeds.
within() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || fail "not in time: $what"
        sleep 0.2
    done
}
healthy() { [ "$(docker inspect -f '{{.State.Health.Status}}' "$(container "$1")")" = healthy ]; }
all_healthy() { for n in 1 2 3 4; do healthy "$n" || return 1; done; }
reached() { for n in $1; do [ "$(height "$n")" -ge "$2" ] || return 1; done; }
gate() { [ "$(ask "$1" /federation/gate decision)" = "$2" ]; }
# blocks "MEMBERS" COUNT: these members make so many more blocks.
blocks() {
    local from; from=$(height "${1%% *}")
    within 30 "$2 more blocks on $1" reached "$1" $((from + $2))
}
# halted "MEMBERS": their gates are closed, they say why, and no block comes for six slots.
halted() {
    for n in $1; do within 10 "the gate of node-$n closes" gate "$n" closed; done
    local first=${1%% *} before
    before=$(height "$first")
    say "halted at height $before: $(ask "$first" /federation/gate reason)"
    sleep 12
    [ "$(height "$first")" = "$before" ] || fail "a block while the gate is closed"
}

began=$(now)
compose up -d --no-build > target/testnet.log 2>&1 || { cat target/testnet.log; fail "compose up"; }
within 60 "four members are ready" all_healthy
say "four containers are ready; image of $(docker image inspect -f '{{.Size}}' "$ALYS_IMAGE") bytes"
for n in 1 2 3 4; do
    found=$(docker inspect -f '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}' "$(container "$n")")
    [ "$found" = "65532:65532 true [ALL]" ] || fail "node-$n runs as: $found"
done
blocks "1 2 3 4" 3
say "four make blocks: height $(height 1)"
status=$(curl -s -m 2 -o /dev/null -w '%{http_code}' -H 'content-type: application/json' -d '{"payload":"c0ffee"}' 127.0.0.1:3001/transactions)
[ "$status" = 401 ] || fail "a transaction without the token: $status, expected 401"

compose stop node-4 > /dev/null 2>&1
blocks "1 2 3" 3
say "node-4 stopped: blocks go on, height $(height 1)"
stopping=$(now)
compose stop node-3 > /dev/null 2>&1
say "node-3 stopped too; as the third it refused SIGTERM, and was killed after $(printf '%.0f' "$(since "$stopping")") s"
halted "1 2"
said=$(docker exec "$(container 1)" /alys-node healthcheck --config /alys/node.toml 2>&1) && fail "node-1 is ready: $said"
say "its health check: $said"

returning=$(now)
compose start node-3 node-4 > /dev/null 2>&1
blocks "1 2 3 4" 3
say "both started: three blocks on all four $(printf '%.1f' "$(since "$returning")") s later"
within 30 "all are ready" all_healthy

network=${project}_federation
docker network disconnect "$network" "$(container 4)"
blocks "1 2 3" 3
say "node-4 cut off: blocks go on; it says: $(docker exec "$(container 4)" /alys-node healthcheck --config /alys/node.toml 2>&1 || true)"
docker network disconnect "$network" "$(container 3)"
halted "1 2"
healing=$(now)
docker network connect --ip 172.30.7.13 "$network" "$(container 3)"
docker network connect --ip 172.30.7.14 "$network" "$(container 4)"
blocks "1 2" 1
say "connected again: the next block $(printf '%.1f' "$(since "$healing")") s later"
blocks "1 2 3 4" 3
within 30 "all are ready" all_healthy

compose kill -s SIGKILL > /dev/null 2>&1
for n in 1 2 3 4; do
    said=$(compose run --rm --no-deps "node-$n" audit --config /alys/node.toml 2> /dev/null) || fail "node-$n: $said"
done
say "killed all at once; chains, logs and signatures agree: $said"

before=$(printf '%s' "$said" | sed 's/ blocks.*//')
compose up -d --no-build > target/testnet.log 2>&1 || { cat target/testnet.log; fail "compose up again"; }
within 60 "four members are ready again" all_healthy
compose logs init 2> /dev/null | grep -q "kept in /testnet" || fail "init did not keep what was there"
blocks "1 2 3 4" 1
[ "$(height 1)" -gt "$before" ] || fail "another chain: height $(height 1), expected more than $before"
say "up again on the same keys and chains: height $(height 1)"
echo "deploy/testnet.sh passed"
