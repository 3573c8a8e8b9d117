"""Decides a history again with the code of one tree: `python replay_child.py TREE HISTORY`, a line of JSON for each entry.

It runs in a process of its own, with TREE before everything else on its path, because two versions of a module do not fit into one
process; and it is run by this release whatever the other one is, so that both are asked alike. Nothing of it needs a server.

A line is `{"decided", "recorded", "fold", "waits", "problem"}`: the decision and the record, as this tree writes them (null where there is
nothing to decide again), the digest of the state after the record, what that state waits for, and why the entry could not be taken.
"""

import gzip
import hashlib
import importlib
import json
import sys
from pathlib import Path
from typing import Any

OUTSIDE = frozenset({"misrouted", "too_large", "unreadable", "untimely"})
"""Refusals that are not of a decider: of where a command came from, of its bytes, of how they are written."""


class Partition:
    """The aggregates of one noun in one partition."""

    def __init__(self, tree: Any, noun: str) -> None:
        self._msgspec, self._tree = tree.msgspec, tree
        self._noun = tree.noun(noun)
        self._aggregates: dict[str, Any] = {}
        self._broken: dict[str, str] = {}
        self._offset = 0

    def take(self, entry: dict[str, Any]) -> dict[str, Any]:
        events = [self._msgspec.convert(event, self._noun.event) for event in entry["events"]]
        id = events[0].meta.aggregate_id
        if id in self._broken:
            return {"problem": self._broken[id]}
        aggregate = self._aggregates.get(id) or self._tree.aggregate.Aggregate(self._noun.initial)
        bodies = [event.body for event in events]
        answer: dict[str, Any] = {"recorded": self._plain(bodies)}
        if entry["command"] is not None and getattr(bodies[0], "code", None) not in OUTSIDE:
            command = self._msgspec.convert(entry["command"], self._noun.command)
            answer["decided"] = self._plain(self._decide(aggregate, command))
        try:
            for event in events:
                aggregate.apply(event, self._offset, self._noun)
                self._offset += 1
        except Exception as error:  # noqa: BLE001 - whatever the other code makes of it is what was asked for
            self._broken[id] = f"after this record nothing of {id} can be folded: {type(error).__name__}: {error}"
            return {**answer, "problem": self._broken[id]}
        self._aggregates[id] = aggregate
        return {**answer, **self._state(aggregate.state)}

    def _decide(self, aggregate: Any, command: Any) -> list[Any]:
        if refused := aggregate.refusal(command, self._noun):
            return [refused]
        try:
            decided = self._noun.decide(aggregate.state, command)
        except Exception as error:  # noqa: BLE001 - as above
            return [{"type": "raised", "error": f"{type(error).__name__}: {error}"}]
        if isinstance(decided, list):
            return decided
        known = getattr(decided, "charged", False)  # a release before it had no such word
        billed = None if known else self._tree.aggregate.billed(command)
        return [self._tree.common.Refused(code=decided.code, reason=decided.reason, usage=billed)]

    def _state(self, state: Any) -> dict[str, Any]:
        plain = json.dumps(self._plain(state)).encode()
        due = self._noun.due(state)
        waits = {"situation": type(state).__name__, "due": due and due.isoformat(), "effect": self._plain(self._noun.outstanding(state))}
        return {"fold": hashlib.blake2b(plain, digest_size=16).hexdigest(), "waits": waits}

    def _plain(self, value: Any) -> Any:
        return self._msgspec.to_builtins(value)


class Tree:
    """The modules of one tree."""

    def __init__(self, root: Path) -> None:
        sys.path.insert(0, str(root))
        self.msgspec = importlib.import_module("msgspec")
        self.common = importlib.import_module("schemas.types.common")
        self.aggregate = importlib.import_module("streams.aggregate")
        for module in (self.common, self.aggregate):
            assert Path(str(module.__file__)).is_relative_to(root), f"{module.__file__} is not of {root}"

    def noun(self, name: str) -> Any:
        return getattr(importlib.import_module(f"streams.{name}"), name.upper())

    def forms(self, nouns: set[str]) -> dict[str, str | None]:
        """What the states of each noun look like; None where this tree has no such noun."""
        found: dict[str, str | None] = {}
        for name in sorted(nouns):
            try:
                noun = self.noun(name)
            except (ImportError, AttributeError):
                found[name] = None
                continue
            found[name] = json.dumps(self.msgspec.json.schema(noun.state), sort_keys=True)
        return found


def main(root: Path, history: Path) -> None:
    """First a line with the form of each noun's states, then a line an entry."""
    tree = Tree(root)
    with gzip.open(history) as lines:
        forms = tree.forms({json.loads(line)["noun"] for line in lines})
    sys.stdout.write(json.dumps(forms) + "\n")
    partitions: dict[tuple[str, int], Partition] = {}
    with gzip.open(history) as lines:
        for line in lines:
            entry = json.loads(line)
            sys.stdout.write(json.dumps(_answer(tree, forms, partitions, entry)) + "\n")


def _answer(
    tree: Tree, forms: dict[str, str | None], partitions: dict[tuple[str, int], Partition], entry: dict[str, Any]
) -> dict[str, Any]:
    noun, number = entry["noun"], entry["partition"]
    if forms[noun] is None:
        return {"problem": f"this tree knows no {noun}"}
    if (noun, number) not in partitions:
        partitions[noun, number] = Partition(tree, noun)
    try:
        return partitions[noun, number].take(entry)
    except tree.msgspec.ValidationError as error:
        return {"problem": f"this tree cannot read it: {error}"}


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
