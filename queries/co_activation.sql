-- Neurons that rise and fall together over the first documents of the corpus.
SELECT layer, neuron, other_layer, other_neuron, correlation
FROM correlations(model => 'toy', documents => 4, k => 1, sign => 'positive')
WHERE (layer, neuron) < (other_layer, other_neuron)
ORDER BY correlation DESC
LIMIT 20;
