-- Neuron2Graph, table 1 (arXiv 2305.19911): precision, recall and F1 of firing on held-out text, by layer and method. The
-- paper, six layers of a SoLU model of the Pile: N2G F1 0.68 at layer 0 to 0.37 at layer 5, more recall than precision.
-- Found on all neurons of the toy (tests/bench/RESULTS.md): n2g 0.66 and 0.49 at layers 0 and 1. Here ten neurons a layer.
SELECT layer, method, count(f1) AS neurons, avg(precision) AS precision, avg(recall) AS recall, avg(f1) AS f1,
       approx_percentile_cont(nodes, 0.5) AS median_nodes
FROM (
    SELECT layer, neuron, method, precision, recall, f1, nodes FROM toy.graphs WHERE method = 'neuroql' AND neuron < 10
    UNION ALL
    SELECT layer, neuron, method, precision, recall, f1, nodes
    FROM build_graphs(model => 'toy', neurons => '0-9', method => 'n2g')
)
GROUP BY layer, method
ORDER BY layer, f1 DESC;
