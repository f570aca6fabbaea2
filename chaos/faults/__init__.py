"""Faults: one a file, each frozen data with an undo.

See :mod:`chaos.faults.base` for the contract, :mod:`chaos.faults.noop` for the example."""
