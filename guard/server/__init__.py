"""The only asyncio code of the request path: HTTP in, HTTP out, admin port, lifecycle."""
