-- In-context neurons: a token is both what the neuron fires on and the context that makes it do so, so the neuron fires
-- when something comes again (a case study of Neuron2Graph). `tokens_back` says how far before.
WITH nodes AS (
    SELECT layer, neuron, method, node, depth, kind, token, importance,
           max(CASE WHEN depth = 0 THEN node END) OVER (PARTITION BY layer, neuron, method ORDER BY node) AS root
    FROM toy.graph_nodes
)
SELECT c.layer, c.neuron, c.token, min(c.depth) AS tokens_back, max(c.importance) AS importance
FROM nodes c JOIN nodes a ON (a.layer, a.neuron, a.method, a.node) = (c.layer, c.neuron, c.method, c.root)
WHERE c.kind = 'context' AND lower(trim(c.token)) = lower(trim(a.token)) AND c.importance > 0.5
GROUP BY c.layer, c.neuron, c.token
ORDER BY importance DESC, c.layer, c.neuron, c.token
LIMIT 20;
