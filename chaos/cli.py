"""The command ``gameday``."""


def main() -> None:
    raise SystemExit("not yet")
