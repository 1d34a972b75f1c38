"""What `check-config` looks at: a module for each side of the service."""
