"""Networks a sweep may choose, each with a width multiplier; torch is imported only when one is built."""

from search_spaces.networks.registry import (
    NetworkEntry,
    build_network,
    check_network,
    describe_network,
    network_names,
)

__all__ = ["NetworkEntry", "build_network", "check_network", "describe_network", "network_names"]
