#!/usr/bin/env python3
"""What `make install` puts on a machine: program, man page, completions, documents; and that the helps name every option."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from perdure_test import PERDURE, ROOT, main

BUILD = pathlib.Path(PERDURE).resolve().parent
FILES = ["bin/perdure", "share/man/man1/perdure.1", "share/bash-completion/completions/perdure", "share/zsh/site-functions/_perdure",
         "share/fish/vendor_completions.d/perdure.fish", "share/doc/perdure/README.md", "share/doc/perdure/LICENSE",
         "share/doc/perdure/docs/configuration.md", "share/doc/perdure/docs/settings.md", "share/doc/perdure/examples/perdure.yaml"]


class Installed:
    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        command = ["meson", "install", "-C", str(BUILD), "--no-rebuild", "--destdir", self.folder.name, "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        found = sorted(pathlib.Path(self.folder.name).rglob("bin/perdure"))
        assert len(found) == 1, f"bin/perdure stands {len(found)} times under {self.folder.name}"
        self.prefix = found[0].parent.parent
        return self

    def __exit__(self, *what):
        self.folder.cleanup()

    def path(self, name):
        return self.prefix / name


def run(*words, **more):
    return subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=60, **more)


def test_everything_is_installed_where_it_belongs():
    with Installed() as to:
        missing = [name for name in FILES if not to.path(name).is_file()]
        assert not missing, missing
        stray = [str(p.relative_to(to.prefix)) for p in to.prefix.rglob("*") if p.is_file() and p.relative_to(to.prefix).parts[0] not in ("bin", "share")]
        assert not stray, f"installed without need: {stray}"
        done = run(to.path("bin/perdure"), "version")
        assert done.returncode == 0 and re.fullmatch(r"perdure \d+\.\d+\.\d+\n", done.stdout), done


def lacks(program):
    """True, and said, where a program is not installed."""
    missing = not shutil.which(program)
    if missing:
        print(f"      NOT RUN  there is no {program} here (tools/setup installs it)")
    return missing


def test_the_man_page_is_clean():
    """To both that render it, with every warning they have, and in a terminal of 80 columns."""
    with Installed() as to:
        page = to.path("share/man/man1/perdure.1")
        ways = [("mandoc", ("mandoc", "-Tascii", page)), ("groff", ("groff", "-mandoc", "-ww", "-Tascii", "-P-c", page)), ("man", ("man", "-l", "--warnings=w", page))]
        if not lacks("mandoc"):
            done = run("mandoc", "-Tlint", page)
            said = [line for line in (done.stdout + done.stderr).splitlines() if "mandoc.db" not in line]
            assert not said, "\n".join(said)
        for program, words in ways:
            if lacks(program):
                continue
            done = run(*words, env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C", "MANPAGER": "cat", "PAGER": "cat", "MANOPT": ""})
            assert done.returncode == 0 and not done.stderr, done.stderr
            lines = re.sub(".\b", "", done.stdout).splitlines()
            wide = [line for line in lines if len(line) > 80]
            assert not wide, (program, wide)
            for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "SIGNALS", "ENVIRONMENT", "FILES", "EXIT STATUS", "EXAMPLES"):
                assert title in lines, (program, title)


def test_the_installed_documents_lead_to_each_other():
    with Installed() as to:
        folder = to.path("share/doc/perdure")
        text = (folder / "README.md").read_text()
        broken = [t for t in re.findall(r"\]\(([^)#\s]+)", text) if not re.match(r"[a-z]+:", t) and not (folder / t).exists()]
        assert not broken, broken


def options_of_parser():
    """Per command, the options that its source takes."""
    main_c = (ROOT / "src/app/main.c").read_text()
    taken = {name: {"--help"} for name in re.findall(r'^\s*\{"(\w+)", "[^"]*", (?:command_|simulate_)\w+\}', main_c, re.M)}
    for command, file in (("serve", "src/app/serve.c"), ("check", "src/app/check.c"), ("sessions", "src/app/sessions.c"), ("simulate", "src/simulate/simulate.c"),
                          ("run", "src/app/run.c"), ("worker", "src/app/worker.c"), ("supervise", "src/app/supervise.c")):
        code = re.sub(r"/\*.*?\*/", "", (ROOT / file).read_text(), flags=re.S)
        code = re.sub(r"static const char \w*help\[\] =.*?;\n", "", code, flags=re.S)
        taken[command] |= set(re.findall(r'"(--[a-z][a-z-]*)"', code))
    taken["run"].discard("--for-run")      # what it tells a perdure of its own
    taken["run"].discard("--listen")
    taken["run"].discard("--run")
    taken["supervise"].discard("--keeper")           # how it calls itself
    assert len(taken) >= 11 and len(taken["serve"]) >= 5 and len(taken["simulate"]) >= 6, taken
    return taken


def test_every_help_names_every_option():
    for command, options in options_of_parser().items():
        done = run(PERDURE, command, "--help")
        assert done.returncode == 0 and done.stdout and not done.stderr, f"{command} --help: {done}"
        if command in ("help", "version", "docs"):
            continue
        missing = sorted(o for o in options if o not in done.stdout)
        assert not missing, f"perdure {command} --help does not name {missing}"


def test_the_man_page_names_every_option():
    page = (ROOT / "man/perdure.1").read_text()
    missing = [f"{c} {o}" for c, options in options_of_parser().items() for o in sorted(options) if f"Fl -{o[2:]}" not in page]
    assert not missing, missing
    for command in options_of_parser():
        assert re.search(rf"^\.Cm {command}\b|perdure {command}", page, re.M), command


def test_the_completions_name_every_option():
    for file, form in (("perdure.bash", "{}"), ("_perdure", "{}"), ("perdure.fish", "-l {}")):
        text = (ROOT / "completions" / file).read_text()
        missing = [f"{c} {o}" for c, options in options_of_parser().items() for o in sorted(options)
                   if (form.format(o[2:]) if "-l" in form else o) not in text]
        assert not missing, f"{file}: {missing}"


def test_perdure_alone_and_with_help():
    for words, status in ((["--help"], 0), (["-h"], 0), (["help"], 0), (["--version"], 0), (["-V"], 0), ([], 2), (["nothing"], 2),
                          (["serve", "--nothing"], 2), (["check", "--nothing"], 2), (["docs"], 2), (["docs", "nothing"], 2)):
        done = run(PERDURE, *words)
        assert done.returncode == status, f"perdure {' '.join(words)}: {done}"


COMPLETE = r"""
source "$1"; shift
COMP_LINE=$1; COMP_POINT=${#1}; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
eval "$(complete -p perdure | sed 's/.*-F \([^ ]*\).*/\1/')" 2>/dev/null
printf '%s\n' "${COMPREPLY[@]}"
"""


def bash_completes(to, line, *words):
    env = {**os.environ, "PATH": f"{to.path('bin')}:{os.environ['PATH']}"}
    done = run("bash", "--norc", "-c", COMPLETE, "bash", to.path("share/bash-completion/completions/perdure"), line, *words, env=env)
    return done.stdout.split()


def test_bash_completes():
    with Installed() as to:
        for line, words, want in (
                ("perdure ser", ["perdure", "ser"], ["serve"]),
                ("perdure sessions --k", ["perdure", "sessions", "--k"], ["--key-env"]),
                ("perdure serve --lo", ["perdure", "serve", "--lo"], ["--log-level", "--log-format"]),
                ("perdure serve --log-level ", ["perdure", "serve", "--log-level", ""], ["error", "warn", "info", "debug"]),
                ("perdure docs m", ["perdure", "docs", "m"], ["metrics"]),
                ("perdure simulate --provider a:1,fault=sta", ["perdure", "simulate", "--provider", "a", ":", "1,fault", "=", "sta"],
                 ["status", "stall"])):
            got = bash_completes(to, line, *words)
            assert got == want, f"{line!r} -> {got}"


def test_an_interactive_bash_completes_what_is_typed():
    """A real shell on a terminal: `perdure se` and the tab key."""
    import pty
    import select
    with Installed() as to:
        pid, fd = pty.fork()
        if pid == 0:
            os.environ.update(PATH=f"{to.path('bin')}:{os.environ['PATH']}", PS1="> ", TERM="dumb")
            os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
        try:
            def until(text, seen=b""):
                while text not in seen:
                    ready, _, _ = select.select([fd], [], [], 30)
                    assert ready, f"{text} never came: {seen}"
                    seen += os.read(fd, 4096)
                return seen
            os.write(fd, b"source '%s'; echo so''urced\n" % str(to.path("share/bash-completion/completions/perdure")).encode())
            until(b"sourced\r\n")
            os.write(fd, b"perdure ver\t")
            until(b"perdure version")
        finally:
            os.close(fd)
            os.kill(pid, 9)
            os.waitpid(pid, 0)


def test_fish_and_zsh_take_their_files():
    for shell, file in (("fish", "perdure.fish"), ("zsh", "_perdure")):
        if not shutil.which(shell):
            print(f"      (no {shell} here)")
            continue
        done = run(shell, "-n", ROOT / "completions" / file)
        assert done.returncode == 0 and not done.stderr, done


def test_fish_completes_a_command_an_option_a_value_and_a_file():
    if lacks("fish"):
        return
    with Installed() as to:
        (to.prefix / "zz.yaml").touch()
        env = {**os.environ, "PATH": f"{to.path('bin')}:{os.environ['PATH']}"}
        for line, want in (("perdure ser", {"serve"}), ("perdure serve --log-l", {"--log-level"}), ("perdure serve --log-level ", {"debug", "error", "info", "warn"}),
                           ("perdure docs m", {"metrics"}), ("perdure checkpoints dif", {"diff"}), ("perdure check zz", {"zz.yaml"}),
                           ("perdure simulate --provider a:1,fault=sta", {"a:1,fault=stall", "a:1,fault=status"}),
                           ("perdure simulate --provider a:1,style=deep", {"a:1,style=deepseek"})):
            done = run("fish", "-N", "-c", f"source {to.path('share/fish/vendor_completions.d/perdure.fish')}; complete -C '{line}'", env=env, cwd=to.prefix)
            got = {found.split("\t")[0] for found in done.stdout.splitlines()}
            assert got == want and not done.stderr, (line, got, done.stderr)


if __name__ == "__main__":
    if not (BUILD / "build.ninja").exists():
        sys.exit(f"{BUILD} is no build folder: PERDURE names the program in one")
    main(globals())
