-- Dead neurons: how many of each layer never fire on the analysed dataset, and how many hardly ever do.
SELECT layer,
       count(*) FILTER (WHERE max_activation <= 0) AS dead,
       count(*) FILTER (WHERE density < 0.001) AS nearly_dead,
       count(*) AS neurons,
       min(max_activation) AS weakest_maximum
FROM toy.neurons
GROUP BY layer
ORDER BY layer;
