"""What is published as policies, looked at before any engine is asked: it has to be one package, and to decide by its input alone.

An OPA server holds many versions at once, each as one module in a package of its own. So modules are joined for it, line by line, and
a line of what was joined is traced back to where it was written.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ops.rego import Policies

PACKAGE = "soma.gate"
ANSWER = "soma_answer"
"""The rule of a joined module that holds the decision: a list of it, which is empty where the policies leave it undefined."""
OUTSIDE = ("http.send", "net.lookup_ip_addr", "opa.runtime", "rand.intn", "time.now_ns", "uuid.rfc4122")
"""Functions that tell what the input does not: the same question would not get the same answer again, or the gate's own secrets would."""
_OUTSIDE = re.compile("|".join(rf"\b{space}\s*(?:\.|\[\s*[\"`])\s*{name}\b" for space, name in (each.split(".") for each in OUTSIDE)))
_PACKAGE = re.compile(r"\s*package\s+(\S+)\s*(?:#.*)?")
_IMPORT = re.compile(r"import\s+\S+")
_ABSOLUTE = re.compile(r"\bdata\s*\.\s*soma\s*\.\s*gate\b")


class Fault(NamedTuple):
    """What is wrong, and where: a file, and its line and column from 1, where they are known."""

    file: str
    line: int | None
    column: int | None
    problem: str

    @property
    def place(self) -> str:
        """As compilers write it: `gate.rego:2:13`."""
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)


class Unusable(ValueError):
    """These policies cannot be used."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("The policies cannot be compiled: " + "; ".join(f"{fault.place}: {fault.problem}" for fault in faults))
        self.faults = faults


def check(policies: Policies) -> None:
    """Whether they have the form of what may be published; nothing is compiled. Raises Unusable."""
    faults = [fault for name, text in policies.modules.items() for fault in _wrong(name, text)]
    soma = policies.data.get("soma", {})
    if set(policies.data) - {"soma"} or not isinstance(soma, dict) or "gate" in soma:
        faults.append(Fault("data.json", None, None, f"The data lies under `soma`, and nothing of it under `{PACKAGE}`."))
    if faults:
        raise Unusable(faults)


class Joined(NamedTuple):
    """One module that says what all of them do. `places`: where each of its lines was written."""

    text: str
    places: list[tuple[str, int] | None]

    def fault(self, line: int, column: int | None, problem: str) -> Fault:
        """What is wrong in a line of it, counted from 1. What was left open in the last file is noticed behind it."""
        written = [place for place in self.places[:line] if place]
        file, number = written[-1] if written else ("policies", 1)
        return Fault(file, number, column, problem)


def join(policies: Policies, package: str, data: str) -> Joined:
    """The modules of `policies`, which were checked, in this package, and ANSWER. `data` is their document as JSON, which is Rego too."""
    lines = [
        (file, number, line) for file, text in policies.modules.items() for number, line in enumerate(_lines(text), 1)
    ]  # fmt: skip
    imports = {line.strip(): (file, number) for file, number, line in lines if _IMPORT.match(line)}
    heads = [_head(text) for text in policies.modules.values()]
    first = dict(zip(policies.modules, heads, strict=True))
    written = [("" if _IMPORT.match(line) or number == first[file] else line, (file, number)) for file, number, line in lines]
    soma = f'[decided | decided := decision with data.soma as object.get({data}, "soma", {{}})]'
    joined: list[tuple[str, tuple[str, int] | None]] = [(f"package {package}", None), *imports.items(), *written]
    joined.append((f"{ANSWER} := {soma}", None))
    return Joined("\n".join(line for line, _ in joined) + "\n", [place for _, place in joined])


def _lines(text: str) -> list[str]:
    """Of Rego, whose lines end with a line feed alone."""
    return text.removesuffix("\n").split("\n")


def _head(text: str) -> int | None:
    """The line of the package's name: the first that is not empty, and no comment."""
    return next((number for number, line in enumerate(_lines(text), 1) if line.strip() and not line.lstrip().startswith("#")), None)


def _wrong(name: str, text: str) -> Iterator[Fault]:
    head, lines = _head(text), _lines(text)
    found = head and _PACKAGE.fullmatch(lines[head - 1])
    if not found or found[1] != PACKAGE:
        yield Fault(name, head or 1, None, f"The module has to begin with `package {PACKAGE}`, in a line of its own.")
    for number, line in ((number, line) for number, line in enumerate(lines, 1) if not line.lstrip().startswith("#")):
        if met := _OUTSIDE.search(line):
            yield Fault(name, number, met.start() + 1, f"{met[0]} is not for policies: they decide by their input and their data alone.")
        if met := _ABSOLUTE.search(line):
            yield Fault(name, number, met.start() + 1, f"Rules of `{PACKAGE}` are named without their package.")
        if re.search(rf"\b{ANSWER}\b", line):
            yield Fault(name, number, None, f"{ANSWER} is a name of the platform's own.")


_ERROR = re.compile(r"\(error \d+:(?P<file>[^|\n]*)\|(?P<offset>\d+)\|\d+\s*\(errormsg \d+:(?P<problem>[^\n]*?)\)\s*\(errorast")


def faults_of(error: str, modules: Mapping[str, str]) -> list[Fault]:
    """What the embedded compiler says (rego-cpp writes its errors as a tree, with offsets in bytes). At least one."""
    found = list(dict.fromkeys(_located(each, modules) for each in _ERROR.finditer(error)))
    return found or [Fault("policies", None, None, " ".join(error.split())[:500])]


def _located(error: "re.Match[str]", modules: Mapping[str, Any]) -> Fault:
    if error["file"] not in modules:
        return Fault(error["file"] or "policies", None, None, error["problem"])
    before = str(modules[error["file"]]).encode()[: int(error["offset"])].decode(errors="ignore")
    return Fault(error["file"], before.count("\n") + 1, len(before) - before.rfind("\n"), error["problem"])
