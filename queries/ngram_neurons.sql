-- N-gram neurons: few activators, and contexts of one or two tokens right before them.
SELECT n.layer, n.neuron, max(n.depth) + 1 AS n, count(*) FILTER (WHERE n.kind = 'activator') AS activators,
       min(g.f1) AS f1
FROM toy.graph_nodes n JOIN toy.graphs g ON (g.layer, g.neuron, g.method) = (n.layer, n.neuron, n.method)
GROUP BY n.layer, n.neuron, n.method
HAVING max(n.depth) BETWEEN 1 AND 2
ORDER BY f1 DESC, n.layer, n.neuron
LIMIT 20;
