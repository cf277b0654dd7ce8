// Plots of rows, drawn by uPlot.

let ready;
function uplot() {
  ready ??= new Promise((resolve, reject) => {
    const style = document.createElement('link');
    style.rel = 'stylesheet';
    style.href = '/assets/vendor/uPlot.min.css';
    const script = document.createElement('script');
    script.src = '/assets/vendor/uPlot.iife.min.js';
    script.addEventListener('load', () => resolve(globalThis.uPlot));
    script.addEventListener('error', () => reject(new Error('uPlot cannot be loaded')));
    document.head.append(style, script);
  });
  return ready;
}

export async function query(sql, options = {}) {
  const response = await fetch('/v1/query', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ sql, ...options.body }),
    signal: options.signal,
  });
  const answer = await response.json();
  if (answer.error) throw Object.assign(new Error(answer.error.message), answer.error);
  return answer;
}

const colours = ['#d97706', '#3b82f6', '#16a34a', '#a855f7', '#dc2626', '#0891b2', '#ca8a04', '#db2777'];

// Draws points, lines or bars of [x, y, colour?, label?] rows into a place.
export async function draw(place, rows, { x, y, kind = 'points', log = false, link = null } = {}) {
  const UPlot = await uplot();
  const number = (value) => (typeof value === 'number' && Number.isFinite(value) ? value : null);
  const used = rows.filter((row) => number(row[0]) !== null && number(row[1]) !== null && (!log || (row[0] > 0 && row[1] > 0)));
  used.sort((one, other) => one[0] - other[0]);
  const groups = [...new Set(used.map((row) => row[2] ?? ''))].slice(0, colours.length);
  const data = [used.map((row) => row[0]), ...groups.map((group) => used.map((row) => ((row[2] ?? '') === group ? row[1] : null)))];
  const ink = getComputedStyle(place).color;
  const grid = getComputedStyle(document.documentElement).getPropertyValue('color-scheme').includes('dark') ? '#8884' : '#8883';
  const axis = (label) => ({ label, labelSize: 22, stroke: ink, grid: { stroke: grid }, ticks: { stroke: grid } });
  const paths = { points: () => null, line: undefined, bars: UPlot.paths.bars({ size: [0.8, 60] }) }[kind];
  const series = groups.map((group, index) => ({
    label: group === '' ? y : String(group),
    stroke: colours[index],
    fill: kind === 'bars' ? colours[index] : undefined,
    paths,
    points: { show: kind !== 'bars', size: 5, fill: colours[index] },
    spanGaps: true,
  }));
  place.replaceChildren();
  const plot = new UPlot({
    width: Math.max(place.clientWidth, 280),
    height: 300,
    scales: { x: { time: false, distr: log ? 3 : 1 }, y: { distr: log ? 3 : 1 } },
    axes: [axis(x), { ...axis(y), size: 64 }],
    series: [{ label: x }, ...series],
  }, data, place);
  if (link) {
    plot.over.addEventListener('click', () => {
      const row = used[plot.cursor.idx];
      if (row) location.href = link + row[3];
    });
  }
  new ResizeObserver(() => plot.setSize({ width: Math.max(place.clientWidth, 280), height: 300 })).observe(place);
  document.addEventListener('theme', () => {
    for (const drawn of plot.axes) drawn.stroke = () => getComputedStyle(place).color;
    plot.redraw();
  });
  return used.length;
}

// Draws the rows of a place's own statement.
export async function plotOf(place) {
  const { sql, x, y, log, link } = place.dataset;
  const answer = await query(sql);
  const at = (name) => answer.columns.findIndex((column) => column.name === name);
  const [column, other, neuron] = [at(x), at(y), at('neuron')];
  const rows = answer.rows.map((row) => [row[column], row[other], null, row[neuron]]);
  await draw(place, rows, { x, y, log: log === '1', link });
}
