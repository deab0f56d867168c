"""Keeping a store in order and taking it elsewhere: orphans, copies, exports."""
