-- How many neurons of each layer have graphs of one part, of a few, and of many.
SELECT layer,
       count(*) AS neurons,
       count(*) FILTER (WHERE parts = 1) AS one_part,
       count(*) FILTER (WHERE parts BETWEEN 2 AND 5) AS two_to_five,
       count(*) FILTER (WHERE parts > 5) AS more,
       median(parts) AS median_parts
FROM (SELECT layer, graph_components(graph) AS parts FROM toy.graphs WHERE method = 'neuroql' AND graph IS NOT NULL)
GROUP BY layer
ORDER BY layer;
