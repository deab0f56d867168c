"""Attention heads in several languages: the first open question of Kovaleva et al. 2019, over treebanks.

    python -m studies.languages --data FOLDER --out FOLDER

docs/study-languages.md has the results. `texts` divides the treebanks, `small_bert` trains a model on them,
`packaged_model` unpacks a multilingual one, `asking` fills a store and asks it, `drawing` draws the figure.
"""
