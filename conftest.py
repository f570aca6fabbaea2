"""The systems under drill that this repository brings, and pytest's own helper for testing plugins; ours is loaded by its entry point."""

pytest_plugins = ["fixtures.postgres", "pytester"]
