-- Neurons of different layers that do nearly the same, by the patterns of their graphs.
SELECT layer, neuron, other_layer, other_neuron, similarity
FROM similar_pairs('toy', 0.1)
WHERE layer <> other_layer
ORDER BY similarity DESC, layer, neuron, other_neuron
LIMIT 20;
