"""Figures that the framework must reach, measured. Run by ``make bench``; not part of the wheel."""
