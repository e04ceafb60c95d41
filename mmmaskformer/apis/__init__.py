"""What users call: trained models outside a runner, and the hosts' scripts without mim."""
