"""Where the official SDKs are installed for scenarios that need them: build/sdk-matrix, kept, so that the next run is quick."""
import os
import pathlib
import re
import subprocess
import sys

STORE = pathlib.Path(__file__).resolve().parents[2] / "build" / "sdk-matrix"
NPM = ["openai@6", "@anthropic-ai/sdk@1", "@google/genai@2", "@aws-sdk/client-bedrock-runtime@3", "@mistralai/mistralai@2", "ollama@0.6", "ai@6",
       "@ai-sdk/openai@3", "@ai-sdk/anthropic@3", "@ai-sdk/google@3", "@ai-sdk/openai-compatible@2", "zod@4"]
PYPI = ["openai==3.*", "anthropic==2.*", "google-genai==3.*", "boto3==1.*", "mistralai==3.*", "ollama==0.6.*"]
PYTHON_MODULES = "openai, anthropic, google.genai, boto3, mistralai, ollama"


def run(*command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}\n0 passed, 1 failed")
    return done.stdout


def node_packages():
    """The folder whose node_modules has every one of NPM."""
    folder = STORE / "node"
    names = [re.sub(r"(?<=.)@.*", "", package) for package in NPM]
    if not all((folder / "node_modules" / name / "package.json").exists() for name in names):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}\n')
        print(f"installing {', '.join(NPM)} from npm", flush=True)
        run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *NPM, cwd=folder)
    return folder


def python_with_packages():
    """A Python that has every one of PYPI."""
    python = STORE / "venv" / "bin" / "python"
    if not python.exists() or subprocess.run([python, "-c", f"import {PYTHON_MODULES}"], stderr=subprocess.DEVNULL).returncode:
        print(f"installing {', '.join(PYPI)} from PyPI", flush=True)
        run(sys.executable, "-m", "venv", STORE / "venv")
        run(python, "-m", "pip", "install", "--quiet", *PYPI)
    return python


def clean_environment():
    """The environment without what SDKs read from it."""
    return {k: v for k, v in os.environ.items() if not re.search(r"_proxy$|^(OPENAI|ANTHROPIC|GOOGLE|GEMINI|AWS|OLLAMA|MISTRAL)_", k, re.I)}
