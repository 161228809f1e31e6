"""Model calls, tools, and the agent primitives."""
