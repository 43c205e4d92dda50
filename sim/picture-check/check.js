// Opens pictures in a headless Chromium, clicks as a reader would, and asserts what the page then says.
//
//   cargo xtask picture-check        makes the pages and runs this
//   node check.js FOLDER             checks FOLDER/healthy.html and FOLDER/broken.html, and puts screenshots beside them

import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { chromium } from 'playwright-core';

const BROWSERS = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const folder = path.resolve(process.argv[2] ?? '.');

const executablePath = BROWSERS.find((file) => file && existsSync(file));
if (!executablePath) {
  console.error('The picture is NOT checked: there is no Chromium. Install it: apt-get install -y chromium (or set CHROMIUM)');
  process.exit(1);
}

const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });

/** Opens a page from its file; anything that goes wrong in it, or any request that leaves the file, is a failure. */
async function open(name, colorScheme = 'light') {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 }, colorScheme });
  const wrong = [];
  page.on('pageerror', (error) => wrong.push(error.message));
  page.on('request', (request) => {
    if (!request.url().startsWith('file:')) wrong.push(`asked the network: ${request.url()}`);
  });
  await page.goto(`file://${path.join(folder, name)}`);
  await page.waitForSelector('.row.here');
  const said = (id) => page.locator(`#${id}`).textContent();
  const shot = (suffix) => page.screenshot({ path: path.join(folder, `${name.replace('.html', '')}-${suffix}.png`) });
  /** Waits for two frames, so that what was asked for is drawn. */
  const drawn = () => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  /** A fingerprint of what the canvas shows. */
  const pixels = () => page.evaluate(() => {
    const board = document.getElementById('lanes');
    const data = board.getContext('2d').getImageData(0, 0, board.width, board.height).data;
    let sum = 0;
    for (let at = 0; at < data.length; at += 1) sum = (Math.imul(sum, 31) + data[at]) | 0;
    return sum;
  });
  return { page, wrong, said, shot, drawn, pixels };
}

/** Everything fits: nothing makes the page scroll. */
async function fits(page) {
  const over = await page.evaluate(() => [
    document.documentElement.scrollWidth - window.innerWidth,
    document.documentElement.scrollHeight - window.innerHeight,
  ]);
  assert.ok(over[0] <= 0 && over[1] <= 0, `the page is larger than 1280x800 by ${over}`);
}

async function healthy() {
  const { page, wrong, said, shot, drawn, pixels } = await open('healthy.html');
  await fits(page);
  assert.equal(await said('verdict'), 'every promise kept');
  assert.match(await said('title'), /grow\.calm\.prepare · seed 1/);
  assert.ok(await page.locator('#violation').isHidden());
  assert.match(await said('now'), /store: .*Prepare/, 'the page opens where the migration begins');
  await shot('1-opened');

  // A real click in the board makes the line of that time the current one.
  const before = [await said('now'), await pixels()];
  const board = await page.locator('#lanes').boundingBox();
  await page.mouse.click(board.x + 104 + (board.width - 104) * 0.8, board.y + 250);
  await drawn();
  assert.notEqual(await said('now'), before[0], 'a click chooses a moment');
  assert.notEqual(await pixels(), before[1], 'and the board shows it');
  const here = await page.locator('.row.here').textContent();
  const chosen = (await said('now')).split('\n')[1];
  assert.ok(here.includes(chosen.slice(0, 30)), 'the log shows the same line');

  // A line of the log, clicked.
  const row = page.locator('#log-rows .row:not(.here)').nth(8);
  const number = await row.getAttribute('data-line');
  await row.click();
  assert.match(await said('now'), new RegExp(`line ${Number(number) + 1} of `));
  const rows = await page.locator('.row').count();
  assert.ok(rows > 5 && rows < 120, `only rows that can be seen exist: ${rows}`);

  // Another point.
  const shown = await pixels();
  const points = await page.locator('#point option').evaluateAll((all) => all.map((one) => [one.value, one.textContent]));
  assert.ok(points.length > 20, `${points.length} points can be chosen`);
  const current = await page.locator('#point').inputValue();
  const [value, name] = points.find(([other, words]) => other !== current && words.includes('point-'));
  await page.selectOption('#point', value);
  await drawn();
  assert.ok((await said('point-now')).startsWith(name), 'the panel speaks of the chosen point');
  assert.match(await said('point-now'), /owner in the store: gate \d+ \(s\d+, map v\d+\)/);
  assert.notEqual(await pixels(), shown, 'and the board shows it');
  await shot('2-another-point');

  // The scrubber: drawn with the mouse, then by keys.
  const scrubber = await page.locator('#scrubber').boundingBox();
  await page.mouse.click(scrubber.x + scrubber.width * 0.6, scrubber.y + scrubber.height / 2);
  await drawn();
  const total = Number(/line \d+ of (\d+)/.exec(await said('now'))[1]);
  const line = async () => Number(/line (\d+) of/.exec(await said('now'))[1]);
  assert.ok(Math.abs(await line() - total * 0.6) < total * 0.03, 'the scrubber goes where it is put');
  await shot('3-scrubbed');
  const from = await line();
  await page.locator('#lanes').focus();
  await page.keyboard.press('ArrowRight');
  assert.equal(await line(), from + 1, 'an arrow key is one line');
  await page.keyboard.press('Home');
  assert.equal(await line(), 1);
  await page.keyboard.press('n');
  assert.ok(await line() > 1, 'n is the next moment');

  // The whole run at once, then closer by the wheel.
  await page.click('#whole');
  await drawn();
  const whole = await pixels();
  await shot('4-whole-run');
  await page.mouse.move(board.x + 500, board.y + 200);
  for (let turn = 0; turn < 8; turn += 1) await page.mouse.wheel(0, -400);
  await drawn();
  assert.notEqual(await pixels(), whole, 'the wheel zooms');
  await page.fill('#filter', 'store:');
  const kept = await page.locator('.row').allTextContents();
  assert.ok(kept.length > 3 && kept.every((words) => words.includes('store:')), 'the filter filters');
  assert.deepEqual(wrong, []);
  await page.close();
  return total;
}

async function broken() {
  const { page, wrong, said, shot, drawn } = await open('broken.html');
  await fits(page);
  assert.match(await said('verdict'), /^broken: [IP]\d+ /);
  assert.equal(await page.locator('.row.bad.here').count(), 1, 'the page opens at the violation');
  await shot('1-opened');
  await page.locator('#lanes').focus();
  await page.keyboard.press('Home');
  await drawn();
  assert.equal(await page.locator('.row.bad').count(), 0, 'the violation is out of sight');
  await page.click('#violation');
  await page.waitForSelector('.row.bad.here');
  await drawn();
  const label = (await said('verdict')).replace('broken: ', '');
  assert.ok((await said('now')).includes(label), 'the link leads to its moment');
  assert.match(page.url(), /#event=\d+$/);
  await shot('2-by-the-link');
  assert.deepEqual(wrong, []);
  await page.close();
}

async function dark() {
  const { page, wrong, shot } = await open('healthy.html', 'dark');
  await fits(page);
  const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.equal(ground, 'rgb(20, 23, 27)');
  await shot('5-dark');
  assert.deepEqual(wrong, []);
  await page.close();
}

/** More events than the largest runs have: the healthy run three times over, one after the other. */
function repeat() {
  const html = readFileSync(path.join(folder, 'healthy.html'), 'utf8');
  const [, head, data, tail] = /^([^]*id="run">)([^]*?)(<\/script>[^]*)$/.exec(html);
  const run = JSON.parse(data);
  const later = (list, keys) => [0, 1, 2].flatMap((turn) => list.map((item) => {
    const moved = { ...item };
    for (const key of keys) if (typeof moved[key] === 'number') moved[key] += turn * run.end;
    return moved;
  }));
  const times = { lines: ['at'], arrows: ['sent', 'landed'], operations: ['from', 'to'], contents: ['at'], touches: ['at'] };
  for (const [list, keys] of Object.entries(times)) run[list] = later(run[list], keys);
  run.end *= 3;
  writeFileSync(path.join(folder, 'large.html'), head + JSON.stringify(run).replaceAll('<', '\\u003c') + tail);
}

async function large() {
  repeat();
  const { page, wrong, said } = await open('large.html');
  const count = Number(/line \d+ of (\d+)/.exec(await said('now'))[1]);
  assert.ok(count > 40_000, `${count} lines`);
  const times = await page.evaluate(async () => {
    const frame = (act) => { const began = performance.now(); act(); drawBoard(); drawOverview(); return performance.now() - began; };
    return {
      whole: frame(() => look(0, end)),
      narrow: frame(() => look(end / 3, end / 3 + 5e5)),
      step: frame(() => goTo(view.line + 1)),
      point: frame(() => choose(3)),
    };
  });
  console.log(`large: ${count} lines; milliseconds to draw: ${JSON.stringify(times)}`);
  assert.deepEqual(wrong, []);
  await page.close();
}

try {
  const lines = await healthy();
  console.log(`healthy.html: ok, ${lines} lines`);
  await broken();
  console.log('broken.html: ok');
  await dark();
  console.log('dark: ok');
  await large();
} finally {
  await browser.close();
}
