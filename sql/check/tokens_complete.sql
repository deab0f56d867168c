-- title: An input of length L has L of everything that is said of its tokens
SELECT r.run, i.block,
       format('has {} inputs whose tokens are not as many as their length, first example {}',
              count(*), min(i.example)) AS what
FROM idx.core.inputs i
JOIN idx.core.runs r USING (run_key)
WHERE (len(tokens), len(token_ids), len(words), len(segments), len(starts), len("ends"), len(kinds),
       coalesce(len(type_ids), length), coalesce(len(texts), length))
      IS DISTINCT FROM (length, length, length, length, length, length, length, length, length)
GROUP BY r.run, i.block
ORDER BY r.run, i.block
