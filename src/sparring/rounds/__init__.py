"""The stages of a round, the run's state machine, and the store on disk."""
