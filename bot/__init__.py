"""The trading bot: events in, signals, decisions and order commands out. Entry point: `bot.event_loop.run`."""
