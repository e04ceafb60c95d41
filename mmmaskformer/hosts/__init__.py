"""Subclasses of the hosts' classes, hooks and checks; a module of a host is imported only if that host is installed."""
