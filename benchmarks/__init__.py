"""What things cost on this machine; ratios of runs side by side, since figures move between runs."""
