"""Measuring: the history of a drill, the workload process that writes it, and the arithmetic that turns it into a verdict.

``history``, ``reader``, ``columns``: the file and its contents. ``stream``, ``outage``, ``figures``, ``rpo``, ``judge``: pure
arithmetic. ``live``: the same while the drill still runs. ``workload``, ``worker``: the process that does the operations. Nothing
here knows pytest, an environment or a fault.
"""
