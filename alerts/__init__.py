"""What a person should know, and what a person may say: rules, channels, Telegram."""
