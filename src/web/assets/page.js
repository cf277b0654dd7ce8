// What pages do beyond being read: themes, values of tokens, panels that are loaded later, live texts, keys.

const status = document.getElementById('status');
const say = (text) => { if (status) status.textContent = text; };

// Themes.
const themes = ['auto', 'light', 'dark'];
const button = document.getElementById('theme');
const root = document.documentElement;
const shownTheme = () => root.dataset.theme ?? 'auto';
if (button) {
  const label = () => { button.textContent = `Theme: ${shownTheme()}`; };
  button.hidden = false;
  label();
  button.addEventListener('click', () => {
    const next = themes[(themes.indexOf(shownTheme()) + 1) % themes.length];
    if (next === 'auto') delete root.dataset.theme; else root.dataset.theme = next;
    try {
      localStorage.setItem('theme', next);
    } catch {
      // It holds for this page then.
    }
    label();
    document.dispatchEvent(new Event('theme'));
  });
}

// Tokens: the value of the one under the pointer or with the focus, and arrows from one to the next.
const describe = (token) => `${JSON.stringify(token.dataset.t)}  ${token.dataset.v}`;
const tokenOf = (event) => (event.target instanceof Element ? event.target.closest('.t[data-v]') : null);
document.addEventListener('pointerover', (event) => {
  const token = tokenOf(event);
  if (token) say(describe(token));
});
document.addEventListener('focusin', (event) => {
  const token = tokenOf(event);
  if (token) say(describe(token));
});
document.addEventListener('keydown', (event) => {
  const token = tokenOf(event);
  if (!token) return;
  const all = [...token.closest('.heat').querySelectorAll('.t[data-v]')];
  const at = all.indexOf(token);
  const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
  if (next === undefined || !all[next]) return;
  event.preventDefault();
  token.tabIndex = -1;
  all[next].tabIndex = 0;
  all[next].focus();
});

// A node of the graph marks its tokens in the examples.
const mark = (link, on) => {
  const tokens = new Set(link.dataset.tokens.split(' ').map(decodeURIComponent));
  let count = 0;
  for (const token of document.querySelectorAll('.heat .t[data-t]')) {
    const hit = on && tokens.has(token.dataset.t);
    token.classList.toggle('hit', hit);
    count += hit;
  }
  if (on) say(`${count} tokens of the examples are ${[...tokens].map((token) => JSON.stringify(token)).join(', ').slice(0, 200)}`);
};
for (const [event, on] of [['pointerover', true], ['pointerout', false], ['focusin', true], ['focusout', false]]) {
  document.addEventListener(event, (found) => {
    const link = found.target instanceof Element ? found.target.closest('a[data-tokens]') : null;
    if (link) mark(link, on);
  });
}

// Parts that come later.
const fragment = async (address, signal) => {
  const response = await fetch(address, { headers: { 'x-fragment': '1' }, signal });
  const text = await response.text();
  if (response.ok) return text;
  const page = new DOMParser().parseFromString(text, 'text/html');
  throw new Error(page.querySelector('main p')?.textContent ?? `error ${response.status}`);
};
// The server has escaped all that is not its own markup.
const parsed = (html) => new DOMParser().parseFromString(html, 'text/html').body.childNodes;
const fault = (message) => {
  const line = document.createElement('p');
  line.className = 'fault';
  line.textContent = message;
  return line;
};
const load = async (section) => {
  section.classList.add('busy');
  try {
    const nodes = [...parsed(await fragment(section.dataset.src))];
    const panel = nodes.find((node) => node instanceof Element) ?? section;
    section.replaceWith(...nodes);
    dress(panel);
  } catch (error) {
    section.append(fault(error.message));
  } finally {
    section.classList.remove('busy');
  }
};
const lazy = [...document.querySelectorAll('section[data-src]')];
const loading = (async () => {
  // One after the other: each may run the model, and the first ones are read first.
  for (const section of lazy) await load(section);
})();
loading.catch((error) => say(error.message));

// Branches of a graph, which are drawn when they are opened first.
document.addEventListener('toggle', async (event) => {
  const branch = event.target;
  if (!(branch instanceof HTMLDetailsElement) || !branch.open || !branch.dataset.src) return;
  const source = branch.dataset.src;
  delete branch.dataset.src;
  branch.classList.add('busy');
  try {
    const nodes = [...parsed(await fragment(source))];
    branch.replaceChildren(branch.querySelector('summary'), ...nodes);
    dress(branch);
  } catch (error) {
    branch.dataset.src = source;
    branch.append(fault(error.message));
  } finally {
    branch.classList.remove('busy');
  }
}, true);

// Buttons that only work with this script.
function dress(place) {
  for (const copy of place.querySelectorAll('button.copy')) {
    copy.hidden = false;
    copy.addEventListener('click', async () => {
      const text = copy.closest('details').querySelector('pre').textContent;
      try {
        await navigator.clipboard.writeText(`${text};\n`);
        say('Copied for psql');
      } catch {
        say('The browser does not let the page copy; select the text');
      }
    });
  }
}
dress(document);
for (const zoom of document.querySelectorAll('button.zoom')) {
  zoom.hidden = false;
  zoom.addEventListener('click', () => {
    const place = zoom.closest('.panel').querySelector('.graph');
    scale(place, Number(zoom.dataset.zoom));
  });
}
function scale(place, factor) {
  const drawing = place.querySelector('svg');
  if (!drawing) return;
  const box = drawing.viewBox.baseVal;
  const width = drawing.getBoundingClientRect().width * factor;
  place.classList.add('zoomed');
  drawing.setAttribute('width', Math.min(Math.max(width, 100), 20000));
  drawing.setAttribute('height', Math.min(Math.max(width * box.height / box.width, 50), 20000));
}
for (const place of document.querySelectorAll('.graph')) {
  place.addEventListener('wheel', (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    scale(place, event.deltaY < 0 ? 1.15 : 1 / 1.15);
  }, { passive: false });
}
const breaks = document.getElementById('breaks');
if (breaks) {
  breaks.hidden = false;
  breaks.addEventListener('click', () => {
    const on = breaks.getAttribute('aria-pressed') !== 'true';
    breaks.setAttribute('aria-pressed', String(on));
    for (const token of document.querySelectorAll('#examples .t[data-t]')) {
      if (!token.dataset.t.includes('\n')) continue;
      if (on) token.dataset.shown = token.textContent;
      token.textContent = on ? token.dataset.t : token.dataset.shown;
    }
  });
}

// A text while it is typed.
for (const form of document.querySelectorAll('form.live')) {
  const text = form.querySelector('textarea');
  const result = form.parentElement.querySelector('.result');
  let timer;
  let running;
  const run = async () => {
    running?.abort();
    if (!text.value) {
      result.replaceChildren();
      return;
    }
    running = new AbortController();
    result.classList.add('busy');
    try {
      const address = `${form.dataset.src}?t=${encodeURIComponent(text.value)}`;
      result.replaceChildren(...parsed(await fragment(address, running.signal)));
      result.classList.remove('busy');
    } catch (error) {
      if (error.name === 'AbortError') return;
      result.replaceChildren(fault(error.message));
      result.classList.remove('busy');
    }
  };
  text.addEventListener('input', () => {
    clearTimeout(timer);
    timer = setTimeout(run, 150);
  });
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    clearTimeout(timer);
    run();
  });
}

// Keys: [ and ] for the neurons before and after, / for the search.
document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.('input, textarea, select')) return;
  const link = { '[': 'a[rel="prev"]', ']': 'a[rel="next"]' }[event.key];
  if (link) document.querySelector(link)?.click();
  if (event.key === '/') {
    event.preventDefault();
    document.getElementById('site-query')?.focus();
  }
});

// Plots.
const plots = document.querySelectorAll('.plot[data-sql]');
if (plots.length > 0) {
  const { plotOf } = await import('/assets/plots.js');
  for (const place of plots) {
    plotOf(place).catch((error) => place.replaceChildren(fault(error.message)));
  }
}
