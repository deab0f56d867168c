"""What the heads of MiniLM do, on tasks of GLUE and over corpora: every analysis of the library, in one study.

    make study GLUE=FOLDER UD=FOLDER GAP=FOLDER FRAMENET=FOLDER

docs/study-minilm.md and docs/claims.md have the results. `grid` says what is trained and run, `filling` does it with the verbs
of the library, `asking` and `answers` put the questions to the store, `checking` computes some numbers again without it, `literature` and
`claims` hold them against the papers, and `pages` writes both pages from the file of all numbers.
"""
