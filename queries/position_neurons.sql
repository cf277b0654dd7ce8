-- Position neurons: activation follows the place in the example, whatever stands there.
SELECT layer, neuron, corr(position, activation) AS correlation, avg(activation) AS mean
FROM toy.activations
WHERE document < 2
GROUP BY layer, neuron
ORDER BY abs(corr(position, activation)) DESC NULLS LAST
LIMIT 20;
