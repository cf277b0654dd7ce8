-- For each neuron its twin in another model, by the patterns of their graphs: put the name of that model for the second
-- 'toy'. (Within one model, as here, twins are other neurons of it.)
WITH pairs AS (
    SELECT * FROM similar_pairs(model => 'toy', other => 'toy', threshold => 0.05)
)
SELECT layer, neuron, other_model, other_layer, other_neuron, similarity
FROM (
    SELECT *, row_number() OVER (PARTITION BY layer, neuron ORDER BY similarity DESC, other_layer, other_neuron) AS place
    FROM pairs
)
WHERE place = 1
ORDER BY similarity DESC, layer, neuron
LIMIT 20;
