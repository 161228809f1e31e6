"""Amazon Bedrock: `BedrockChat`, a chat model over boto3's Converse, one request a call."""

from .chat import BedrockChat

__all__ = ["BedrockChat"]
