"""The functions behind the command line: trained models outside a runner, and the hosts' scripts without mim."""
