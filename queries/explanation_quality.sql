-- How well graphs explain each layer, and what they cost.
SELECT layer, method, count(graph) AS graphs, avg(f1) AS f1, avg(random_precision) AS random_precision,
       avg(nodes) AS nodes, avg(seconds) AS seconds
FROM toy.graphs
GROUP BY layer, method
ORDER BY layer, method;
