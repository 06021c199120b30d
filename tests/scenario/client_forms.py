"""How a page tells a client's user to set it up: the shell lines, the files and the command of its section, taken as they stand.

So that what is tried is what is written: tests/scenario/agents runs each agent with nothing else for its address and its model.
"""
import re
import shlex

from perdure_test import ROOT

ADDRESS = "http://127.0.0.1:8080"


def section(page, name):
    """Of docs/clients.md what stands below the title, of README.md the paragraphs that begin with **name**."""
    text = (ROOT / page).read_text()
    if page == "README.md":
        found = re.search(rf"^\*\*{re.escape(name)}\*\*(.*?)(?=^\*\*|^#)", text, re.M | re.S)
    else:
        found = re.search(rf"^## {re.escape(name)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert found, f"{page} has nothing on {name}"
    return found[1]


class Form:
    """env: what is exported; files: name -> text, in the order of the page; command: the words that start it, "..." where the task stands."""

    def __init__(self, page, name, program, url):
        self.env, self.files, self.command, self.where = {}, {}, [], f"{page}, {name}"
        named = ahead = None                          # the file that the next block is; what stands in a file that is named behind it
        text = section(page, name).replace(ADDRESS, url)
        assert ADDRESS not in text
        for part in re.split(r"(^```\w+\n.*?^```$|^(?: {4}[^\n]*\n)+|`[^`\n]+`)", text, flags=re.M | re.S):
            fenced = re.fullmatch(r"```(\w+)\n(.*?)```", part, re.S)
            inline = re.fullmatch(r"`([^`\n]+)`", part)
            if fenced and (fenced[1] not in ("sh", "bash") or str(named).endswith("rc") and named not in self.files):
                assert named, f"{self.where}: no file is named for its {fenced[1]}"
                self.files.setdefault(named, fenced[2])
            elif inline and re.fullmatch(r"[\w~./-]+(\.json|\.toml|rc)", inline[1]):
                named = inline[1]
                if ahead:                             # `{...}` in `file`
                    self.files.setdefault(named, ahead)
                ahead = None
            elif inline and inline[1].startswith("{"):
                ahead = inline[1]
            elif fenced or inline or part.startswith("    "):
                for line in (fenced[2] if fenced else inline[1] if inline else part).splitlines():
                    self.shell(line, program)

    def shell(self, line, program):
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            return
        if words[:1] == ["export"]:
            words = words[1:]
        while words and re.match(r"[A-Z][A-Z0-9_]*=", words[0]):
            name, _, value = words.pop(0).partition("=")
            self.env.setdefault(name, value)
        if words[:1] == [program] and len(words) > len(self.command):
            self.command = words

    def start(self, task, *more):
        """The command with the task where the page has dots; else with `more`, which says it in the client's own way."""
        assert self.command, f"{self.where}: no command"
        return [task if w == "..." else w for w in self.command] if "..." in self.command else [*self.command, *more]
