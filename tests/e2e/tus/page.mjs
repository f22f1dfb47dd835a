// tus-js-client in headless Chromium, on a page of another origin than the daemon's. Usage:
// node page.mjs CHROMIUM PLAN; PLAN: {endpoint, key, file, options}. Prints {"done": url} or {"error"}.
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const { chromium } = createRequire(new URL('../browser/package.json', import.meta.url))('playwright-core');
const [executablePath, text] = process.argv.slice(2);
const plan = JSON.parse(text);
const files = {
    '/': ['text/html', '<!doctype html><meta charset="utf-8"><script src="/tus.js"></script>'],
    '/tus.js': ['text/javascript', readFileSync(createRequire(import.meta.url).resolve('tus-js-client/dist/tus.min.js'))],
    '/file': ['application/octet-stream', readFileSync(plan.file)],
};

const server = createServer((request, response) => {
    const found = files[request.url];
    response.writeHead(found ? 200 : 404, { 'content-type': found ? found[0] : 'text/plain' });
    response.end(found ? found[1] : '');
});
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
try {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${server.address().port}/`);
    const result = await page.evaluate(async ({ endpoint, key, options }) => {
        const blob = await (await fetch('/file')).blob();
        return new Promise((resolve) => {
            const seen = [];
            const upload = new tus.Upload(blob, {
                endpoint,
                retryDelays: null,
                ...options,
                headers: { Authorization: `Bearer ${key}` },
                onAfterResponse: (request, response) => seen.push([
                    request.getMethod(), response.getStatus(), response.getHeader('Upload-Offset'),
                    response.getHeader('Tus-Resumable'), response.getHeader('Content-Location')]),
                onError: (error) => resolve({ error: String(error), seen }),
                onSuccess: () => resolve({ done: upload.url, seen }),
            });
            upload.start();
        });
    }, plan);
    process.stdout.write(JSON.stringify(result) + '\n');
} finally {
    await browser.close();
    server.close();
}
