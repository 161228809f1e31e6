"""Prompt templates with typed inputs."""
