// Players in headless Chromium, led by whoever writes to standard input: a JSON object a line,
//   {"id": 1, "open": "hls"}                          a page with this player (hls, shaka or dash); answers its number
//   {"id": 2, "page": 0, "call": "play", "with": {}}  a function of stage.js
//   {"id": 3, "page": 0, "close": true}
// each answered by a line {"id", "value"} or {"id", "error"}. Usage: node renditions.mjs CHROMIUM
// The page is served from loopback by this program, so playlists are fetched across origins.
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const LIMIT_MS = 30000 * Number(process.env.SG_SLOW || '1');
const files = {
    hls: 'node_modules/hls.js/dist/hls.min.js',
    dash: 'node_modules/dashjs/dist/modern/umd/dash.all.min.js',
    shaka: 'node_modules/shaka-player/dist/shaka-player.compiled.js',
    stage: 'stage.js',
};
for (const name in files) {
    files[name] = readFileSync(new URL(files[name], import.meta.url));
}

const server = createServer((request, response) => {
    const [name, extension] = request.url.slice(1).split('.');
    if (!(name in files)) {
        response.writeHead(404).end();
        return;
    }
    response.writeHead(200, { 'content-type': extension === 'js' ? 'text/javascript' : 'text/html' });
    response.end(extension === 'js' ? files[name] : '<!doctype html><meta charset="utf-8">' +
        `<video id="v" muted playsinline></video><script src="/${name}.js"></script><script src="/stage.js"></script>`);
});
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const browser = await chromium.launch({
    executablePath: process.argv[2],
    args: ['--no-sandbox', '--autoplay-policy=no-user-gesture-required', '--disable-dev-shm-usage', '--mute-audio',
        '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-component-update', '--disable-sync',
        '--disable-background-networking', '--disable-background-timer-throttling',
        '--disable-backgrounding-occluded-windows', '--disable-renderer-backgrounding'],
});

const pages = [];

async function open(name) {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${server.address().port}/${name}`);
    pages.push(page);
    return pages.length - 1;
}

async function call(page, name, given, limit_ms) {
    let timer;
    const late = new Promise((_, fail) => {
        timer = setTimeout(async () => {
            const report = await page.evaluate(() => window.stage.report()).catch((error) => String(error));
            fail(new Error(`${name} ${JSON.stringify(given)}: not within ${limit_ms} ms: ${JSON.stringify(report)}`));
        }, limit_ms);
    });
    try {
        return await Promise.race([page.evaluate(([n, g]) => window.stage[n](g), [name, given]), late]);
    } finally {
        clearTimeout(timer);
    }
}

async function answer(asked) {
    if (asked.open !== undefined) {
        return open(asked.open);
    }
    if (asked.close) {
        return pages[asked.page].close();
    }
    return call(pages[asked.page], asked.call, asked.with || {}, asked.limit_s ? asked.limit_s * 1000 : LIMIT_MS);
}

for await (const line of createInterface({ input: process.stdin })) {
    const asked = JSON.parse(line);
    answer(asked).then(
        (value) => console.log(JSON.stringify({ id: asked.id, value: value === undefined ? null : value })),
        (error) => console.log(JSON.stringify({ id: asked.id, error: String(error.message || error) })));
}
await browser.close();
server.close();
