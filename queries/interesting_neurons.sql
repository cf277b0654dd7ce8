-- Where to look first: neurons that fire rarely and then strongly (high kurtosis, low density), with what their graphs
-- make of them.
SELECT n.layer, n.neuron, n.kurtosis, n.density, n.max_activation, n.f1
FROM toy.neurons n
WHERE n.density < 0.6
ORDER BY n.kurtosis DESC
LIMIT 20;
