-- Which neurons and heads make a model say what it says next rather than something else?
SELECT layer, neuron, head, activation, effect
FROM logit_attribution('toy', 'The President of the United', ' States', ' the')
ORDER BY abs(effect) DESC
LIMIT 20;
