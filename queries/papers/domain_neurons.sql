-- Language-specific neurons (LAPE, arXiv 2402.16438) by domain: least entropy of the shares of tokens on which they fire.
-- The paper: a small share of neurons, in the first and last layers, belongs to one language. Found: some neurons of layer
-- 1 fire in code or in documentation only. The toy has one language and five sources of text, and few documents are read.
WITH fired AS (
    SELECT a.neuron, c.source, avg(CASE WHEN a.activation > 0.1 * n.max_activation THEN 1.0 ELSE 0.0 END) AS share
    FROM toy.activations a
    JOIN corpus c ON c.document = a.document
    JOIN toy.neurons n ON n.layer = a.layer AND n.neuron = a.neuron
    WHERE a.layer = 1 AND a.neuron < 32 AND a.document < 12 AND n.layer = 1
    GROUP BY a.neuron, c.source
), shares AS (
    SELECT neuron, source, share, share / sum(share) OVER (PARTITION BY neuron) AS p FROM fired WHERE share > 0
)
SELECT neuron, -sum(p * ln(p)) AS entropy, first_value(source ORDER BY share DESC) AS source, max(share) AS fires_there
FROM shares
GROUP BY neuron
HAVING max(share) > 0.001
ORDER BY entropy
LIMIT 10;
