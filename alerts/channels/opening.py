"""Which HTTP channels there are: those that are enabled and whose secret URL is set."""

from __future__ import annotations

from collections.abc import Mapping

from alerts.channels import discord, slack, webhook
from alerts.channels.discord import Discord
from alerts.channels.guarded_post import BadAddress, GuardedPost
from alerts.channels.slack import Slack
from alerts.channels.webhook import Webhook
from common_models import AlertLevel
from runtime.secrets import SecretError, optional_secret
from runtime.service import ServiceError
from runtime.settings import AlertsSettings

HttpChannel = Webhook | Discord | Slack
KINDS: tuple[type[HttpChannel], ...] = (Webhook, Discord, Slack)


def secret_name(channel: str) -> str:
    """The environment variable with a channel's URL; with _FILE behind it, the one with the file's name."""
    return "ALERTS_WEBHOOK_URL" if channel == webhook.NAME else f"ALERTS_{channel.upper()}_URL"


def open_channels(settings: AlertsSettings, environ: Mapping[str, str] | None = None) -> list[tuple[HttpChannel, AlertLevel]]:
    """The channels and the lowest level that each wants, in the order in which they stand in for each other.

    Raises ServiceError when a secret is there and cannot be used.
    """
    found: list[tuple[HttpChannel, AlertLevel]] = []
    sections = {webhook.NAME: settings.webhook, discord.NAME: settings.discord, slack.NAME: settings.slack}
    for kind in KINDS:
        section, secret = sections[kind.name], secret_name(kind.name)
        try:
            url = optional_secret(secret, environ) if section.enabled else None
            if url is not None:
                post = GuardedPost(kind.name, url, private_addresses=section.private_addresses, timeout_s=section.timeout_s)
                found.append((kind(post), AlertLevel(section.min_level)))
        except (SecretError, BadAddress) as error:
            raise ServiceError(f"{secret}: {error}") from None
    return found
