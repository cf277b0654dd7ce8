-- Hubs: neurons that are similar to many others, by PageRank in the network of similar neurons, and how large the cluster
-- is that they are in.
SELECT layer, neuron, neighbours, page_rank, component, count(*) OVER (PARTITION BY component) AS cluster_size
FROM neuron_graph('toy', threshold => 0.05)
ORDER BY page_rank DESC
LIMIT 20;
