"""The schema's steps, each applied once and in order."""
