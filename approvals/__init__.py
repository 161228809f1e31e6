"""Asking people: Slack, email and web."""
