-- Neuron2Graph (arXiv 2305.19911): polysemantic neurons, whose graphs fall into parts that share no context. The paper
-- shows one of three languages in layer 3. Found: 50 and 113 graphs of layers 0 and 1 have three parts or more, and
-- those of layer 1 are less well explained. A part may be one node, which the paper would not count.
SELECT layer, count(*) AS graphs,
       count(*) FILTER (WHERE parts = 1) AS of_one_part,
       count(*) FILTER (WHERE parts = 2) AS of_two,
       count(*) FILTER (WHERE parts >= 3) AS of_three_or_more,
       avg(f1) FILTER (WHERE parts = 1) AS f1_of_one,
       avg(f1) FILTER (WHERE parts >= 3) AS f1_of_three_or_more
FROM (SELECT layer, f1, graph_components(graph) AS parts FROM toy.graphs WHERE method = 'neuroql' AND graph IS NOT NULL)
GROUP BY layer
ORDER BY layer;
