-- Central neurons of the network of weights: those that feed, or are fed by, many others.
SELECT g.layer, g.neuron, g.neighbours, g.weight, g.page_rank, n.f1
FROM neuron_graph('toy', kind => 'weights', threshold => 0.3, k => 5) g
JOIN toy.neurons n ON (n.layer, n.neuron) = (g.layer, g.neuron)
ORDER BY g.page_rank DESC
LIMIT 20;
