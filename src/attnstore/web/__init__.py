"""The explorer: pages over a store in a browser, rendered here, drawn there."""
