#!/usr/bin/env python3
"""The documents say what is true: their links lead somewhere, their configurations are served, their curl lines work."""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import tempfile

from perdure_test import PERDURE, ROOT, Gateway, Providers, config, main

SKIP = {"node_modules", ".git"}


def pages():
    for path in sorted(ROOT.rglob("*.md")):
        parts = path.relative_to(ROOT).parts
        if not SKIP & set(parts) and not parts[0].startswith("build"):
            yield path


def prose(text):
    """Without code, in which a link is no link."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))


def anchors(path):
    found = set()
    for title in re.findall(r"^#+ +(.*)$", path.read_text(), re.M):
        found.add(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-"))
    return found


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.S | re.M)


def clean_env(**more):
    kept = {k: v for k, v in os.environ.items() if not re.search(r"_API_KEY$|_BASE_URL$|^PROVIDER_ORDER$|_proxy$|^PERDURE_", k, re.I)}
    return {**kept, **more}


def check(text, name):
    """What `perdure check` says of a configuration whose variables are all set."""
    env = clean_env(OPENAI_API_KEY="test-key")
    with tempfile.TemporaryDirectory() as folder:
        pem = pathlib.Path(folder) / "ca.pem"
        pem.write_text("")
        for variable in re.findall(r"\$\{(\w+)", text):
            env[variable] = str(pem) if variable.endswith("_FILE") else f"long-enough-{variable}"
        file = pathlib.Path(folder) / "perdure.yaml"
        file.write_text(text)
        done = subprocess.run([PERDURE, "check", str(file)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{name}:\n{text}\n{done.stderr}"
    assert not done.stderr, f"{name} is warned about:\n{done.stderr}"
    return done.stdout


def test_every_relative_link_leads_somewhere():
    broken, seen = [], 0
    for path in pages():
        text = prose(path.read_text())
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            seen += 1
            file, _, anchor = target.partition("#")
            where = (path.parent / file).resolve() if file else path
            if not where.exists():
                broken.append(f"{path.relative_to(ROOT)}: {target}")
            elif anchor and anchor not in anchors(where):
                broken.append(f"{path.relative_to(ROOT)}: no title for #{anchor} in {file or 'it'}")
    assert not broken, "\n".join(broken)
    assert seen > 20, "no links were found: the test looks in the wrong place"


def test_every_configuration_in_the_documents_is_served():
    seen = 0
    for name in ("README.md", "docs/configuration.md", "docs/providers.md"):
        for text in blocks(ROOT / name, "yaml"):
            if "tasks:" not in text:
                check(text, name)
                seen += 1
    assert seen >= 8, seen


def test_every_plan_in_the_documents_is_well_formed():
    seen = 0
    for name in ("README.md", "docs/runs.md", "docs/plans.md", "docs/supervise.md"):
        for text in blocks(ROOT / name, "yaml"):
            if "tasks:" in text:
                with tempfile.TemporaryDirectory() as folder:
                    for file in re.findall(r"schema: (\w+\.json)|pin: \[(.*?)\]", text):
                        for one in ",".join(file).split(","):
                            if one.strip():
                                (pathlib.Path(folder) / one.strip()).write_text("{}")
                    plan = pathlib.Path(folder) / "plan.yaml"
                    plan.write_text(text)
                    done = subprocess.run([PERDURE, "run", "--check", "plan.yaml"], cwd=folder, capture_output=True, text=True)
                    assert done.returncode == 0, f"{name}: {done.stderr}\n{text}"
                    seen += 1
    assert seen >= 3, seen


def test_the_example_is_served():
    check((ROOT / "examples" / "perdure.yaml").read_text(), "examples/perdure.yaml")


def test_the_configuration_page_has_every_setting():
    rows = re.findall(r"^SETTING\((\w+),", (ROOT / "src/conf/settings.def").read_text(), re.M)
    page = (ROOT / "docs/configuration.md").read_text()
    assert len(rows) > 20
    missing = [row for row in rows if not re.search(rf"^ *{row}: ", page, re.M)]
    assert not missing, f"docs/configuration.md does not show {missing}"


def test_the_settings_shown_as_defaults_are_the_defaults():
    whole = next(b for b in blocks(ROOT / "docs/configuration.md", "yaml") if "drain_timeout:" in b)
    shown = check(whole, "docs/configuration.md").partition("settings that differ")[2]
    general = [line for line in shown.splitlines()[1:] if line.strip() and ":" not in line.split()[0] and not line.strip().startswith("route ")]
    assert not general, f"not the defaults: {general}"


def test_generated_tables_are_current():
    done = subprocess.run([str(ROOT / "tools" / "docs"), "--check"], env={**os.environ, "PERDURE": str(pathlib.Path(PERDURE).resolve())},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def curls(path):
    """The curl commands of a page, their lines joined."""
    text = re.sub(r"\\\n\s*", " ", path.read_text())
    return [line.strip() for line in text.splitlines() if re.match(r"\s*curl .*127\.0\.0\.1", line)]


def run_curl(line, ports):
    words = shlex.split(line)
    for old, new in ports.items():
        words = [w.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}") for w in words]
    words = [w.replace("$KEY", "any") for w in words]
    done = subprocess.run([words[0], "-sS", "-w", "\n%{http_code}", *words[1:]], env=clean_env(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    body, _, status = done.stdout.rpartition("\n")
    assert status == "200", f"{line}\n{done.stdout}"
    return body


def test_every_curl_line_works():
    sim = Providers("one:0")
    gateway = None
    try:
        gateway = Gateway(config({"one": {"preset": "openai-compatible", "base_url": sim.url("one"), "models": ["gpt-5"]}},
                                 {"coder": {"targets": ["one/gpt-5"]}}))
        seen = 0
        for name in ("README.md", "docs/api.md", "docs/clients.md"):
            for line in curls(ROOT / name):
                body = run_curl(line, {8080: gateway.port, 9101: sim.ports["one"]})
                if "chat/completions" in line and '"stream"' not in line:
                    assert json.loads(body)["choices"][0]["message"]["content"], line
                elif "chat/completions" in line:
                    assert body.rstrip().endswith("data: [DONE]"), line
                else:
                    assert body.strip(), line
                seen += 1
        assert seen >= 6, seen
        gateway.stop()
        gateway = None
    finally:
        if gateway:
            gateway.program.kill()
        sim.program.kill()


def test_the_simulate_line_of_the_readme_does_what_it_says():
    line = next(x for x in (ROOT / "README.md").read_text().splitlines() if x.startswith("perdure simulate --provider"))
    words = [w.replace(":9101", ":0") for w in shlex.split(line)]
    sim = Providers(words[words.index("--provider") + 1])
    try:
        url = f"http://127.0.0.1:{sim.ports['alpha']}/v1/chat/completions"
        done = subprocess.run(["curl", "-sSN", url, "-d", '{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}'],
                              env=clean_env(), capture_output=True, text=True, timeout=60)
        assert done.returncode == 18 and "[DONE]" not in done.stdout, (done.returncode, done.stdout)
    finally:
        sim.stop()


def test_the_clients_files_are_json():
    texts = blocks(ROOT / "README.md", "json") + blocks(ROOT / "docs/clients.md", "json")
    assert len(texts) >= 4
    for text in texts:
        assert "127.0.0.1:8080" in json.dumps(json.loads(text))


def test_every_metric_in_the_alerts_exists():
    rows = set(re.findall(r'^METRIC\(\w+,\s*"(\w+)"', (ROOT / "src/meter/metrics.def").read_text(), re.M))
    text = (ROOT / "docs/operations.md").read_text()
    named = {re.sub(r"_bucket$", "", n) for n in re.findall(r"\b(?:perdure_\w+|llm_\w+|process_\w+)", text)}
    assert len(named) >= 8, named
    assert not named - rows, f"docs/operations.md names {named - rows}"


def test_prometheus_takes_the_alerts_and_the_scrape_config():
    if not shutil.which("promtool"):
        print("      (no promtool here)")
        return
    with tempfile.TemporaryDirectory() as folder:
        for text in blocks(ROOT / "docs/operations.md", "yaml"):
            file = pathlib.Path(folder) / "file.yml"
            file.write_text(text)
            what = ["config", "--syntax-only"] if text.startswith("scrape") else ["rules"]
            done = subprocess.run(["promtool", "check", *what, str(file)], capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr


def test_every_log_event_is_on_the_page():
    text = (ROOT / "docs/operations.md").read_text()
    events = set()
    for path in (ROOT / "src").rglob("*.c"):
        if "simulate" not in path.parts:
            events |= set(re.findall(r'LOG\((?:[^";]|\n)*?"([a-z_]+\.[a-z_]+)"', path.read_text()))
    assert len(events) > 10, events
    missing = sorted(e for e in events if f"`{e}`" not in text)
    assert not missing, f"docs/operations.md does not have {missing}"


def test_every_endpoint_is_on_the_api_page():
    rows = re.findall(r'^\s*\{"(GET|POST)", "([^"]+)"', (ROOT / "src/front/endpoints.c").read_text(), re.M)
    text = (ROOT / "docs/api.md").read_text()
    assert len(rows) > 8
    missing = [f"{m} {p}" for m, p in rows if f"{m} {p}" not in text and f"`{m} {p}" not in text]
    assert not missing, missing


def test_the_picture_is_well_formed():
    import xml.etree.ElementTree as tree
    root = tree.parse(ROOT / "docs" / "picture.svg").getroot()
    assert root.tag.endswith("svg") and root.get("viewBox")


if __name__ == "__main__":
    main(globals())
