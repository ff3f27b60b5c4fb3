"""What every process needs: settings, logs, metrics, health, lifecycle, clock, durable files. Knows no other room of ours."""
