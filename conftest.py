"""The systems under drill that this repository brings, and pytest's own helper for testing plugins; ours is loaded by its entry point."""

pytest_plugins = ["fixtures.postgres", "fixtures.webstack.plugin", "fixtures.backups.plugin", "fixtures.monitoring.plugin", "pytester"]
