-- Neurons whose graphs are right and fall into parts that share no context: they may stand for several things.
SELECT layer, neuron, graph_components(graph) AS parts, patterns, f1
FROM toy.graphs
WHERE f1 > 0.8
ORDER BY parts DESC, layer, neuron
LIMIT 20;
