// node-pg: simple and parameterised queries, arrays, named prepared statements, errors, a pool.
const assert = require('node:assert');
const { Client, Pool } = require('pg');

// golden.safetensors, text 0, layer 1, neuron 17, first six tokens.
const text = 'The President of the United States';
const neuron17 = [0.001736, 0.001867, -0.000079, 0.006867, 0.00259, -0.000127];
const near = (found, expected) =>
  assert.ok(found.length === expected.length && found.every((value, i) => Math.abs(value - expected[i]) < 1e-5), String(found));

async function main() {
  const client = new Client();
  await client.connect();
  const rows = async (query, values) => (await client.query(query, values)).rows;

  assert.deepStrictEqual(await rows('SELECT model, layers, neurons_per_layer FROM models'), [
    { model: 'toy', layers: 2, neurons_per_layer: 512 },
  ]);
  const positions = await rows(
    'SELECT position, token, activation FROM toy.activations WHERE text = $1 AND layer = $2 AND neuron = $3 ORDER BY position',
    [text, 1, 17],
  );
  assert.deepStrictEqual(positions.map((row) => row.token), ['The', ' President', ' of', ' the', ' United', ' States']);
  near(positions.map((row) => row.activation), neuron17);

  const [arrays] = await rows("SELECT tokenize('toy', $1) AS ids, tokens('toy', $1) AS tokens, activation('toy', 1, 17, $1) AS a", [text]);
  assert.deepStrictEqual(arrays.ids, [711, 2454, 287, 265, 961, 801]);
  assert.deepStrictEqual(arrays.tokens.slice(0, 2), ['The', ' President']);
  near(arrays.a, neuron17);
  assert.deepStrictEqual(await rows("SELECT detokenize('toy', $1) AS text", [[711, 2454]]), [{ text: 'The President' }]);

  for (const each of ['x', 'the the', text]) {
    const named = { name: 'length', text: "SELECT array_length(activation('toy', 0, 0, $1)) AS n", values: [each] };
    const [{ n }] = (await client.query(named)).rows;
    assert.strictEqual(Number(n), { x: 1, 'the the': 2 }[each] ?? 6);
  }

  await assert.rejects(client.query('SELECT * FROM nothing'), { code: '42P01' });
  await assert.rejects(client.query("SELECT activation('toy', $1, 0, 'x')", [9]), { code: '22003' });
  const created = await client.query(`CREATE EXTERNAL TABLE node_neox STORED AS MODEL LOCATION '${process.env.MODELS}/gpt_neox'`);
  assert.match(created.command, /^CREATE/);
  assert.deepStrictEqual(await rows('SELECT count(*) AS n FROM node_neox'), [{ n: '576' }]);
  await client.query('DROP TABLE node_neox');
  await client.end();

  const pool = new Pool({ max: 4 });
  const peaks = await Promise.all(
    Array.from({ length: 16 }, (_, neuron) => pool.query('SELECT max(activation) AS peak FROM toy.activations WHERE text = $1 AND layer = 1 AND neuron = $2', ['import numpy as np', neuron])),
  );
  near([peaks[5].rows[0].peak, peaks[13].rows[0].peak], [0.363912, 0.207365]);
  await pool.end();
  console.log('ok');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
