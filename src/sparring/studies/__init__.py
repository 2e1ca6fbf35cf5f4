"""Several methods and seeds trained and compared as one resumable command."""
