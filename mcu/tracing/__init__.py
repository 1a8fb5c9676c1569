"""From a torch module to a graph of operators: capture, canonical layers, lowering, proof."""
