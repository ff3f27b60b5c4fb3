"""What watches the system: Prometheus' rules, Alertmanager's routes and Grafana's dashboards with the code that writes them."""
