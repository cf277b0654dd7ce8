-- Neuron2Graph (arXiv 2305.19911): neurons that fire when something comes again, whose graphs have a token both as
-- activator and as context. The paper finds up to 86 such tokens, in layers 2 to 4 of six, of which a neuron may do nothing
-- else. Found: 237 and 274 neurons of layers 0 and 1 have one, 24 and 32 have five, at most 16. The toy has two layers.
WITH tokens AS (
    SELECT layer, neuron, lower(trim(token)) AS token, bool_or(kind = 'activator') AS fires, bool_or(kind = 'context') AS before
    FROM toy.graph_nodes
    WHERE method = 'neuroql' AND trim(token) <> ''
    GROUP BY layer, neuron, lower(trim(token))
), counted AS (
    SELECT layer, neuron, count(*) FILTER (WHERE fires AND before) AS both, count(*) AS tokens FROM tokens GROUP BY layer, neuron
)
SELECT layer, count(*) AS neurons, count(*) FILTER (WHERE both > 0) AS with_any, count(*) FILTER (WHERE both >= 5) AS with_five,
       max(both) AS most, max(1.0 * both / tokens) AS greatest_share
FROM counted
GROUP BY layer
ORDER BY layer;
