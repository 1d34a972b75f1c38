"""The HTTP side of the service, from the socket to the use cases."""
