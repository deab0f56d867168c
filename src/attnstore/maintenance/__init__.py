"""Keeping a store sound and taking it elsewhere: verify, gc, copy, export."""
