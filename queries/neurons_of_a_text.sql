-- Which neurons does a text excite most, relative to their maximum, and do their graphs see it coming?
SELECT t.layer, t.neuron, t.token, t.activation / n.max_activation AS share,
       array_max(simulate(g.graph, tokenize('toy', 'import numpy as np'))) AS predicted
FROM top_neurons('toy', 'import numpy as np', 1000) t
JOIN toy.neurons n ON (n.layer, n.neuron) = (t.layer, t.neuron)
JOIN toy.graphs g ON (g.layer, g.neuron) = (t.layer, t.neuron)
ORDER BY share DESC
LIMIT 20;
