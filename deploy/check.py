"""What deploy/check.sh runs once it has found its tools.

Starts Prometheus beside the scenario check.toml and asks it, as Grafana would: does every panel's query return data,
do the alerts fire when they should and resolve after, is every member's /metrics in good form?
"""

import glob
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
RULES = os.path.join(HERE, "prometheus", "rules", "*.yml")
# What the story of check.toml must make fire.
EXPECTED = ["AlysQuorumLost", "AlysMemberHalted", "AlysFailurePattern"]
# The longest from a closed gate, or an open one, to Prometheus' word: scrape, evaluation, `for`, and some room.
ALARM_MAX = 12.0
STORY_MAX = 300.0


def get(url, timeout=5):
    # Loopback only: no proxy has a say.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=timeout) as answer:
        return answer.read()


def ask(base, path, **query):
    answer = json.loads(get(f"{base}/api/v1/{path}?{urllib.parse.urlencode(query)}", 10))
    if answer["status"] != "success":
        raise SystemExit(f"prometheus: {answer}")
    return answer["data"]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def panels():
    for path in sorted(glob.glob(os.path.join(HERE, "grafana", "dashboards", "*.json"))):
        with open(path) as file:
            board = json.load(file)
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                yield f'{board["title"]} / {panel["title"]}', target["expr"]


def wait_for(what, seconds, look):
    until = time.time() + seconds
    while time.time() < until:
        found = look()
        if found:
            return found
        time.sleep(0.2)
    raise SystemExit(f"not within {seconds:.0f} s: {what}")


def addresses(directory):
    """Where the members' ops APIs answer, as their configurations say; empty until all are written."""
    found = {}
    for path in glob.glob(os.path.join(directory, "node-*", "node.toml")):
        with open(path) as file:
            match = re.search(r'\[ops\]\s+address = "([^"]+)"', file.read())
        if match:
            found[os.path.basename(os.path.dirname(path))] = match.group(1)
    return dict(sorted(found.items())) if len(found) == 4 else {}


def closed_gates(members):
    """For each member that answers, whether its gate is closed."""
    closed = {}
    for name, address in members.items():
        try:
            closed[name] = json.loads(get(f"http://{address}/federation/gate", 1))["decision"] == "closed"
        except OSError:
            pass
    return closed


class Watch:
    """When the last open gate closed and the first opened again, and when which alert began and ended to fire."""

    def __init__(self, base, members):
        self.base, self.members = base, members
        self.halts, self.fired, self.resolved, self.of = [], {}, {}, {}
        self.firing, self.worked = set(), False

    def look(self):
        now = time.time()
        gates = closed_gates(self.members)
        halted = bool(gates) and all(gates.values())
        self.worked |= bool(gates) and not any(gates.values())
        if self.worked and halted and (not self.halts or self.halts[-1][1]):
            self.halts.append([now, None])
        elif self.halts and not halted and not self.halts[-1][1]:
            self.halts[-1][1] = now
        alerts = [a["labels"] for a in ask(self.base, "alerts")["alerts"] if a["state"] == "firing"]
        firing = {labels["alertname"] for labels in alerts}
        for labels in alerts:
            of = labels.get("node") or labels.get("instance")
            self.of.setdefault(labels["alertname"], set()).update([of] if of else [])
        # Before the federation has begun it may be told that there are no blocks.
        if self.worked:
            for name in firing - self.firing:
                self.fired.setdefault(name, now)
            for name in self.firing - firing:
                self.resolved[name] = now
            self.firing = firing


def main(prometheus, promtool, binaries):
    started = []
    with tempfile.TemporaryDirectory(prefix="alys-check-") as work:
        try:
            run(prometheus, promtool, os.path.abspath(binaries), work, started)
        finally:
            for process in reversed(started):
                process.send_signal(signal.SIGINT)
            for process in reversed(started):
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()


def run(prometheus, promtool, binaries, work, started):
    directory = os.path.join(work, "federation")
    story_log = open(os.path.join(work, "story.log"), "w+")
    story = [os.path.join(binaries, "federation-sim"), "run", os.path.join(HERE, "check.toml")]
    story += ["--node-binary", os.path.join(binaries, "alys-node"), "--dir", directory, "--keep-running"]
    sim = subprocess.Popen(story, stdout=story_log, stderr=subprocess.STDOUT)
    started.append(sim)

    def story_text():
        story_log.flush()
        with open(story_log.name) as file:
            return file.read()

    members = wait_for("configurations of four members", 60, lambda: addresses(directory))
    config = os.path.join(work, "prometheus.yml")
    with open(config, "w") as file:
        targets = ", ".join(f'"{address}"' for address in members.values())
        file.write(
            "global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }\n"
            f'rule_files: ["{RULES}"]\n'
            f"scrape_configs: [ {{ job_name: alys, static_configs: [ {{ targets: [{targets}] }} ] }} ]\n"
        )
    port = free_port()
    command = [prometheus, f"--config.file={config}", f"--storage.tsdb.path={work}/data"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    log = open(os.path.join(work, "prometheus.log"), "w")
    server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    started.append(server)
    base = f"http://127.0.0.1:{port}"

    def is_ready():
        try:
            return get(f"{base}/-/ready", 1)
        except OSError:
            return None

    wait_for("prometheus", 30, is_ready)
    began = time.time()
    watch = Watch(base, members)
    while "goes on until" not in story_text():
        if sim.poll() is not None or time.time() > began + STORY_MAX:
            raise SystemExit(f"the story did not end well:\n{story_text()}")
        watch.look()
        time.sleep(0.2)
    if " failed" in story_text():
        raise SystemExit(f"the story failed:\n{story_text()}")

    failures = []
    for address in members.values():
        text = get(f"http://{address}/metrics")
        lint = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True)
        said = (lint.stdout + lint.stderr).decode().strip()
        if lint.returncode or said:
            failures.append(f"promtool check metrics: {address}: {said}")
    begin = time.perf_counter()
    scrapes = 20
    for _ in range(scrapes):
        get(f"http://{next(iter(members.values()))}/metrics")
    scrape_ms = (time.perf_counter() - begin) / scrapes * 1000
    samples = sum(1 for line in text.decode().splitlines() if not line.startswith("#"))
    print(f"metrics: {len(members)} members clean; {samples} samples, {len(text)} bytes, {scrape_ms:.1f} ms a scrape")

    document = get(f"http://{next(iter(members.values()))}/openapi.json")
    try:
        from openapi_spec_validator import validate
    except ImportError:
        print("openapi.json: not validated, for there is no openapi-spec-validator (Python)")
    else:
        try:
            validate(json.loads(document))
            print(f"openapi.json: valid, {len(json.loads(document)['paths'])} paths")
        except Exception as error:
            failures.append(f"openapi.json: {error}")

    shown = empty = 0
    for panel, expression in panels():
        query = {"query": expression, "start": began, "end": time.time(), "step": 2}
        series = ask(base, "query_range", **query)["result"]
        values = sum(1 for one in series for _, value in one["values"] if not math.isnan(float(value)))
        shown += 1
        if not values:
            empty += 1
            failures.append(f"{panel}: no data for {expression}")
    print(f"panels: {shown} queries, {shown - empty} with data")

    for name in EXPECTED:
        if name not in watch.fired:
            failures.append(f"{name} did not fire")
    # A halt that was looked at at all lasts long enough to be told of.
    if len(watch.halts) != 1 or not watch.halts[0][1]:
        failures.append(f"the story has one halt and one return; seen: {watch.halts}")
    elif "AlysQuorumLost" in watch.fired:
        closed, opened = watch.halts[0]
        if "AlysQuorumLost" not in watch.resolved:
            wait_for("AlysQuorumLost resolves", ALARM_MAX, lambda: watch.look() or "AlysQuorumLost" in watch.resolved)
        to_fire = watch.fired["AlysQuorumLost"] - closed
        to_resolve = watch.resolved["AlysQuorumLost"] - opened
        print(f"AlysQuorumLost: fired {to_fire:.1f} s after the last gate closed, for {opened - closed:.1f} s;"
              f" resolved {to_resolve:.1f} s after one opened")
        for what, took in [("fire", to_fire), ("resolve", to_resolve)]:
            if not -1.0 <= took <= ALARM_MAX:
                failures.append(f"AlysQuorumLost took {took:.1f} s to {what}; expected at most {ALARM_MAX} s")
    told = (f"{name} ({', '.join(sorted(watch.of[name]))})" if watch.of[name] else name for name in sorted(watch.fired))
    print("fired: " + ", ".join(told))
    up = ask(base, "query", query='count_over_time(up{job="alys"}[10m])')["result"]
    print(f"scraped: {sum(int(one['value'][1]) for one in up)} times, by {len(up)} targets")
    missing = {name for name in command_names(directory=os.path.join(HERE, "..", "docs"))
               if subprocess.run([os.path.join(binaries, "alys-node"), *name.split(), "--help"],
                                 capture_output=True).returncode}
    failures += [f"the documents name a command that does not exist: alys-node {name}" for name in sorted(missing)]
    if failures:
        raise SystemExit("\n".join(failures) + f"\n{len(failures)} failed")
    print("deploy/check.sh passed")


def command_names(directory):
    """Commands of alys-node that the documents' code lines begin with."""
    names = set()
    for path in glob.glob(os.path.join(directory, "**", "*.md"), recursive=True):
        with open(path) as file:
            for match in re.finditer(r"(?:^    |`)alys-node ((?:[a-z][a-z-]* ?)+)", file.read(), re.M):
                names.add(match.group(1).strip())
    return names


if __name__ == "__main__":
    main(*sys.argv[1:])
