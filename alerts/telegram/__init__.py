"""Telegram: alerts out, commands in (docs/telegram.md). `service.open_telegram` makes it all; this file alone loads nothing."""
