"""/metrics, as Prometheus's own tools see it: promtool finds nothing to object to, and a real Prometheus scrapes it."""
import json
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse

from perdure_test import DEADLINE, main, request, running

RULES = {"backoff": "5ms", "ttft": "100ms", "ttft_adaptive": False, "hedge_budget": 1, "affinity": 0, "breaker_failures": 4, "breaker_hold": "100ms",
         "probe": "50ms", "attempts": 2}
EMBED = {"model": "main", "input": ["a", "b"]}


def program(name):
    found = shutil.which(name)
    assert found, f"{name} is not installed: apt install prometheus"
    return found


def traffic(sim, gateway):
    """Something for every metric: answers, streams, failures, hedges, breakers, probes, refusals."""
    for stream in (False, True):
        gateway.chat(stream=stream)
    request(gateway.port, "POST", "/v1/embeddings", EMBED)
    sim.faults("alpha", {"fault": "status", "status": 429, "headers": {"retry-after-ms": "1"}}, {"fault": "malformed", "after": 2},
               {"fault": "cut", "after": 2}, {"fault": "silent"})
    for _ in range(4):
        gateway.stream().rest()
    sim.faults("alpha", {"fault": "status", "status": 500, "times": 0})
    for _ in range(3):
        gateway.chat()
    gateway.until("a probe", lambda: gateway.metric("perdure_probes_total") >= 1)
    sim.faults("alpha")
    gateway.until("the trial", lambda: gateway.metric("perdure_breaker_state", provider="alpha", state="trial") == 1)
    gateway.chat()
    gateway.chat(model='odd "name" \\ with\nlines')
    gateway.get("/nowhere")


def test_promtool_finds_nothing_to_object_to():
    with running("alpha:0,tokens=20", "beta:0,tokens=20", resilience=RULES) as (sim, gateway):
        for loaded in (False, True):
            if loaded:
                traffic(sim, gateway)
            answer = gateway.get("/metrics")
            assert answer.header("content-type").startswith("text/plain; version=0.0.4"), answer.headers
            checked = subprocess.run([program("promtool"), "check", "metrics"], input=answer.body, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            assert checked.returncode == 0 and not checked.stdout.strip(), checked.stdout.decode()
        text = answer.body.decode()
        for name in ("llm_time_to_first_token_seconds_bucket", "llm_request_duration_seconds_bucket", "llm_request_errors_total", "llm_tokens_total",
                     "llm_failovers_total", "perdure_hedges_total", "perdure_retries_total", "perdure_breaker_transitions_total",
                     "perdure_malformed_events_total", "gen_ai_client_operation_duration_seconds_bucket"):
            assert f"\n{name}{{" in text, f"no {name} after traffic of all kinds"


def test_promtool_does_object_when_there_is_reason():
    """That the check above can fail."""
    bad = b"# TYPE things counter\nthings 1\nthings 2\n"
    checked = subprocess.run([program("promtool"), "check", "metrics"], input=bad, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert checked.returncode != 0 or checked.stdout.strip()


def test_every_histogram_adds_up():
    with running("alpha:0,tokens=20", "beta:0,tokens=20", resilience=RULES) as (sim, gateway):
        traffic(sim, gateway)
        metrics = gateway.metrics()
        series = {}
        for (name, labels), value in metrics.items():
            if name.endswith("_bucket"):
                le = float(dict(labels)["le"])
                series.setdefault((name[:-7], frozenset(p for p in labels if p[0] != "le")), []).append((le, value))
        assert len(series) >= 8
        for (name, labels), buckets in series.items():
            values = [v for _, v in sorted(buckets)]
            assert values == sorted(values), (name, values)
            assert values[-1] == metrics[(f"{name}_count", labels)], name
            assert (f"{name}_sum", labels) in metrics, name
        assert gateway.metric("perdure_calls_running") == 0
        calls = sum(v for (n, _), v in gateway.metrics().items() if n == "perdure_calls_total")
        assert calls == sum(1 for line in gateway.log().splitlines() if " call.end " in line)


class Prometheus:
    """Debian's Prometheus on a port of its own, with its data in a folder that goes away."""

    def __init__(self, target, headers=""):
        self.folder = tempfile.TemporaryDirectory()
        root = pathlib.Path(self.folder.name)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        (root / "prometheus.yml").write_text("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n"
                                             f"  - job_name: perdure\n{headers}    static_configs: [{{targets: ['127.0.0.1:{target}']}}]\n")
        self.log = open(root / "log", "w+b")
        self.process = subprocess.Popen([program("prometheus"), f"--config.file={root}/prometheus.yml", f"--storage.tsdb.path={root}/data",
                                         f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"],
                                        stdout=self.log, stderr=self.log, cwd=root, env={"PATH": "/usr/bin:/bin"})

    def get(self, path):
        try:
            return request(self.port, "GET", path, timeout=10)
        except OSError:
            return None     # not listening yet

    def until(self, what, test):
        """Polls its API: it has no event to wait on."""
        end = time.monotonic() + DEADLINE
        while not (seen := test()):
            if self.process.poll() is not None or time.monotonic() > end:
                self.log.seek(0)
                raise AssertionError(f"never came: {what}\n{self.log.read().decode(errors='replace')[-3000:]}")
            threading.Event().wait(0.05)
        return seen

    def query(self, expression):
        answer = self.get("/api/v1/query?query=" + urllib.parse.quote(expression))
        if not answer or answer.status != 200:
            return None
        found = json.loads(answer.body)["data"]["result"]
        return float(found[0]["value"][1]) if found else None

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()
        self.folder.cleanup()


def test_a_real_prometheus_scrapes_it():
    with running("alpha:0,tokens=20", "beta:0,tokens=20", resilience=RULES) as (sim, gateway):
        for _ in range(7):
            gateway.chat()
        prometheus = Prometheus(gateway.port)
        try:
            calls = 'perdure_calls_total{route="main",outcome="complete"}'
            prometheus.until("the first sample", lambda: prometheus.query(calls) == 7)
            target = json.loads(prometheus.get("/api/v1/targets").body)["data"]["activeTargets"][0]
            assert target["health"] == "up" and not target["lastError"], target
            for _ in range(5):
                gateway.stream().rest()
            prometheus.until("the next samples", lambda: prometheus.query(calls) == 12)
            for expression, value in (('perdure_streams_total{outcome="complete"}', 5), ("perdure_build_info", 1),
                                      ('llm_tokens_total{provider="alpha",type="output"}', 240), ("llm_time_to_first_token_seconds_count", 12)):
                assert prometheus.query(expression) == value == gateway_value(gateway, expression), (expression, prometheus.query(expression))
            assert prometheus.query('histogram_quantile(0.5, rate(llm_time_to_first_token_seconds_bucket[1m])) > 0') is not None
            assert prometheus.query('up{job="perdure"}') == 1
        finally:
            prometheus.stop()


def gateway_value(gateway, expression):
    name, _, labels = expression.rstrip("}").partition("{")
    return gateway.metric(name, **{k: v.strip('"') for k, v in (p.split("=") for p in labels.split(",") if p)})


def test_it_scrapes_with_a_client_key_too():
    with running("alpha:0", resilience=RULES, extra={"keys": [{"name": "prometheus", "key": "scrape-key"}]}) as (_, gateway):
        prometheus = Prometheus(gateway.port, "    authorization: {credentials: scrape-key}\n")
        try:
            prometheus.until("the first sample", lambda: prometheus.query("perdure_build_info") == 1)
        finally:
            prometheus.stop()


if __name__ == "__main__":
    main(globals())
