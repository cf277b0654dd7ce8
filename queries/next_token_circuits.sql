-- Neurons by which a token pushes towards a next token: they fire on the embedding of " of" and promote " the". Direct
-- paths only: what attention and other neurons add is not in it.
SELECT i.layer, i.neuron, i.activation, e.effect, i.activation * e.effect AS push
FROM input_tokens('toy', NULL, NULL, 200) i JOIN logit_effects('toy', NULL, NULL, 200) e
  ON (i.layer, i.neuron) = (e.layer, e.neuron)
WHERE i.token = ' of' AND e.token = ' the'
ORDER BY push DESC
LIMIT 10;
