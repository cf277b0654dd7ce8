// Journeys through the explorer in Chromium. Prints `ok` at the end; keeps a screenshot of each page.
import assert from 'node:assert';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const { SITE, CLOSED_SITE, CHROMIUM, MODULES, SCREENSHOTS } = process.env;
const require = createRequire(join(MODULES, 'x.js'));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const executablePath = CHROMIUM.includes('/') ? CHROMIUM : `/usr/bin/${CHROMIUM}`;
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
const complaints = [];

// A page that reports what goes wrong on it.
async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, acceptDownloads: true, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(60000);
  page.on('console', (message) => {
    const expected = /status of 4\d\d/.test(message.text());
    if (message.type() === 'error' && !expected) complaints.push(`${page.url()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => complaints.push(`${page.url()}: ${error.stack}`));
  return page;
}

// Looks for faults of accessibility, and keeps a picture.
async function look(page, name, { whole = true } = {}) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  const found = violations.map((one) => `${one.id}: ${one.nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} ${node.failureSummary ?? ''}`).join(' | ')}`);
  if (found.length) complaints.push(`${name} (${page.url()}):\n  ${found.join('\n  ')}`);
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), fullPage: whole });
}
// Clicks what leads to another page, and waits until that page is loaded.
const follow = (page, selector) => Promise.all([page.waitForNavigation(), page.click(selector)]);
const settled = (page) => page.waitForFunction(() => document.querySelectorAll('section[data-src], .busy').length === 0);

let step = 'start';
const journey = async (name, walk) => {
  step = name;
  await walk();
};

try {
  await journey('from the models to a neuron, a node of its graph, and a search', async () => {
    const page = await open();
    await page.goto(SITE);
    await look(page, 'models');
    await follow(page, 'a[href="/m/toy"]');
    assert.match(await page.textContent('h1'), /toy/);
    await look(page, 'model');
    await page.fill('input[name=layer]', '1');
    await page.fill('input[name=neuron]', '480');
    await follow(page, 'form[action$="/jump"] button');
    assert.match(await page.textContent('h1'), /layer 1 · neuron 480/);
    await settled(page);
    assert.ok(await page.isVisible('#similar .cards li'));
    assert.ok(await page.isVisible('#tokens table'));
    await look(page, 'neuron');
    const node = page.locator('.graph a').first();
    await node.focus();
    assert.match(await page.textContent('#status'), /tokens of the examples/);
    assert.ok(await page.locator('.heat .hit').count() > 0);
    await node.click();
    await page.waitForURL(/\/search\?/);
    assert.ok(await page.locator('#found tbody tr').count() > 0);
    assert.match(await page.inputValue('#q'), /:="/);
    await look(page, 'search');
    await page.context().close();
  });

  await journey('a text on a neuron', async () => {
    const page = await open();
    await page.goto(`${SITE}m/toy/neurons/1/480`);
    await settled(page);
    await page.fill('#live-text', 'The President of the United States met the Prime Minister');
    await page.waitForSelector('#live .result .t[data-v]');
    await settled(page);
    const classes = await page.locator('#live .result .t').evaluateAll((tokens) => tokens.map((token) => token.className).join(' '));
    assert.match(classes, /p\d/);
    assert.ok(await page.locator('#live .below').count() > 5);
    await look(page, 'live', { whole: false });
    await page.context().close();
  });

  await journey('a layer: a plot, its order and a filter', async () => {
    const page = await open();
    await page.goto(`${SITE}m/toy/layers/1`);
    await page.waitForSelector('.plot canvas');
    await look(page, 'layer');
    await follow(page, 'th a:has-text("kurtosis")');
    assert.strictEqual(await page.getAttribute('th:has-text("kurtosis")', 'aria-sort'), 'descending');
    await page.fill('input[name=where]', 'density < 0.01');
    await follow(page, 'button:has-text("Filter")');
    assert.match(page.url(), /where=density/);
    await page.context().close();
  });

  await journey('the neurons of a text and of one of its tokens', async () => {
    const page = await open();
    await page.goto(`${SITE}text`);
    await page.fill('#t', 'import numpy as np\nfrom torch import nn');
    await follow(page, 'main form button');
    await page.waitForSelector('.token');
    await follow(page, '.token >> nth=1');
    assert.match(page.url(), /at=1/);
    assert.strictEqual(await page.locator('.token[aria-current]').count(), 1);
    await look(page, 'text');
    await page.context().close();
  });

  await journey('two neurons side by side', async () => {
    const page = await open();
    await page.goto(`${SITE}compare`);
    await page.fill('input[name=a]', 'toy:1:480');
    await page.fill('input[name=b]', 'toy:1:17');
    await page.fill('#compare-text', 'The President of the United States');
    await follow(page, 'main form button');
    await page.waitForSelector('#graphs svg');
    await look(page, 'compare');
    await page.goto(`${SITE}compare?a=dd:0:0&b=toy:1:17`);
    await look(page, 'compare-models');
    await page.context().close();
  });

  await journey('a statement, its plot, its download, a mistake', async () => {
    const page = await open();
    await page.goto(`${SITE}sql`);
    await page.fill('#sql', 'SELECT layer, neuron, density, kurtosis, max_activation FROM toy.neurons ORDER BY kurtosis DESC');
    await page.press('#sql', 'Control+Enter');
    await page.waitForSelector('.grid td');
    assert.match(await page.textContent('#result .note'), /1024 rows/);
    assert.ok(await page.locator('.grid tbody tr').count() < 200, 'only rows that can be seen are there');
    await page.selectOption('#plot-x', { label: 'density' });
    await page.selectOption('#plot-y', { label: 'kurtosis' });
    await page.selectOption('#plot-colour', { label: 'layer' });
    await page.click('#draw');
    await page.waitForSelector('#plot-place canvas');
    await look(page, 'console');
    const [download] = await Promise.all([page.waitForEvent('download'), page.click('button[data-format=csv]')]);
    const lines = readFileSync(await download.path(), 'utf8').trim().split('\n');
    assert.deepStrictEqual([lines[0], lines.length], ['layer,neuron,density,kurtosis,max_activation', 1025]);
    for (const format of ['ndjson', 'arrow', 'parquet']) {
      const [file] = await Promise.all([page.waitForEvent('download'), page.click(`button[data-format=${format}]`)]);
      assert.ok(readFileSync(await file.path()).length > 1000, format);
    }
    await page.fill('#sql', 'SELECT * FROM nothing_of_this_name');
    await page.press('#sql', 'Control+Enter');
    await page.waitForSelector('#result .fault');
    assert.match(await page.textContent('#result .fault'), /42P01/);
    await page.fill('#sql', 'SELECT * FROM toy.neu');
    await page.press('#sql', 'Control+Space');
    await page.waitForSelector('#completions li');
    assert.match(await page.textContent('#completions'), /toy\.neurons/);
    await page.press('#sql', 'Enter');
    assert.match(await page.inputValue('#sql'), /toy\.neurons$/);
    await page.click('#explain');
    await page.waitForFunction(() => document.querySelector('.grid')?.textContent.includes('plan'));
    assert.ok(await page.locator('#history option').count() > 1);
    await page.context().close();
  });

  await journey('a link from elsewhere shows a statement and does not run it', async () => {
    const page = await open();
    await page.goto(`${SITE}sql?q=${encodeURIComponent('SELECT 1 AS never')}`);
    assert.strictEqual(await page.inputValue('#sql'), 'SELECT 1 AS never');
    assert.strictEqual((await page.textContent('#result')).trim(), '');
    await page.context().close();
  });

  await journey('logging in and out', async () => {
    const page = await open();
    await page.goto(`${CLOSED_SITE}m/toy`);
    assert.match(page.url(), /\/login\?next=/);
    await page.fill('input[name=name]', 'ada');
    await page.fill('input[name=password]', 'wrong');
    await follow(page, 'main form button');
    assert.match(await page.textContent('.fault'), /wrong/);
    await look(page, 'login');
    await page.fill('input[name=name]', 'ada');
    await page.fill('input[name=password]', 'secret');
    await follow(page, 'main form button');
    await page.waitForURL(/\/m\/toy$/);
    await page.click('button:has-text("Log out")');
    await page.waitForURL(/\/login/);
    await page.context().close();
  });

  await journey('dark pages', async () => {
    const page = await open();
    await page.goto(`${SITE}m/toy/neurons/1/480`);
    await settled(page);
    await page.click('#theme');
    await page.click('#theme');
    assert.strictEqual(await page.getAttribute('html', 'data-theme'), 'dark');
    await look(page, 'neuron-dark');
    for (const [name, path] of [
      ['models-dark', ''], ['layer-dark', 'm/toy/layers/1'], ['search-dark', 'search?q=activating%3Aimport'],
      ['text-dark', 'text?t=import%20numpy&at=1'], ['compare-dark', 'compare?a=toy:1:480&b=toy:1:17&t=The%20President'], ['console-dark', 'sql'], ['docs-dark', 'docs'],
    ]) {
      await page.goto(SITE + path);
      assert.strictEqual(await page.getAttribute('html', 'data-theme'), 'dark');
      if (name === 'layer-dark') await page.waitForSelector('.plot canvas');
      await look(page, name);
    }
    await page.context().close();
  });

  await journey('by keyboard', async () => {
    const page = await open();
    await page.goto(`${SITE}m/toy/neurons/1/480`);
    await settled(page);
    await page.keyboard.press('Tab');
    assert.strictEqual(await page.evaluate(() => document.activeElement.className), 'skip');
    await page.keyboard.press('Enter');
    const first = page.locator('#examples .t[data-v]').first();
    await first.focus();
    const said = await page.textContent('#status');
    await page.keyboard.press('ArrowRight');
    assert.notStrictEqual(await page.textContent('#status'), said);
    await page.keyboard.press('End');
    assert.ok(await page.evaluate(() => document.activeElement.matches('.t:last-of-type')));
    await page.keyboard.press('/');
    assert.strictEqual(await page.evaluate(() => document.activeElement.id), 'site-query');
    await page.locator('#main').focus();
    await page.keyboard.press(']');
    await page.waitForURL(/neurons\/1\/481/);
    await page.keyboard.press('[');
    await page.waitForURL(/neurons\/1\/480/);
    await page.context().close();
  });

  await journey('without JavaScript', async () => {
    const page = await open({ javaScriptEnabled: false });
    await page.goto(SITE);
    await follow(page, 'a[href="/m/toy"]');
    await page.goto(`${SITE}m/toy/neurons/1/480`);
    assert.ok(await page.isVisible('#graph svg'));
    assert.ok(await page.isVisible('#examples .t'));
    await page.screenshot({ path: join(SCREENSHOTS, 'neuron-without-script.png'), fullPage: true });
    await follow(page, '#similar a');
    assert.ok(await page.isVisible('.cards li'));
    await page.goto(`${SITE}m/toy/neurons/1/480`);
    await page.fill('#live-text', 'The President');
    await follow(page, 'form.live button');
    assert.ok(await page.isVisible('#live .t[data-v]'));
    await page.goto(`${SITE}sql`);
    await page.fill('#sql', 'SELECT 6 * 7 AS answer');
    await follow(page, 'main form button');
    assert.match(await page.textContent('#result'), /42/);
    await page.context().close();
  });

  await journey('published data, documentation, a narrow window', async () => {
    const page = await open();
    await page.goto(`${SITE}m/dd/neurons/0/1`);
    await settled(page);
    assert.match(await page.textContent('.meaning'), /an invented explanation/);
    await look(page, 'published');
    await page.goto(`${SITE}docs`);
    await look(page, 'docs');
    await page.goto(`${SITE}m/toy/neurons/5/5`);
    await look(page, 'error');
    await page.setViewportSize({ width: 390, height: 800 });
    for (const [name, path] of [['narrow-neuron', 'm/toy/neurons/1/480'], ['narrow-models', ''], ['narrow-layer', 'm/toy/layers/0']]) {
      await page.goto(SITE + path);
      await settled(page);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.ok(wide <= 1, `${path} is ${wide} pixels wider than the window`);
      await look(page, name);
    }
    await page.context().close();
  });
} catch (error) {
  complaints.push(`${step}: ${error.stack}`);
} finally {
  await browser.close();
}
if (complaints.length) {
  console.error(complaints.join('\n'));
  process.exit(1);
}
console.log('ok');
