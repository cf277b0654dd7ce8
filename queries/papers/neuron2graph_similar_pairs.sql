-- Neuron2Graph (arXiv 2305.19911): pairs of similar neurons, within a layer and across layers. The paper finds 60 pairs
-- of 18,432 neurons that share 90 % of their tokens. Found: none of 1,024 at 0.9 (the greatest is 0.899, between the layers),
-- two at 0.5. Here patterns are compared, not tokens, which is stricter.
SELECT CASE WHEN layer = other_layer THEN 'same layer' ELSE 'two layers' END AS where_they_are,
       count(*) FILTER (WHERE similarity >= 0.9) AS at_0_9,
       count(*) FILTER (WHERE similarity >= 0.5) AS at_0_5,
       count(*) FILTER (WHERE similarity >= 0.1) AS at_0_1,
       count(*) AS at_0_02,
       max(similarity) AS greatest
FROM similar_pairs(model => 'toy', threshold => 0.02)
GROUP BY 1
ORDER BY 1;
