"""Studies: scripts that run the library end to end over real data, each for one page of docs/."""
