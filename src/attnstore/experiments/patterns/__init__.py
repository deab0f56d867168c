"""The five pattern classes of Kovaleva et al. 2019: labels, the network, classification."""
