-- Duplicate neurons: pairs of a layer that read the same directions and write the same, by the cosine of their weights.
SELECT a.layer, a.neuron, b.neuron AS other, cosine(a.w_in, b.w_in) AS reads, cosine(a.w_out, b.w_out) AS writes
FROM toy.weights a JOIN toy.weights b ON a.layer = b.layer AND a.neuron < b.neuron
ORDER BY cosine(a.w_in, b.w_in) * cosine(a.w_out, b.w_out) DESC
LIMIT 20;
