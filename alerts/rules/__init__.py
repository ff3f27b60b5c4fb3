"""Rules: what a person wants to hear of, over events of the bus and figures of the processes (config/alerts.yaml)."""
