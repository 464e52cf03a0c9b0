"""The public API as generated from protos/hindcast/v1 (`make proto`); the one part of the server that clients import."""
