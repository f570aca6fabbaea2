"""The JSON Schema of ``report.json``, made from its types and shipped beside this file so that others can validate without them.

``python -m chaos.evidence.schema`` writes it again after a change of :mod:`chaos.evidence.model`; a test fails while the two differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from chaos.evidence.model import SCHEMA, Report

SCHEMA_FILE = Path(__file__).with_name("drill-1.json")


def report_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a report, from :class:`~chaos.evidence.model.Report`."""
    made = msgspec.json.schema(Report)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:{SCHEMA.replace('/', ':')}", "title": SCHEMA}
    return head | made


def schema_text() -> str:
    """What the shipped file must hold."""
    return msgspec.json.format(msgspec.json.encode(report_schema()), indent=1).decode() + "\n"
