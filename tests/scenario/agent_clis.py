"""The agent CLIs that are run against perdure: where each comes from, how it is set up, what its tools are called.

All come from npm and are installed into build/agents (kept). Claude Code and Qwen Code want a newer Node than Debian has: npm's package `node`
brings one. Each runs in a home of its own and reaches nothing but this machine: its proxy leads nowhere and notes who asked.
"""
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = ["@anthropic-ai/claude-code@2", "@openai/codex@0.169", "opencode-ai@1", "@google/gemini-cli@0.61",
            "@mariozechner/pi-coding-agent@0.73", "@qwen-code/qwen-code@0.24", "node@22"]
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
    """One CLI. `dialect` is the one it speaks; tools: the names and arguments by which the script has it write, run and read."""
    name = dialect = ""

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

    def setup(self, home, url):
        """Files in its home; the environment it needs beside the common one."""
        raise NotImplementedError

    def command(self):
        raise NotImplementedError


class ClaudeCode(Agent):
    name, dialect = "Claude Code", "messages"

    def write(self, path, content):
        return {"name": "Write", "arguments": {"file_path": str(path), "content": content}}

    def run(self, command):
        return {"name": "Bash", "arguments": {"command": command, "description": "Sort the notes"}}

    def setup(self, home, url):
        return {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "any", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "IS_SANDBOX": "1"}

    def command(self):
        return ["claude", "-p", "--model", "coder", "--permission-mode", "bypassPermissions", TASK]


class Codex(Agent):
    name, dialect = "Codex", "responses"

    def write(self, path, content):
        return {"name": "exec_command", "arguments": {"cmd": f"printf '%s' '{content}' > {path}"}}

    def run(self, command):
        return {"name": "exec_command", "arguments": {"cmd": command}}

    def setup(self, home, url):
        (home / ".codex").mkdir()
        (home / ".codex/config.toml").write_text(   # as the README has it
            'model = "coder"\nmodel_provider = "perdure"\n'
            f'model_providers.perdure = {{name = "perdure", base_url = "{url}/v1", wire_api = "responses", env_key = "PERDURE_KEY"}}\n')
        return {"PERDURE_KEY": "any"}

    def command(self):
        return ["codex", "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", TASK]


class OpenCode(Agent):
    name, dialect = "OpenCode", "chat"

    def write(self, path, content):
        return {"name": "write", "arguments": {"filePath": str(path), "content": content}}

    def run(self, command):
        return {"name": "bash", "arguments": {"command": command, "description": "Sorts the notes"}}

    def setup(self, home, url):
        write_json(home / ".config/opencode/opencode.json", {
            "$schema": "https://opencode.ai/config.json", "autoupdate": False, "share": "disabled", "permission": "allow",
            "model": "perdure/coder", "small_model": "perdure/coder", "enabled_providers": ["perdure"],
            "provider": {"perdure": {"npm": "@ai-sdk/openai-compatible", "name": "perdure", "options": {"baseURL": f"{url}/v1", "apiKey": "none"},
                                     "models": {"coder": {"name": "coder"}}}}})
        return {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
                "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1", "OPENCODE_DISABLE_CLAUDE_CODE": "1"}

    def command(self):
        return ["opencode", "run", "-m", "perdure/coder", TASK]


class GeminiCli(Agent):
    name, dialect = "Gemini CLI", "gemini"

    def write(self, path, content):
        return {"name": "write_file", "arguments": {"file_path": str(path), "content": content}}

    def run(self, command):
        return {"name": "run_shell_command", "arguments": {"command": command, "description": "Sort the notes"}}

    def setup(self, home, url):
        write_json(home / ".gemini/settings.json", {"security": {"auth": {"selectedType": "gemini-api-key"}},
                                                    "privacy": {"usageStatisticsEnabled": False}, "general": {"enableAutoUpdate": False}})
        return {"GEMINI_API_KEY": "any", "GOOGLE_GEMINI_BASE_URL": url, "GEMINI_CLI_TRUST_WORKSPACE": "true"}

    def command(self):
        return ["gemini", "-m", "coder", "--yolo", "-p", TASK]


class Pi(Agent):
    name, dialect = "pi", "messages"

    def setup(self, home, url):
        write_json(home / ".pi/agent/models.json",
                   {"providers": {"perdure": {"baseUrl": url, "api": "anthropic-messages", "apiKey": "any", "models": [{"id": "coder"}]}}})
        return {}

    def command(self):
        return ["pi", "-p", "--provider", "perdure", "--model", "coder", TASK]


class QwenCode(Agent):
    name, dialect = "Qwen Code", "chat"

    def write(self, path, content):
        return {"name": "write_file", "arguments": {"file_path": str(path), "content": content}}

    def run(self, command):
        return {"name": "run_shell_command", "arguments": {"command": command, "is_background": False, "description": "Sort the notes"}}

    def setup(self, home, url):
        return {"OPENAI_API_KEY": "any", "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_MODEL": "coder"}

    def command(self):
        return ["qwen", "--auth-type", "openai", "--yolo", "-p", TASK]


AGENTS = [ClaudeCode(), Codex(), OpenCode(), GeminiCli(), Pi(), QwenCode()]


def environment(programs, home, outside, url, agent):
    proxy, local = f"http://127.0.0.1:{outside.port}", "127.0.0.1,localhost,::1"
    common = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(home), "LANG": "C.UTF-8", "TERM": "dumb", "XDG_CONFIG_HOME": str(home / ".config"),
              "XDG_DATA_HOME": str(home / "data"), "XDG_CACHE_HOME": str(home / "cache"), "XDG_STATE_HOME": str(home / "state"),
              "HTTPS_PROXY": proxy, "HTTP_PROXY": proxy, "https_proxy": proxy, "http_proxy": proxy, "NO_PROXY": local, "no_proxy": local}
    return {**common, **agent.setup(home, url)}


def run(programs, folder, outside, url, agent, work, limit=RUN_LIMIT):
    """Runs the agent on TASK in `work`; a finished process, or one with returncode None that took too long."""
    home = folder / "home"
    home.mkdir()
    env = environment(programs, home, outside, url, agent)
    # a group of its own: some CLIs are started by another program, and would outlive it
    one = subprocess.Popen(agent.command(), cwd=work, env=env, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
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
    return subprocess.CompletedProcess(agent.command(), returncode, *said)
