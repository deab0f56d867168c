-- Languages by their word order, to stand beside what is asked of a dataset's runs (datasets.language).

CREATE VIEW languages AS
SELECT "language", iso, name, word_order, word_order = 'SOV' AS verb_final
FROM (VALUES
    ('ar', 'ara', 'Arabic', 'VSO'), ('bg', 'bul', 'Bulgarian', 'SVO'), ('cs', 'ces', 'Czech', 'SVO'), ('cy', 'cym', 'Welsh', 'VSO'),
    ('da', 'dan', 'Danish', 'SVO'), ('de', 'deu', 'German', 'none'), ('en', 'eng', 'English', 'SVO'), ('es', 'spa', 'Spanish', 'SVO'),
    ('et', 'est', 'Estonian', 'SVO'), ('eu', 'eus', 'Basque', 'SOV'), ('fa', 'fas', 'Persian', 'SOV'), ('fi', 'fin', 'Finnish', 'SVO'),
    ('fr', 'fra', 'French', 'SVO'), ('ga', 'gle', 'Irish', 'VSO'), ('hi', 'hin', 'Hindi', 'SOV'), ('hu', 'hun', 'Hungarian', 'none'),
    ('id', 'ind', 'Indonesian', 'SVO'), ('it', 'ita', 'Italian', 'SVO'), ('ja', 'jpn', 'Japanese', 'SOV'), ('ko', 'kor', 'Korean', 'SOV'),
    ('nl', 'nld', 'Dutch', 'none'), ('pl', 'pol', 'Polish', 'SVO'), ('pt', 'por', 'Portuguese', 'SVO'), ('ro', 'ron', 'Romanian', 'SVO'),
    ('ru', 'rus', 'Russian', 'SVO'), ('sv', 'swe', 'Swedish', 'SVO'), ('ta', 'tam', 'Tamil', 'SOV'), ('te', 'tel', 'Telugu', 'SOV'),
    ('tr', 'tur', 'Turkish', 'SOV'), ('uk', 'ukr', 'Ukrainian', 'SVO'), ('ur', 'urd', 'Urdu', 'SOV'), ('vi', 'vie', 'Vietnamese', 'SVO'),
    ('zh', 'zho', 'Chinese', 'SVO')
) AS word_orders("language", iso, name, word_order);
COMMENT ON VIEW languages IS 'One row per language: its dominant order of subject, object and verb, after Dryer 2013 (feature 81A of the World Atlas of Language Structures, wals.info/feature/81A; of Arabic the modern standard, of Chinese Mandarin). How free the order is, it does not say: language_summary measures that in the texts.';
COMMENT ON COLUMN languages."language" IS 'Code as in names of treebanks: ISO 639-1';
COMMENT ON COLUMN languages.iso IS 'Code of ISO 639-3';
COMMENT ON COLUMN languages.name IS 'Name in English';
COMMENT ON COLUMN languages.word_order IS 'SOV, SVO, VSO, or none where no order dominates';
COMMENT ON COLUMN languages.verb_final IS 'True where the verb comes last: SOV';

CREATE VIEW run_languages AS
SELECT r.run, r.dataset, coalesce(l."language", d."language") AS "language", l.name, l.word_order, l.verb_final
FROM runs r JOIN datasets d USING (dataset)
LEFT JOIN languages l ON d."language" IN (l."language", l.iso);
COMMENT ON VIEW run_languages IS 'One row per run: the language of its texts. NULL where the dataset has none, or languages does not know it.';
COMMENT ON COLUMN run_languages.run IS 'Run';
COMMENT ON COLUMN run_languages.dataset IS 'Dataset';
COMMENT ON COLUMN run_languages."language" IS 'Language as in languages, else as the dataset has it';
COMMENT ON COLUMN run_languages.name IS 'Name in English';
COMMENT ON COLUMN run_languages.word_order IS 'SOV, SVO, VSO, or none where no order dominates';
COMMENT ON COLUMN run_languages.verb_final IS 'True where the verb comes last';
