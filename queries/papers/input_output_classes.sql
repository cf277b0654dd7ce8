-- Input-output functionality (arXiv 2505.17936): neurons that strengthen the direction they read (enrichment), weaken it
-- (depletion), or write another one (orthogonal). The paper: gated models enrich in early layers and deplete in late ones.
-- Found: the mean cosine falls from 0.11 to -0.01, none is beyond 0.5. The toy has two layers and no gate (w_gate beside).
SELECT layer, count(*) AS neurons, avg(cosine) AS mean_cosine,
       count(*) FILTER (WHERE cosine > 0.5) AS enrichment,
       count(*) FILTER (WHERE cosine < -0.5) AS depletion,
       count(*) FILTER (WHERE abs(cosine) <= 0.5) AS orthogonal
FROM (SELECT layer, cosine(w_in, w_out) AS cosine FROM toy.weights)
GROUP BY layer
ORDER BY layer;
