-- Which neurons tell two sets of texts apart? Effect size (Cohen's d) of each neuron's activation on the tokens of
-- either; neurons that are active nearly everywhere count less.
WITH texts(set_name, text) AS (
    VALUES ('code', 'def read(path):'), ('code', '    return os.path.join(path, name)'),
           ('speech', 'the people of this nation'), ('speech', 'I recommend to the Congress')
),
sides AS (
    SELECT a.layer, a.neuron, t.set_name, avg(a.activation) AS mean, var_pop(a.activation) AS variance
    FROM toy.activations a JOIN texts t ON a.text = t.text
    WHERE a.text IN ('def read(path):', '    return os.path.join(path, name)',
                     'the people of this nation', 'I recommend to the Congress')
    GROUP BY a.layer, a.neuron, t.set_name
),
effects AS (
    SELECT c.layer, c.neuron, (c.mean - s.mean) / sqrt((c.variance + s.variance) / 2 + 1e-9) AS d
    FROM sides c JOIN sides s ON (c.layer, c.neuron) = (s.layer, s.neuron)
    WHERE c.set_name = 'code' AND s.set_name = 'speech'
)
SELECT e.layer, e.neuron, e.d, n.density, e.d * (1 - n.density) AS corrected
FROM effects e JOIN toy.neurons n ON (n.layer, n.neuron) = (e.layer, e.neuron)
ORDER BY abs(corrected) DESC
LIMIT 20;
