"""The five pattern classes: pictures of maps, labels, the network, its training, classification."""
