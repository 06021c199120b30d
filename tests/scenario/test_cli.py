"""The command line: what each command says and with which status it ends."""
import json
import pathlib
import re
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


COMMANDS = ("serve", "check", "run", "runs", "review", "worker", "supervise", "sessions", "checkpoints", "simulate", "docs", "version")


def options_of(command):
    """Those that its help names; without what it quotes of other programs."""
    text = re.sub(r'"[^"\n]*"|`[^`]*`', "", run(command, "--help")[1])
    return sorted(set(re.findall(r"(?<=[ \[])--[a-z][a-z-]+", text)))


def wrongly(*args):
    """The sentence that tells what was wrong with it; a second line tells where the help is, and there is no third."""
    status, out, err = run(*args)
    of = f"perdure {args[0]}" if args and args[0] in COMMANDS else "perdure"
    lines = err.split("\n")
    assert status == 2 and not out and len(lines) == 3 and not lines[2], (args, status, out, err)
    assert lines[0].startswith(of + ": ") and lines[1] == f"`{of} --help` tells how it is called", (args, err)
    return lines[0]


def test_a_misspelled_option_is_told_which_one_was_meant():
    seen = 0
    for command in COMMANDS:
        options = options_of(command)
        assert "--help" in options, command
        for option in options:
            for wrong in (option[:-1], option[:-2] + option[-1] + option[-2], option[1:], option + "x"):
                if wrong in options or wrong == "--hlep" or len(wrong) < 5 or wrong[-1] == "-" or wrong[-2] == wrong[-1]:
                    continue
                said = wrongly(command, wrong)
                assert f'no option "{wrong}": did you mean "{option}"?' in said, said
                seen += 1
        assert f'no option "--zzzzzzzzz"' in (said := wrongly(command, "--zzzzzzzzz=3")) and "mean" not in said and "=" not in said, said
    assert seen > 200, seen


def test_an_option_without_its_value_and_one_with_a_value_too_many():
    valued, bare = 0, 0
    for command in COMMANDS:
        for option in options_of(command):
            if option == "--help":
                continue
            if re.search(rf"{option}( [A-Z\d]|  +\()", run(command, "--help")[1]):
                assert wrongly(command, option) == f"perdure {command}: {option} needs a value", (command, option)
                valued += 1
            else:
                assert wrongly(command, option + "=yes") == f"perdure {command}: {option} takes no value", (command, option)
                bare += 1
    assert valued > 40 and bare > 8, (valued, bare)


def test_a_word_that_is_none_is_told_which_one_was_meant():
    for args, want in ((("sevre",), 'there is no command "sevre": did you mean "serve"?'), (("xyzzy",), 'there is no command "xyzzy"'),
                       (("help", "srve"), 'there is no command "srve": did you mean "serve"?'), (("--hlep",), 'before "--hlep": did you mean "--help"?'),
                       (("--config", "x", "serve"), 'a command is to stand before "--config"'),
                       (("docs", "setings"), 'did you mean "settings"?'), (("runs", "shwo", "r"), 'did you mean "show"?'),
                       (("review", "retyr", "r", "t"), 'did you mean "retry"?'), (("sessions", "lst"), 'did you mean "list"?'),
                       (("checkpoints", "lsit"), 'did you mean "list"?'), (("checkpoints", "restor"), 'did you mean "restore"?')):
        assert want in wrongly(*args), (args, want, wrongly(*args))
    for command in COMMANDS:
        assert run("help", command) == run(command, "--help"), command


def test_options_that_are_not_understood_end_with_2():
    for args in (("serve", "--prot", "1"), ("serve", "--config"), ("serve", "--log-level", "loud"), ("serve", "--log-format", "xml"), ("serve", "extra"),
                 ("serve", *["--listen", "127.0.0.1:0"] * 40), ("check", "--what"), ("check", "a", "b"), ("check", "a", "--config"), ("docs",), ("docs", "nothing"), ("docs", "settings", "more"),
                 ("version", "more"), ("simulate", "--what"), ("simulate", "word"), ("simulate", "--seed", "many"), ("simulate", "--verbose=yes"),
                 ("simulate", "--provider", "a:0,fault=nothing"), ("sessions", "--what"), ("sessions", "show"),
                 ("sessions", "list", "list"), ("sessions", "--limit", "0"), ("sessions", "--url"), ("sessions", "--url", "ftp://x"),
                 ("sessions", "--key-env", "PERDURE_NO_SUCH_KEY"), ("sessions", "show", "s-1", "--limit", "2"), ("run",), ("run", "a", "b"), ("run", "a", "--workers", "many"),
                 ("run", "a", "--resume", "r"), ("run", "a", "--url", "ftp://x"), ("run", "a", "--key-env", "PERDURE_NO_SUCH_KEY"), ("run", "--resume", "r", "--check"),
                 ("run", "a", "--detach"), ("worker", "what"), ("worker", "--kinds", "llm,soup"), ("worker", "--lease", "soon"), ("worker", "--name", "n" * 100),
                 ("worker", "--database", "x.db"), ("runs", "show"), ("runs", "what"), ("runs", "--limit", "0"), ("runs", "--value", "1"), ("runs", "show", "a", "b"), ("runs", "list", "x"),
                 ("review", "--limit", "3"), ("review", "list", "x"), ("review", "a", "b", "c", "d"),
                 ("review", "accept", "r-1"), ("review", "edit", "r-1", "t"), ("review", "edit", "r-1", "t", "--value", "{"), ("review", "what", "a", "b"),
                 ("supervise",), ("supervise", "claude"), ("supervise", "--"), ("supervise", "--stall", "soon", "--", "true"), ("supervise", "--agent", "a b", "--", "true"),
                 ("supervise", "--restarts", "100", "--", "true"), ("supervise", "--log-level", "loud", "--", "true"), ("supervise", "--keeper", "x", "--", "true"),
                 ("supervise", "--resume-args", "x " * 33, "--", "true"),
                 ("checkpoints", "what"), ("checkpoints", "list", "x"), ("checkpoints", "show", "a", "b"), ("checkpoints", "diff", "a"), ("checkpoints", "--limit", "0"),
                 ("checkpoints", "create", "--step", "x")):
        wrongly(*args)
    assert run("run", "no-such-plan.yaml")[0] == 2


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
            (GOOD + "snapshots: s3://My_Bucket/x\n", 10, ("My_Bucket", "lowercase")),
            (GOOD + "snapshots: s3://10.1.2.3/x\n", 10, ("10.1.2.3", "IP address")),
            (GOOD + "snapshots: 's3://bucket/a b'\n", 10, ("a b", "prefix")),
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
