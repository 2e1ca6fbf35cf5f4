"""Votes of people, in a database: what is asked, who may answer, and what they said."""
