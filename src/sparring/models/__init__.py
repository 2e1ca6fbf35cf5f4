"""Models as files: where weights come from, chat templates, and the only place that turns text into tokens."""
