// The console: runs statements, shows rows, draws them, completes names, keeps a history.

import { draw, query } from '/assets/plots.js';

const by = (id) => document.getElementById(id);
const [form, text, result] = [by('console'), by('sql'), by('result')];
const status = by('status');
let running = null;
let answer = null;

// Statements of other pages are in the address; typed ones stay behind the #, out of logs and histories of servers.
const fromAddress = () => {
  const given = new URLSearchParams(location.hash.slice(1)).get('q');
  if (given !== null) text.value = given;
};
fromAddress();
addEventListener('hashchange', fromAddress);

const line = (kind, content) => {
  const made = document.createElement('p');
  made.className = kind;
  made.textContent = content;
  if (kind === 'fault') made.setAttribute('role', 'alert');
  return made;
};

async function run(sql, isExplained = false) {
  running?.abort();
  running = new AbortController();
  const own = running;
  by('cancel').disabled = false;
  result.classList.add('busy');
  by('plot').hidden = true;
  by('downloads').hidden = true;
  const started = performance.now();
  try {
    answer = await query(isExplained ? `EXPLAIN ${sql}` : sql, { signal: own.signal, body: { limit: 200000 } });
    const seconds = ((performance.now() - started) / 1000).toFixed(2);
    const count = answer.rows.length;
    const said = `${count} row${count === 1 ? '' : 's'}${answer.complete ? '' : ', and there are more'} in ${seconds} s`;
    result.replaceChildren(line('note', said), grid(answer));
    status.textContent = said;
    if (!isExplained) {
      remember(sql);
      location.hash = new URLSearchParams({ q: sql }).toString();
      by('downloads').hidden = false;
      offerPlot(answer);
    }
  } catch (error) {
    const code = error.sqlstate ? ` (${error.sqlstate})` : '';
    const shown = error.name === 'AbortError' ? 'canceled' : `${error.message}${code}`;
    result.replaceChildren(line('fault', shown));
    if (error.hint) result.append(line('note', error.hint));
    if (error.position) {
      const at = [...sql].slice(0, error.position - 1).join('').length;
      text.focus();
      text.setSelectionRange(at, Math.min(at + 1, sql.length));
    }
  } finally {
    if (running === own) {
      running = null;
      by('cancel').disabled = true;
      result.classList.remove('busy');
    }
  }
}

// A table of which only the rows that can be seen are there.
const HEIGHT = 30;
const AROUND = 20;
function grid({ columns, rows }) {
  const place = document.createElement('div');
  place.className = 'grid';
  place.tabIndex = 0;
  place.setAttribute('role', 'region');
  place.setAttribute('aria-label', 'Rows of the result');
  const table = document.createElement('table');
  const head = table.createTHead().insertRow();
  const isNumber = columns.map((column) => /int|real|double|numeric/.test(column.type) && !column.type.endsWith('[]'));
  columns.forEach((column, index) => {
    const cell = document.createElement('th');
    cell.scope = 'col';
    cell.textContent = column.name;
    cell.title = column.type;
    if (isNumber[index]) cell.className = 'number';
    head.append(cell);
  });
  const [above, body, below] = [table.createTBody(), table.createTBody(), table.createTBody()];
  const gap = (place, count) => {
    place.replaceChildren();
    if (count === 0) return;
    const row = place.insertRow();
    row.setAttribute('aria-hidden', 'true');
    const cell = row.insertCell();
    cell.colSpan = Math.max(columns.length, 1);
    cell.style.height = `${count * HEIGHT}px`;
    cell.style.padding = '0';
  };
  let shown = null;
  const fill = () => {
    const first = Math.max(0, Math.floor(place.scrollTop / HEIGHT) - AROUND);
    const last = Math.min(rows.length, first + Math.ceil((place.clientHeight || 512) / HEIGHT) + 2 * AROUND);
    if (shown === `${first}-${last}`) return;
    shown = `${first}-${last}`;
    const made = rows.slice(first, last).map((values) => {
      const row = document.createElement('tr');
      values.forEach((value, index) => {
        const cell = row.insertCell();
        if (value === null) {
          cell.className = 'null';
          cell.textContent = 'NULL';
        } else {
          const plain = typeof value === 'object' ? JSON.stringify(value) : String(value);
          cell.textContent = plain.length > 300 ? `${plain.slice(0, 300)}…` : plain;
          if (plain.length > 40) cell.title = plain.slice(0, 2000);
          if (isNumber[index]) cell.className = 'number';
        }
      });
      return row;
    });
    body.replaceChildren(...made);
    gap(above, first);
    gap(below, rows.length - last);
  };
  place.append(table);
  place.addEventListener('scroll', fill);
  fill();
  return place;
}

function offerPlot({ columns, rows }) {
  const names = columns.map((column) => column.name);
  const isNumber = (index) => rows.some((row) => typeof row[index] === 'number');
  const numbers = names.map((_, index) => index).filter(isNumber);
  if (numbers.length < 1 || rows.length < 2) return;
  const options = (place, indexes, chosen, none) => {
    place.replaceChildren(...(none ? [new Option('–', '')] : []), ...indexes.map((index) => new Option(names[index], String(index), false, index === chosen)));
  };
  options(by('plot-x'), numbers, numbers[0]);
  options(by('plot-y'), numbers, numbers[Math.min(numbers.length - 1, 1)]);
  options(by('plot-colour'), names.map((_, index) => index), null, true);
  by('plot').hidden = false;
  by('plot-place').replaceChildren();
}
by('draw').addEventListener('click', async () => {
  const [x, y, colour] = ['plot-x', 'plot-y', 'plot-colour'].map((id) => by(id).value);
  const rows = answer.rows.map((row) => [row[x], row[y], colour === '' ? null : String(row[colour])]);
  const names = answer.columns.map((column) => column.name);
  const count = await draw(by('plot-place'), rows, { x: names[x], y: names[y], kind: by('plot-kind').value });
  status.textContent = `${count} points`;
});

// Downloads.
for (const button of by('downloads').querySelectorAll('button')) {
  button.addEventListener('click', async () => {
    button.disabled = true;
    try {
      const body = JSON.stringify({ sql: text.value, format: button.dataset.format });
      const response = await fetch('/v1/query', { method: 'POST', headers: { 'content-type': 'application/json' }, body });
      if (!response.ok) throw new Error((await response.json()).error.message);
      const name = /filename="([^"]+)"/.exec(response.headers.get('content-disposition'))?.[1] ?? 'rows';
      const link = document.createElement('a');
      link.href = URL.createObjectURL(await response.blob());
      link.download = name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    } catch (error) {
      result.prepend(line('fault', error.message));
    } finally {
      button.disabled = false;
    }
  });
}

// What ran before.
const KEPT = 50;
const past = () => {
  try {
    const kept = JSON.parse(localStorage.getItem('history') ?? '[]');
    return Array.isArray(kept) ? kept.filter((sql) => typeof sql === 'string') : [];
  } catch {
    return [];
  }
};
function remember(sql) {
  try {
    localStorage.setItem('history', JSON.stringify([sql, ...past().filter((other) => other !== sql)].slice(0, KEPT)));
  } catch {
    // Nothing is kept then.
  }
  showPast();
}
function showPast() {
  const options = past().map((sql) => new Option(sql.replace(/\s+/g, ' ').slice(0, 80), sql));
  by('history').replaceChildren(new Option('…', ''), ...options);
}
showPast();
for (const menu of [by('history'), by('cookbook')]) {
  menu.disabled = false;
  menu.addEventListener('change', () => {
    if (menu.value) text.value = menu.value;
    menu.value = '';
    text.focus();
  });
}

// Names to complete: of tables, columns and functions.
let names = null;
async function known() {
  names ??= (async () => {
    const tables = query("SELECT DISTINCT CASE WHEN table_schema = 'public' THEN table_name ELSE table_schema || '.' || table_name END FROM information_schema.tables WHERE table_schema NOT IN ('pg_catalog')");
    const columns = query("SELECT DISTINCT column_name FROM information_schema.columns WHERE table_schema NOT IN ('pg_catalog', 'information_schema')");
    const functions = query("SELECT DISTINCT p.proname || '(' FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'public'");
    const words = 'SELECT FROM WHERE GROUP BY ORDER LIMIT JOIN LEFT USING HAVING WITH DISTINCT COUNT( AVG( MAX( MIN( BETWEEN FILTER EXPLAIN'.split(' ');
    const found = (await Promise.all([tables, columns, functions])).flatMap((one) => one.rows.map((row) => row[0]));
    return [...new Set([...found, ...words])].sort((one, other) => one.localeCompare(other));
  })();
  return names;
}
const list = by('completions');
let chosen = 0;
const close = () => {
  list.hidden = true;
  list.replaceChildren();
  text.removeAttribute('aria-activedescendant');
};
const word = () => /[\w.]*$/.exec(text.value.slice(0, text.selectionStart))[0];
async function complete() {
  const begun = word();
  const found = (await known()).filter((name) => name.toLowerCase().startsWith(begun.toLowerCase())).slice(0, 30);
  chosen = 0;
  list.replaceChildren(...found.map((name, index) => {
    const item = document.createElement('li');
    item.id = `completion-${index}`;
    item.role = 'option';
    item.textContent = name;
    item.addEventListener('mousedown', (event) => {
      event.preventDefault();
      chosen = index;
      take();
    });
    return item;
  }));
  list.hidden = found.length === 0;
  show();
}
function show() {
  [...list.children].forEach((item, index) => item.setAttribute('aria-selected', String(index === chosen)));
  list.children[chosen]?.scrollIntoView({ block: 'nearest' });
  if (!list.hidden) text.setAttribute('aria-activedescendant', `completion-${chosen}`);
}
function take() {
  const name = list.children[chosen]?.textContent;
  if (!name) return;
  const at = text.selectionStart;
  text.setRangeText(name, at - word().length, at, 'end');
  close();
  text.focus();
}
text.addEventListener('keydown', (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === 'Enter') {
    event.preventDefault();
    run(text.value);
  } else if (event.ctrlKey && event.code === 'Space') {
    event.preventDefault();
    complete().catch((error) => { status.textContent = error.message; });
  } else if (!list.hidden && (event.key === 'ArrowDown' || event.key === 'ArrowUp')) {
    event.preventDefault();
    chosen = (chosen + (event.key === 'ArrowDown' ? 1 : list.children.length - 1)) % list.children.length;
    show();
  } else if (!list.hidden && (event.key === 'Enter' || event.key === 'Tab')) {
    event.preventDefault();
    take();
  } else if (event.key === 'Escape') {
    close();
  }
});
text.addEventListener('blur', close);
text.addEventListener('input', () => { if (!list.hidden) complete().catch(close); });

by('explain').hidden = false;
by('cancel').hidden = false;
by('explain').addEventListener('click', () => run(text.value, true));
by('cancel').addEventListener('click', () => running?.abort());
form.addEventListener('submit', (event) => {
  event.preventDefault();
  run(text.value);
});
