"""Where the shards of a stage are made: in this process, or on the workers of a Ray cluster."""
