"""The swarm: hivemind daemon, streams, DHT records and blob transfer."""
