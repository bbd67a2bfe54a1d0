"""Adapters of the ports: event store, NATS, Redis or Valkey, servers from wheels, settings."""
