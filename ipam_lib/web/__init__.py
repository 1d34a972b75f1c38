"""What stands between the socket and the use cases: server, middlewares, body, specification, pages."""
