-- Explanations to distrust: graphs that are right on activating examples but fire on random text where the neuron does
-- not.
SELECT layer, neuron, f1, precision, random_precision, nodes
FROM toy.graphs
WHERE f1 > 0.7 AND random_precision < 0.5
ORDER BY random_precision, f1 DESC
LIMIT 20;
