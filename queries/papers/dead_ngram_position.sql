-- Neurons in language models: dead, n-gram, positional (arXiv 2309.04827). The paper, OPT of up to 66 B parameters: in early
-- layers most neurons are dead, others detect tokens and n-grams or follow the position. Found: none is dead (the toy is
-- small); 161 and 56 of 512 are a few tokens (F1 above 0.8), 14 and none positional: more in the first layer, as there.
WITH position AS (
    SELECT layer, neuron, corr(position, activation) AS correlation
    FROM toy.activations WHERE document < 2 GROUP BY layer, neuron
), graphs AS (
    SELECT layer, neuron, patterns FROM toy.graphs WHERE method = 'neuroql' AND f1 > 0.8
)
SELECT n.layer, count(*) AS neurons,
       count(*) FILTER (WHERE n.max_activation <= 0) AS dead,
       count(*) FILTER (WHERE g.patterns <= 8) AS token_or_ngram,
       count(*) FILTER (WHERE abs(p.correlation) > 0.2) AS positional,
       max(abs(p.correlation)) AS most_positional
FROM toy.neurons n
JOIN position p ON p.layer = n.layer AND p.neuron = n.neuron
LEFT JOIN graphs g ON g.layer = n.layer AND g.neuron = n.neuron
GROUP BY n.layer
ORDER BY n.layer;
