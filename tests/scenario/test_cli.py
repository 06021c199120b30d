"""The command line: what each command says and with which status it ends."""
import json
import pathlib
import subprocess
import tempfile

from perdure_test import PERDURE, Gateway, Program, main

NOBODY = {"VLLM_BASE_URL": "http://127.0.0.1:9/v1"}      # a provider of one's own at a port where nobody listens


def run(*args, env=None, cwd=None):
    done = subprocess.run([PERDURE, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={"PATH": "/usr/bin:/bin", **(env or {})},
                          cwd=cwd, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_help_names_every_command():
    for args in (("help",), ("--help",), ("-h",)):
        status, out, err = run(*args)
        assert status == 0 and not err, (args, status, err)
        for command in ("serve", "check", "run", "runs", "review", "worker", "supervise", "sessions", "simulate", "version", "help"):
            assert f"\n  {command} " in out, (command, out)
    assert run()[0] == 2
    status, out, err = run("sevre")
    assert status == 2 and "sevre" in err and not out
    assert 'did you mean "serve"?' in run("serv")[2]


def test_a_plan_that_cannot_be_read_is_told_with_its_reason():
    with tempfile.TemporaryDirectory() as folder:
        for name, why in ((folder, "it is a folder"), (f"{folder}/none.yaml", "No such file")):
            status, _, err = run("run", "--check", name)
            assert status == 2 and name in err and why in err, err


def test_check_shows_the_tasks_each_below_what_it_needs():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "plan.yaml"
        path.write_text('goal: x\ntasks:\n  - {id: b, needs: [a], command: [make, test]}\n  - {id: a, command: "true"}\n')
        status, out, err = run("run", "--check", str(path))
        assert status == 0 and not err, err
        assert out.split("\n")[1:3] == ["  a                   command  true", "    b                 command  make test"], out
        path.write_text('goal: x\ntasks:\n  - {id: a, comand: "true"}\n')
        assert 'did you mean "command"?' in run("run", "--check", str(path))[2]


def test_output_that_could_not_be_written_is_no_success():
    for args in (("version",), ("docs", "settings")):     # less and more than is written at once
        with open("/dev/full", "w") as full:
            done = subprocess.run([PERDURE, *args], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
        assert done.returncode == 1 and "not all of the output" in done.stderr, (args, done)
    done = subprocess.run(f"{PERDURE} docs settings | head -1; echo ${{PIPESTATUS[0]}}", shell=True, executable="/bin/bash", capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] in ("0", "141") and not done.stderr, done


def test_a_worker_is_not_left_alone_with_a_file_as_its_database():
    with tempfile.TemporaryDirectory() as folder:
        status, _, err = run("worker", "--database", "perdure.db", cwd=folder)
        assert status == 2 and "postgres://" in err and "--url" in err and not list(pathlib.Path(folder).iterdir()), err


def test_each_command_has_help_of_its_own():
    for command in ("serve", "check", "run", "runs", "review", "worker", "supervise", "sessions", "simulate", "docs"):
        status, out, err = run(command, "--help")
        assert status == 0 and "usage: perdure " + command in out and not err, (command, status, out, err)


def test_version():
    for args in (("version",), ("--version",), ("-V",)):
        status, out, _ = run(*args)
        assert status == 0 and out.startswith("perdure ") and out.count("\n") == 1, out


def test_options_that_are_not_understood_end_with_2():
    for args in (("serve", "--prot", "1"), ("serve", "--config"), ("serve", "--log-level", "loud"), ("serve", "extra"), ("check", "--what"),
                 ("check", "a", "b"), ("docs",), ("docs", "nothing"), ("simulate", "--what"), ("sessions", "--what"), ("sessions", "show"),
                 ("sessions", "list", "list"), ("sessions", "--limit", "0"), ("sessions", "--url"), ("sessions", "--url", "ftp://x"),
                 ("sessions", "--key-env", "PERDURE_NO_SUCH_KEY"), ("sessions", "show", "s-1", "--limit", "2"), ("run",), ("run", "no-such-plan.yaml"), ("run", "a", "b"), ("run", "a", "--workers", "many"),
                 ("run", "a", "--detach"), ("worker", "what"), ("worker", "--kinds", "llm,soup"), ("worker", "--lease", "soon"), ("runs", "show"), ("runs", "what"),
                 ("review", "accept", "r-1"), ("review", "edit", "r-1", "t"), ("review", "edit", "r-1", "t", "--value", "{"), ("review", "what", "a", "b")):
        status, _, err = run(*args)
        assert status == 2 and err, (args, status, err)


def check(text, env=None):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "c.yaml"
        path.write_text(text)
        return run("check", str(path), env=env)


GOOD = """
listen: 127.0.0.1:0
providers:
  openai: {key: "${MY_KEY}"}
  gpu: {preset: openai-compatible, base_url: "http://127.0.0.1:9/v1", models: [qwen]}
routes:
  coder:
    strategy: weighted
    targets: [{model: openai/gpt-5, weight: 70}, {model: gpu/qwen, weight: 30}]
"""


def test_check_shows_what_a_good_file_means():
    status, out, err = check(GOOD, {"MY_KEY": "sk-secret"})
    assert status == 0 and not err, (status, err)
    for word in ("openai", "gpu", "coder", "gpt-5", "70"):
        assert word in out, (word, out)
    assert "sk-secret" not in out


def test_check_says_where_what_and_what_to_do():
    for broken, line, words in (
            (GOOD.replace("strategy", "stratagy"), 8, ("stratagy", "strategy")),
            (GOOD.replace("weighted", "random"), 8, ("random", "weighted")),
            (GOOD.replace("gpu/qwen, weight", "cpu/qwen, weight"), 9, ("cpu",)),
            (GOOD.replace("127.0.0.1:0", "127.0.0.1:99999"), 2, ("99999",)),
            (GOOD + "resilience: {ttft: 2}\n", 10, ("ttft", "2s")),
            (GOOD + "resilience: {ttft: 99h}\n", 10, ("ttft", "10m")),
            (GOOD.replace("preset: openai-compatible", "preset: openia"), 5, ("openia",)),
            ("providers: [", 0, ("YAML",))):
        status, out, err = check(broken, {"MY_KEY": "k"})
        assert status == 1, (status, err, broken)
        assert not line or f"line {line}" in err, (line, err)
        for word in words:
            assert word in err, (word, err)
        assert not out, out


def test_a_variable_that_is_not_set_is_named():
    status, _, err = check(GOOD)
    assert status == 1 and "MY_KEY" in err and "line 4" in err, err


def test_every_error_is_told_at_once():
    _, _, err = check(GOOD.replace("strategy", "stratagy").replace("models:", "modls:"), {"MY_KEY": "k"})
    assert "stratagy" in err and "modls" in err, err


def test_a_file_that_is_not_there():
    status, _, err = run("check", "/nowhere/perdure.yaml")
    assert status == 1 and "/nowhere/perdure.yaml" in err, err
    status, _, err = run("serve", "--config", "/nowhere/perdure.yaml")
    assert status == 1 and "/nowhere/perdure.yaml" in err, err


def test_without_any_provider_it_says_what_to_do():
    with tempfile.TemporaryDirectory() as folder:
        for command in ("check", "serve"):
            status, _, err = run(command, cwd=folder)
            assert status == 1 and "OPENAI_API_KEY" in err, (command, status, err)


def test_the_environment_alone_is_enough():
    with tempfile.TemporaryDirectory() as folder:
        status, out, _ = run("check", env={"OPENAI_API_KEY": "sk-o", "DEEPSEEK_API_KEY": "sk-d", "PROVIDER_ORDER": "deepseek"}, cwd=folder)
    assert status == 0 and out.index("deepseek") < out.index("openai") and "sk-d" not in out, out


def test_serve_from_the_environment_alone():
    gateway = Gateway(env=NOBODY)
    try:
        assert gateway.get("/healthz").status == 200
        shown = gateway.get("/api/providers").json["providers"]
        assert [p["name"] for p in shown] == ["vllm"] and shown[0]["base_url"] == "http://127.0.0.1:9/v1", shown
        assert gateway.stop() == 0
    finally:
        gateway.program.kill()


def test_a_port_that_is_taken_is_said():
    gateway = Gateway(env=NOBODY)
    try:
        second = Program(["serve", "--listen", f"127.0.0.1:{gateway.port}"], env=NOBODY)
        assert second.process.wait(30) == 1
        assert str(gateway.port) in second.stderr() and "another program" in second.stderr(), second.stderr()
        second.kill()
        assert gateway.stop() == 0
    finally:
        gateway.program.kill()


def test_docs_are_made_from_the_programs_own_tables():
    for table, word in (("settings", "`breaker_failures`"), ("metrics", "`perdure_calls_total`"), ("failures", "| rate_limited |"),
                        ("translation", "| `top_k` |")):
        status, out, err = run("docs", table)
        assert status == 0 and word in out and not err, (table, status, err)


def test_logs_are_json_lines_when_asked():
    gateway = Gateway(env=NOBODY, args=("--log-format", "json"))
    try:
        assert gateway.get("/healthz").status == 200
        assert gateway.stop() == 0
        lines = [json.loads(line) for line in gateway.log().splitlines()]
        assert {"serve.ready", "serve.ended"} <= {li.get("event") for li in lines}, lines
    finally:
        gateway.program.kill()


if __name__ == "__main__":
    main(globals())
