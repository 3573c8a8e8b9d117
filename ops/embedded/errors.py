"""What can go wrong with the embedded services. Each message says what happened and what to do.

EmbeddedError
├── FetchFailed   an archive could not be had as the lock describes it
├── NoJava        no Java runtime that is new enough
├── InUse         another process keeps its servers in this data directory
└── ServerFailed  a server ended by itself or did not become ready; with the last lines of its log
    └── PortInUse something else listens on its port
"""


class EmbeddedError(Exception):
    """The embedded services cannot be had."""


class FetchFailed(EmbeddedError):
    """An archive could not be had as the lock describes it."""


class NoJava(EmbeddedError):
    """No Java runtime that is new enough."""


class InUse(EmbeddedError):
    """Another process keeps its servers in this data directory."""


class ServerFailed(EmbeddedError):
    """A server ended by itself or did not become ready."""


class PortInUse(ServerFailed):
    """Something else listens on its port."""
