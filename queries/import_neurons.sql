-- Neurons for import statements: what they fire on after "import", or where they fire on it.
SELECT layer, neuron, role, pattern, activation, f1
FROM search('toy', 'import')
ORDER BY role, activation DESC, f1 DESC
LIMIT 20;
