"""A probe of attention alone: which word is the head of a word (Clark et al. 2019, section 5)."""
