"""The systems under drill that this repository brings; the plugin itself is loaded by its entry point."""

pytest_plugins = ["fixtures.postgres"]
