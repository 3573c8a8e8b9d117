"""Tools: their versions, and whether they work."""

from gateway.console.named import Named

ROUTES = Named("tools", "tool").routes()
