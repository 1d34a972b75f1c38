"""The checks of `check-config`: a module for each area."""
