-- Suppression neurons: they lower the logit of a token more than they raise that of any other.
SELECT layer, neuron, min(effect) AS lowered, max(effect) AS raised,
       first_value(token ORDER BY effect) AS token
FROM logit_effects('toy', NULL, NULL, 1)
GROUP BY layer, neuron
HAVING -min(effect) > max(effect)
ORDER BY max(effect) + min(effect)
LIMIT 20;
