"""The agent CLIs that are run against perdure: where each comes from, how it is set up, what its tools are called.

Address, key and model are what docs/clients.md or README.md says of each, as it stands there (client_forms.py); the rest keeps it from asking a person.
Six come from npm and are installed into build/agents (kept), aider from PyPI, and Crush is run where it is installed. Claude Code and Qwen Code want a newer Node than Debian has: npm's package `node`
brings one. Each runs in a home of its own and reaches nothing but this machine: its proxy leads nowhere and notes who asked.
"""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading

from client_forms import Form

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = ["@anthropic-ai/claude-code@2", "@openai/codex@0.169", "opencode-ai@1", "@google/gemini-cli@0.61",
            "@mariozechner/pi-coding-agent@0.73", "@qwen-code/qwen-code@0.24", "node@22"]
AIDER = "aider-chat==0.86.2"
RUN_LIMIT = 240

NOTES = "pear\napple\nquince\n"
SORTED = "apple\npear\nquince\n"
COMMAND = "sort notes.txt > sorted.txt && wc -l < sorted.txt"
DONE = "The notes are written, sorted and checked: three lines, apple first."
TASK = "Write pear, apple and quince into notes.txt, a line each; sort them into sorted.txt; check the result."


def install():
    """The folder with the programs; ends the test when npm cannot bring them."""
    folder = pathlib.Path(os.environ.get("AGENTS", ROOT / "build" / "agents"))
    if not (folder / "node_modules" / ".bin" / "qwen").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}\n')
        print(f"installing {', '.join(PACKAGES)} from npm", flush=True)
        done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", *PACKAGES], cwd=folder, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        if done.returncode:
            sys.exit(f"npm install failed:\n{done.stdout}\n0 passed, 1 failed")
    return folder / "node_modules" / ".bin"


class Outside:
    """A proxy that leads nowhere and notes who wanted to go there."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.asked = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                peer, _ = self.socket.accept()
            except OSError:
                return
            with peer:
                peer.settimeout(5)
                try:
                    self.asked.append(peer.recv(4096).split(b"\r\n")[0].decode(errors="replace"))
                    peer.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                except OSError:
                    pass

    def close(self):
        self.socket.close()


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))


class Agent:
    """One CLI. `dialect` is the one it speaks; tools: the names and arguments by which the script has it write, run and read.
    `page` is where its set-up is read: docs/clients.md, or README.md."""
    name = dialect = program = ""
    page = "docs/clients.md"
    in_readme = True

    def path(self, programs):
        """The program; None, and said, where it cannot be had."""
        return programs / self.program

    def turns(self, work):
        """What the scripted model says, step by step."""
        return [
            {"text": "I write the notes first.", "tool_calls": [self.write(work / "notes.txt", NOTES)]},
            {"tool_calls": [self.run(COMMAND)]},
            {"text": DONE},
        ]

    def write(self, path, content):
        return {"name": "write", "arguments": {"path": str(path), "content": content}}

    def run(self, command):
        return {"name": "bash", "arguments": {"command": command}}

    def setup(self, home, work, url):
        """What the page says: its files, and the variables that are set. `quiet` adds what keeps it from asking a person, or the world."""
        self.form = Form(self.page, self.name, self.program, url)
        for name, text in self.form.files.items():
            file = home / name[2:] if name.startswith("~/") else work / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return {**self.form.env, **self.quiet(home)}

    def quiet(self, home):
        return {}

    def words(self):
        """Its command: the page's, and what is between that and one that needs nobody."""
        raise NotImplementedError


class ClaudeCode(Agent):
    name, dialect, program = "Claude Code", "messages", "claude"

    def write(self, path, content):
        return {"name": "Write", "arguments": {"file_path": str(path), "content": content}}

    def run(self, command):
        return {"name": "Bash", "arguments": {"command": command, "description": "Sort the notes"}}

    def quiet(self, home):
        return {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "IS_SANDBOX": "1"}

    def words(self):
        return self.form.start(TASK, "-p", "--permission-mode", "bypassPermissions", TASK)


class Codex(Agent):
    name, dialect, program = "Codex", "responses", "codex"

    def write(self, path, content):
        return {"name": "exec_command", "arguments": {"cmd": f"printf '%s' '{content}' > {path}"}}

    def run(self, command):
        return {"name": "exec_command", "arguments": {"cmd": command}}

    def words(self):
        return self.form.start(TASK, "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", TASK)


class OpenCode(Agent):
    name, dialect, program = "OpenCode", "chat", "opencode"

    def write(self, path, content):
        return {"name": "write", "arguments": {"filePath": str(path), "content": content}}

    def run(self, command):
        return {"name": "bash", "arguments": {"command": command, "description": "Sorts the notes"}}

    def quiet(self, home):
        return {"OPENCODE_CONFIG_CONTENT": json.dumps({"autoupdate": False, "share": "disabled", "permission": "allow", "enabled_providers": ["perdure"]}),
                "OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
                "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1", "OPENCODE_DISABLE_CLAUDE_CODE": "1"}

    def words(self):
        return self.form.start(TASK)


class GeminiCli(Agent):
    name, dialect, program = "Gemini CLI", "gemini", "gemini"

    def write(self, path, content):
        return {"name": "write_file", "arguments": {"file_path": str(path), "content": content}}

    def run(self, command):
        return {"name": "run_shell_command", "arguments": {"command": command, "description": "Sort the notes"}}

    def quiet(self, home):
        file = home / ".gemini/settings.json"
        said = json.loads(file.read_text()) if file.exists() else {}
        write_json(file, {**said, "privacy": {"usageStatisticsEnabled": False}, "general": {"enableAutoUpdate": False}})
        return {"GEMINI_CLI_TRUST_WORKSPACE": "true"}

    def words(self):
        return self.form.start(TASK, "--yolo", "-p", TASK)


class Pi(Agent):
    name, dialect, program = "pi", "messages", "pi"
    in_readme = False

    def words(self):
        return self.form.start(TASK, "-p", TASK)


class QwenCode(Agent):
    name, dialect, program = "Qwen Code", "chat", "qwen"
    in_readme = False

    def write(self, path, content):
        return {"name": "write_file", "arguments": {"file_path": str(path), "content": content}}

    def run(self, command):
        return {"name": "run_shell_command", "arguments": {"command": command, "is_background": False, "description": "Sort the notes"}}

    def words(self):
        return self.form.start(TASK, "--yolo", "-p", TASK)


class Aider(Agent):
    """It has no tools: the model answers with whole files. It comes from PyPI, into an environment of its own beside the others."""
    name, dialect, program = "aider", "chat", "aider"

    def path(self, programs):
        venv = programs.parent.parent / "aider"
        if not (venv / "bin" / "aider").exists():
            print(f"installing {AIDER} from PyPI", flush=True)
            for command in ([sys.executable, "-m", "venv", venv], [venv / "bin/pip", "install", "--quiet", AIDER]):
                done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                if done.returncode:
                    print(f"NOT RUN  aider: {AIDER} cannot be installed for {sys.version.split()[0]}: {done.stdout.strip().splitlines()[-1:]}")
                    return None
        return venv / "bin" / "aider"

    def turns(self, work):
        # it shows the model examples, which are no steps of this
        return [{"match": TASK, "text": f"{DONE}\n\nnotes.txt\n```\n{NOTES}```\n\nsorted.txt\n```\n{SORTED}```\n"}]

    def words(self):
        return self.form.start(TASK, "--yes-always", "--edit-format", "whole", "--no-git", "--no-check-update", "--analytics-disable", "--no-show-model-warnings",
                               "--no-suggest-shell-commands", "--message", TASK)


class Crush(Agent):
    name, dialect, program = "Crush", "chat", "crush"

    def path(self, programs):
        found = os.environ.get("CRUSH") or shutil.which("crush")
        if not found:
            print("NOT RUN  Crush: there is no crush here (CRUSH=FILE names one)")
        return found and pathlib.Path(found)

    def write(self, path, content):
        return {"name": "write", "arguments": {"file_path": str(path), "content": content}}

    def run(self, command):
        return {"name": "bash", "arguments": {"command": command, "description": "Sort the notes"}}

    def setup(self, home, work, url):
        """It refuses a provider that both of its files name: the README's crushrc is tried, which is docs/clients.md's too, and that one's crush.json."""
        said = super().setup(home, work, url)
        if "crush.json" in self.form.files:
            (work / "crushrc").unlink()
        return said

    def quiet(self, home):
        return {"CRUSH_DISABLE_METRICS": "1", "CRUSH_DISABLE_PROVIDER_AUTO_UPDATE": "1", "DO_NOT_TRACK": "1"}

    def words(self):
        return self.form.start(TASK)


AGENTS = [ClaudeCode(), Codex(), OpenCode(), GeminiCli(), Pi(), QwenCode()]
ALL_AGENTS = [*AGENTS, Aider(), Crush()]


def environment(programs, home, work, outside, url, agent):
    proxy, local = f"http://127.0.0.1:{outside.port}", "127.0.0.1,localhost,::1"
    common = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(home), "LANG": "C.UTF-8", "TERM": "dumb", "XDG_CONFIG_HOME": str(home / ".config"),
              "XDG_DATA_HOME": str(home / "data"), "XDG_CACHE_HOME": str(home / "cache"), "XDG_STATE_HOME": str(home / "state"),
              "HTTPS_PROXY": proxy, "HTTP_PROXY": proxy, "https_proxy": proxy, "http_proxy": proxy, "NO_PROXY": local, "no_proxy": local}
    return {**common, **agent.setup(home, work, url)}


def run(programs, folder, outside, url, agent, work, limit=RUN_LIMIT):
    """Runs the agent on TASK in `work`; a finished process, or one with returncode None that took too long."""
    home = folder / "home"
    home.mkdir()
    env = environment(programs, home, work, outside, url, agent)
    command = [str(agent.path(programs)), *agent.words()[1:]]
    # a group of its own: some CLIs are started by another program, and would outlive it
    one = subprocess.Popen(command, cwd=work, env=env, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           start_new_session=True)
    returncode = None
    try:
        said = one.communicate(timeout=limit)
        returncode = one.returncode
    except subprocess.TimeoutExpired:
        os.killpg(one.pid, signal.SIGKILL)
        said = one.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, returncode, *said)
