SELECT n.neuron, n.tokens, n.mean, n.max_activation, n.min_activation, n.density, e.document, e.position, e.activation,
       g.method, g.nodes, g.reason
FROM small.neurons n
JOIN small.examples e USING (layer, neuron)
LEFT JOIN small.graphs g USING (layer, neuron)
WHERE n.layer = 0 AND e.rank = 1
ORDER BY n.neuron
