"""Small subclasses of the hosts' own classes, one module per host; each is imported only where its host is there."""
