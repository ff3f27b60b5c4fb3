"""Grafana's dashboards as code: `python -m monitoring.dashboards` writes `monitoring/grafana/dashboards/*.json`.

A development tool: no process of the system imports it.
"""
