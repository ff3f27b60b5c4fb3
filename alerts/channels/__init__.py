"""Ways out by HTTP: a webhook of one's own, Discord, Slack. Telegram has a room of its own."""
