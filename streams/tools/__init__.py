"""Tools at work: what runs one call, whatever kind of tool it is of. Knows nothing of Kafka."""
