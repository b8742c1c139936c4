"""The promotion of versions."""
