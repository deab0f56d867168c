"""The page where maps are labeled, mounted beside the explorer."""
