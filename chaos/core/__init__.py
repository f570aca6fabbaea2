"""Vocabulary without I/O: errors, clock, durations and the frozen data that every layer above speaks."""
