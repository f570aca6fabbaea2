"""Writes ``drill-1.json`` again."""

from chaos.evidence.schema import SCHEMA_FILE, schema_text

SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
