"""The synthetic scenes: what is in them, how they are painted, and their files on disk."""
