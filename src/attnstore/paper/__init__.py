"""The figures of papers about attention, and the report that collects them by paper."""
