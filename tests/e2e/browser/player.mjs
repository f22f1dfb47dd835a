// Plays master playlists with hls.js in headless Chromium and prints, as one JSON object a line, what
// happened. Usage: node player.mjs CHROMIUM URL...
// The page is served from loopback by this program, so the playlists are fetched across origins, as
// by a player on somebody's site.
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

const [executablePath, ...urls] = process.argv.slice(2);
const scale = Number(process.env.SG_SLOW || '1');
const library = readFileSync(createRequire(import.meta.url).resolve('hls.js/dist/hls.min.js'));
const page_html = '<!doctype html><meta charset="utf-8"><video id="v" muted playsinline></video><script src="/hls.js"></script>';

const server = createServer((request, response) => {
    const script = request.url === '/hls.js';
    response.writeHead(200, { 'content-type': script ? 'text/javascript' : 'text/html' });
    response.end(script ? library : page_html);
});
await new Promise((done) => server.listen(0, '127.0.0.1', done));

// Runs in the page. Every wait is for an event of the element or the player, bounded by `limit_ms`.
async function play({ url, limit_ms }) {
    const video = document.getElementById('v');
    const hls = new Hls({ enableWorker: false });
    const fatal = [];
    const warnings = [];
    hls.on(Hls.Events.ERROR, (_, data) => (data.fatal ? fatal : warnings).push(`${data.type}/${data.details}`));
    const within = (what, promise) => Promise.race([promise, new Promise((_, fail) =>
        setTimeout(() => fail(new Error(`${what}: not within ${limit_ms} ms; currentTime ${video.currentTime}, ` +
            `readyState ${video.readyState}, fatal [${fatal}], others [${warnings}]`)), limit_ms))]);
    const event = (target, name) => new Promise((done) => target.addEventListener(name, done, { once: true }));
    const frame = () => new Promise((done) => video.requestVideoFrameCallback((_, m) => done(m)));
    // The clock moved on.
    const progress = async () => {
        const from = video.currentTime;
        while (video.currentTime < from + 0.4) {
            await new Promise(requestAnimationFrame);
        }
        return video.currentTime;
    };

    const result = { url, levels: 0, duration: 0 };
    const parsed = new Promise((done) => hls.on(Hls.Events.MANIFEST_PARSED, (_, data) => done(data)));
    // The tracks' source buffers.
    let buffers = {};
    hls.on(Hls.Events.BUFFER_CREATED, (_, data) => { buffers = data.tracks; });
    hls.attachMedia(video);
    hls.loadSource(url);
    const manifest = await within('the manifest', parsed);
    result.levels = manifest.levels.length;
    const has_video = Boolean(manifest.levels[0].videoCodec || manifest.levels[0].width);
    result.has_video = has_video;
    // A still element shows its first picture: where it stands on the timeline.
    const first = has_video ? frame() : null;
    await within('data', event(video, 'loadeddata'));
    if (has_video) {
        result.first_media_time = (await within('the first frame', first)).mediaTime;
    }
    result.duration = video.duration;
    // As the player shows it; a rotation is applied already.
    result.size = [video.videoWidth, video.videoHeight];
    await video.play();
    result.after_play = await within('playing', progress());
    // What was decoded of either kind: Chromium counts both.
    result.audio_bytes = video.webkitAudioDecodedByteCount;
    result.video_bytes = video.webkitVideoDecodedByteCount;
    if (has_video) {
        // The picture shown and the clock agree: what A/V sync means to the one who watches.
        const lag = [];
        for (let i = 0; i < 11; i++) {
            const shown = await within('frames', frame());
            lag.push(video.currentTime - shown.mediaTime);
        }
        lag.sort((a, b) => a - b);
        result.median_lag = lag[5];
    }

    const middle = video.duration / 2;
    let seeked = event(video, 'seeked');
    video.currentTime = middle;
    await within('the seek to the middle', seeked);
    result.middle = middle;
    result.after_middle = await within('playing from the middle', progress());

    seeked = event(video, 'seeked');
    const ended = event(video, 'ended');
    video.currentTime = video.duration - 0.6;
    await within('the seek to the end', seeked);
    await within('the end', ended);
    result.at_end = video.currentTime;
    // What each track holds, [from, to], and by how much the player moved its timestamps.
    result.held = {};
    for (const [name, { buffer }] of Object.entries(buffers)) {
        const at = buffer.buffered;
        const ranges = Array.from({ length: at.length }, (_, i) => [at.start(i), at.end(i)]);
        result.held[name] = { ranges, moved: buffer.timestampOffset };
    }
    result.dropped = video.getVideoPlaybackQuality().droppedVideoFrames;
    result.fatal = fatal;
    result.warnings = warnings;
    hls.destroy();
    return result;
}

const browser = await chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--autoplay-policy=no-user-gesture-required', '--disable-dev-shm-usage', '--mute-audio',
        // Nothing but the pages asked for: no other traffic, no first-run work.
        '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-component-update', '--disable-sync',
        '--disable-background-networking'],
});
let failed = false;
try {
    for (const url of urls) {
        const page = await browser.newPage();
        try {
            await page.goto(`http://127.0.0.1:${server.address().port}/`);
            console.log(JSON.stringify(await page.evaluate(play, { url, limit_ms: 20000 * scale })));
        } catch (error) {
            failed = true;
            console.log(JSON.stringify({ url, error: String(error.message || error) }));
        }
        await page.close();
    }
} finally {
    await browser.close();
    server.close();
}
process.exitCode = failed ? 1 : 0;
