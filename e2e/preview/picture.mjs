// Takes a picture of each dashboard in headless Chromium, light and dark, and fails on an empty panel or an error.
//
//   node --experimental-websocket picture.mjs ADDRESS FOLDER [NAME...]
//
// Prints one line of JSON a picture: {"dashboard", "theme", "file", "panels", "empty", "nothing", "faults"}:
// `nothing` counts panels whose own words say that there is nothing to show. Then uses the page as people do, and
// prints what it saw: {"walk": …}.
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [address, folder, ...only] = process.argv.slice(2);
if (!address || !folder) {
  console.error('usage: node picture.mjs ADDRESS FOLDER [NAME...]');
  process.exit(2);
}
const WIDTH = 1600;
const DEADLINE = 60_000;
mkdirSync(folder, { recursive: true });
const profile = mkdtempSync(join(tmpdir(), 'tidemark-chromium-'));
const browser = spawn('chromium', [
  '--headless=new', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--no-proxy-server', '--remote-debugging-port=0',
  `--user-data-dir=${profile}`, `--window-size=${WIDTH},1000`, 'about:blank',
], { stdio: 'ignore' });

// A look that a navigation cut short saw nothing.
async function until(what, look) {
  const end = Date.now() + DEADLINE;
  for (;;) {
    const found = await Promise.resolve().then(look).catch((error) => {
      if (!/navigated|context was destroyed|Cannot find context/.test(error.message)) throw error;
    });
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited ${DEADLINE / 1000} s for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

// One page over the DevTools protocol.
async function attach(port) {
  const targets = await (await fetch(`http://127.0.0.1:${port}/json`)).json();
  const socket = new WebSocket(targets.find((target) => target.type === 'page').webSocketDebuggerUrl);
  await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject; });
  const waiting = new Map();
  let last = 0;
  socket.onmessage = ({ data }) => {
    const { id, result, error } = JSON.parse(data);
    const call = waiting.get(id);
    waiting.delete(id);
    if (call) (error ? call.reject(new Error(error.message)) : call.resolve(result));
  };
  const send = (method, params = {}) => new Promise((resolve, reject) => {
    last += 1;
    waiting.set(last, { resolve, reject });
    socket.send(JSON.stringify({ id: last, method, params }));
  });
  const value = async (expression) => (await send('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true })).result.value;
  return { send, value };
}

// Two frames: one in which the charts take their size, one in which they are drawn.
const drawn = 'new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))';

// Waits until every panel of the dashboard has drawn its answer to what the address says.
async function ready(page, name, what, search) {
  await until(`${name} to be drawn ${what}`, () => page.value(`document.body?.dataset.ready === location.href
    && location.pathname.endsWith('-${name}') && decodeURIComponent(location.search).includes(${JSON.stringify(search)})`));
}

async function open(page, name, search, what) {
  await page.send('Page.navigate', { url: `${address}/d/preview-${name}?${search}&refresh=0` });
  await ready(page, name, what ?? `with ${search}`, search);
}

async function picture(page, name, theme) {
  await page.send('Emulation.setDeviceMetricsOverride', { width: WIDTH, height: 1000, deviceScaleFactor: 1, mobile: false });
  await open(page, name, `theme=${theme}`);
  const height = Math.ceil(await page.value('document.querySelector(".page").scrollHeight'));
  await page.send('Emulation.setDeviceMetricsOverride', { width: WIDTH, height, deviceScaleFactor: 1, mobile: false });
  await page.send('Runtime.evaluate', { expression: drawn, awaitPromise: true });
  const found = JSON.parse(await page.value(`JSON.stringify({
    panels: document.querySelectorAll('main > .panel').length,
    empty: [...document.querySelectorAll('[data-empty]')].map((each) => each.dataset.empty),
    nothing: document.querySelectorAll('main .empty').length,
    faults: JSON.parse(document.body.dataset.faults ?? '[]'),
  })`));
  const shot = await page.send('Page.captureScreenshot', { format: 'webp', quality: 82 });
  const file = `${name}-${theme}.webp`;
  writeFileSync(join(folder, file), Buffer.from(shot.data, 'base64'));
  return { dashboard: name, theme, file, ...found };
}

const panel = (title) => `[...document.querySelectorAll('main > .panel')].find((each) => each.innerText.startsWith(${JSON.stringify(title)}))`;
const text = (page, title) => page.value(`${panel(title)}.innerText`);
const same = (what, one, other) => { if (one !== other) throw new Error(`${what}: ${one} is not ${other}`); };
const differ = (what, one, other) => { if (one === other) throw new Error(`${what} is still ${one}`); };

// Chooses countries, follows a link, reloads, lets the page ask again, and clicks a customer, as people do.
async function walk(page) {
  await open(page, 'executive', 'theme=dark');
  const all = await text(page, 'Revenue');
  const choose = (place) => page.value(`(() => {
    if (!document.querySelector('.pick .list')) document.querySelector('button[name=country]').click();
    return new Promise((done) => requestAnimationFrame(() => {
      const box = document.querySelectorAll('.pick .list input')[${place}];
      box.click();
      done(box.parentElement.innerText);
    }));
  })()`);
  const countries = [await choose(1)];
  await ready(page, 'executive', 'for one country', `var-country=${countries[0]}&`);
  const one = await text(page, 'Revenue');
  differ('revenue after a country was chosen', one, all);
  countries.push(await choose(2));
  await ready(page, 'executive', 'for two countries', `var-country=${countries[0]}&var-country=${countries[1]}&`);
  const two = await text(page, 'Orders');
  await page.send('Page.reload');
  await until('the page to be another', () => page.value('!document.querySelector(".pick .list")'));
  await ready(page, 'executive', 'again', `var-country=${countries[0]}&var-country=${countries[1]}&`);
  same('orders after a reload', await text(page, 'Orders'), two);

  const link = await page.value(`(() => {
    const link = [...document.querySelectorAll('header a.link')].find((each) => each.innerText === 'Customers');
    link.click();
    return link.href;
  })()`);
  same('a country on its way', link.includes(`var-country=${countries[0]}&`), true);
  await ready(page, 'customers', 'by the link', 'from=now-30d');
  const before = await text(page, 'Customer\n');
  const customer = await page.value(`(() => {
    const link = [...${panel('Best customers')}.querySelectorAll('a[href*="var-customer="]')][1];
    link.click();
    return new URL(link.href).searchParams.get('var-customer');
  })()`);
  await ready(page, 'customers', 'for the one clicked', `var-customer=${customer}&`);
  const after = await text(page, 'Customer\n');
  differ('the customer shown', after, before);
  same('the customer clicked', after.includes(customer), true);
  const faults = await page.value('document.body.dataset.faults');
  same('faults', faults, undefined);
  return { walk: { countries, customer, all, one } };
}

let bad = 0;
try {
  const portFile = join(profile, 'DevToolsActivePort');
  const port = (await until('Chromium to listen', () => existsSync(portFile) && readFileSync(portFile, 'utf8'))).split('\n')[0];
  const page = await attach(port);
  await page.send('Page.enable');
  const all = await (await fetch(`${address}/api/dashboards`)).json();
  for (const { name } of all.filter((each) => only.length === 0 || only.includes(each.name))) {
    for (const theme of ['light', 'dark']) {
      const result = await picture(page, name, theme);
      console.log(JSON.stringify(result));
      if (result.panels === 0 || result.empty.length > 0 || result.faults.length > 0) bad += 1;
    }
  }
  if (only.length === 0) console.log(JSON.stringify(await walk(page)));
} catch (error) {
  console.error(error.message);
  bad += 1;
} finally {
  const ended = new Promise((resolve) => browser.once('exit', resolve));
  browser.kill();
  await ended;
  // Its helpers end a moment later, and write until then; the retries of rmSync itself do not reach inner folders.
  await until('the profile to be removed', () => {
    try {
      rmSync(profile, { recursive: true, force: true });
      return true;
    } catch {
      return false;
    }
  });
}
process.exit(bad === 0 ? 0 : 1);
