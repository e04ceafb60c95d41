"""The synthetic scenes: their content, how they are painted, and their files on disk."""
