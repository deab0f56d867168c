"""The figures of Kovaleva et al. 2019, and the report that collects them."""
