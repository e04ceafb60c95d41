"""Heads for the models of MMSegmentation and MMDetection, which connect the core to the hosts."""
