-- How does a neuron come to be over training? What it fires on in a text at each checkpoint that is registered, how large its
-- graph is there, and how similar that is to the graph of the last one. Register checkpoints first, under any names:
--   CREATE EXTERNAL TABLE pythia_1000 STORED AS MODEL LOCATION 'hf://EleutherAI/pythia-70m@step1000';
--   CREATE EXTERNAL TABLE pythia_4000 STORED AS MODEL LOCATION 'hf://EleutherAI/pythia-70m@step4000';
--   CREATE EXTERNAL TABLE pythia      STORED AS MODEL LOCATION 'hf://EleutherAI/pythia-70m';
-- and build their graphs: INSERT INTO pythia_1000.graphs SELECT * FROM build_graphs(model => 'pythia_1000', …).
WITH followed AS (
    SELECT a.model, m.step, a.layer, a.neuron, max(a.activation) AS activation,
           (array_agg(a.token ORDER BY a.activation DESC, a.position))[1] AS token
    FROM activations a JOIN models m ON m.model = a.model
    WHERE a.text = 'import numpy as np' AND a.layer = 1 AND a.neuron = 17
    GROUP BY a.model, m.step, a.layer, a.neuron
),
last AS (
    SELECT g.layer, g.neuron, g.graph
    FROM graphs g JOIN (SELECT model FROM models ORDER BY step DESC NULLS FIRST, model LIMIT 1) m ON m.model = g.model
    WHERE g.method = 'neuroql'
)
SELECT f.model, f.step, f.token, f.activation, g.nodes, g.f1, graph_similarity(g.graph, l.graph) AS similarity
FROM followed f
LEFT JOIN graphs g ON (g.model, g.layer, g.neuron, g.method) = (f.model, f.layer, f.neuron, 'neuroql')
LEFT JOIN last l ON (l.layer, l.neuron) = (f.layer, f.neuron)
ORDER BY f.step NULLS LAST, f.model;
