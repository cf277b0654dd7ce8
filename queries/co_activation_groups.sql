-- Groups of neurons that fire on the same tokens of the first documents of the corpus.
SELECT component, count(*) AS neurons, count(DISTINCT layer) AS layers,
       string_agg(layer || ':' || neuron, ' ' ORDER BY page_rank DESC) AS members
FROM neuron_graph('toy', 'coactivation', 0.3, documents => 20, fires_above => 0.1)
GROUP BY component
HAVING count(*) > 1
ORDER BY neurons DESC, component
LIMIT 20;
