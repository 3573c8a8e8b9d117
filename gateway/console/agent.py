"""Agents: the terms that sessions begin with."""

from gateway.console.named import Named

ROUTES = Named("agents", "agent").routes()
