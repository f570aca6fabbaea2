"""The report of a drill that an auditor accepts, and every form of it.

What others use (import the module, not this package: a terminal summary needs neither numpy nor a template engine):

=====================================  ================================================================================
:mod:`chaos.evidence.paths`            ``run_directory``, ``drill_directory``, ``point_latest``: where evidence lies
:mod:`chaos.evidence.report`           ``write_report``, ``load_report``, ``render``: ``report.json`` and what is made from it
:mod:`chaos.evidence.terminal`         ``summary_dict``, ``render_summary``, ``plain_summary``: one screen of result
:mod:`chaos.evidence.distribution`     ``render_distribution``: what repeats say
:mod:`chaos.evidence.junit`            ``properties``
:mod:`chaos.evidence.html_extras`      ``summary_cells``, ``row_html``: for pytest-html
:mod:`chaos.evidence.schema`           the JSON Schema of ``report.json``
=====================================  ================================================================================
"""
