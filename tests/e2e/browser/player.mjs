// Plays playlists and manifests in headless Chromium and prints, as one JSON object a line, what
// happened. Usage: node player.mjs CHROMIUM PLAYER=URL..., where PLAYER is hls, dash, shaka or shaka_hls (which
// also seeks at speed).
// The page is served from loopback by this program, so the playlists are fetched across origins, as
// by a player on somebody's site.
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';

const [executablePath, ...plays] = process.argv.slice(2);
const scale = Number(process.env.SG_SLOW || '1');
const libraries = {
    hls: 'hls.js/dist/hls.min.js',
    dash: 'dashjs/dist/modern/umd/dash.all.min.js',
    shaka: 'shaka-player/dist/shaka-player.dash.js',
    shaka_hls: 'shaka-player/dist/shaka-player.compiled.js',
};
for (const name in libraries) {
    libraries[name] = readFileSync(new URL(`node_modules/${libraries[name]}`, import.meta.url));
}

// /hls is the page of hls.js, /hls.js the library.
const server = createServer((request, response) => {
    const [name, extension] = request.url.slice(1).split('.');
    if (!(name in libraries)) {
        response.writeHead(404).end();
        return;
    }
    response.writeHead(200, { 'content-type': extension === 'js' ? 'text/javascript' : 'text/html' });
    response.end(extension === 'js' ? libraries[name] : '<!doctype html><meta charset="utf-8">' +
        `<video id="v" muted playsinline></video><script src="/${name}.js"></script>`);
});
await new Promise((done) => server.listen(0, '127.0.0.1', done));

// Runs in the page. Every wait is for an event of the element or the player, bounded by `limit_ms`.
async function play({ player, url, limit_ms }) {
    const video = document.getElementById('v');
    const fatal = [];
    const warnings = [];
    const within = (what, promise) => Promise.race([promise, new Promise((_, fail) =>
        setTimeout(() => fail(new Error(`${what}: not within ${limit_ms} ms; currentTime ${video.currentTime}, ` +
            `readyState ${video.readyState}, fatal [${fatal}], others [${warnings}]`)), limit_ms))]);
    const event = (target, name) => new Promise((done) => target.addEventListener(name, done, { once: true }));
    const frame = () => new Promise((done) => video.requestVideoFrameCallback((_, m) => done(m)));
    // The clock moved on.
    const progress = async (to = video.currentTime + 0.4) => {
        while (video.currentTime < to) {
            await new Promise(requestAnimationFrame);
        }
        return video.currentTime;
    };

    // The tracks' source buffers, by kind, and the first and last moment each ever held: players throw away what they passed.
    const buffers = {};
    const spans = {};
    const add = MediaSource.prototype.addSourceBuffer;
    MediaSource.prototype.addSourceBuffer = function (type) {
        const name = type.split('/')[0];
        const buffer = add.call(this, type);
        const span = spans[name] = [Infinity, -Infinity];
        buffer.addEventListener('updateend', () => {
            const { buffered } = buffer;
            if (buffered.length) {
                span[0] = Math.min(span[0], buffered.start(0));
                span[1] = Math.max(span[1], buffered.end(buffered.length - 1));
            }
        });
        buffers[name] = buffer;
        return buffer;
    };

    const begin_shaka = async () => {
        shaka.polyfill.installAll();
        const one = new shaka.Player();
        await one.attach(video);
        one.addEventListener('error', ({ detail }) =>
            (detail.severity === shaka.util.Error.Severity.CRITICAL ? fatal : warnings).push(`${detail.code}/${detail.data}`));
        const parsed = new Promise((done) => one.addEventListener('manifestparsed', done));
        const load = one.load(url);
        load.catch((e) => fatal.push(`${e.code}/${e.data}`));
        await parsed;
        load.then(() => {
            const [text] = one.getTextTracks();
            if (text) {
                one.selectTextTrack(text);
                one.setTextTrackVisibility?.(true);
            }
        });
        const tracks = one.getManifest().variants;
        const languages = new Set(tracks.filter((t) => t.audio).map((t) => (t.language === 'und' ? '' : t.language)));
        return { levels: new Set(tracks.map((t) => (t.video || t.audio).id)).size, sounds: [...languages],
            has_video: tracks.some((t) => t.video), end: () => one.destroy(), one };
    };

    // Each begins to load the URL and answers { levels, has_video, sounds } as soon as it knows, and how to end it.
    const begin = {
        async hls() {
            const hls = new Hls({ enableWorker: false });
            hls.on(Hls.Events.ERROR, (_, data) => (data.fatal ? fatal : warnings).push(`${data.type}/${data.details}`));
            hls.on(Hls.Events.BUFFER_CREATED, (_, data) => {
                for (const name in data.tracks) {
                    buffers[name] = data.tracks[name].buffer;
                }
            });
            const parsed = new Promise((done) => hls.on(Hls.Events.MANIFEST_PARSED, (_, data) => done(data)));
            hls.attachMedia(video);
            hls.loadSource(url);
            const { levels, audioTracks, subtitleTracks } = await parsed;
            if (subtitleTracks.length) {
                hls.subtitleDisplay = true;
                hls.subtitleTrack = 0;
            }
            return { levels: levels.length, sounds: audioTracks.map((t) => t.lang || ''),
                has_video: Boolean(levels[0].videoCodec || levels[0].width), end: () => hls.destroy() };
        },
        async dash() {
            const dash = dashjs.MediaPlayer().create();
            dash.updateSettings({ debug: { logLevel: dashjs.Debug.LOG_LEVEL_NONE } });
            for (const name of ['error', 'playbackError']) {
                dash.on(name, (e) => fatal.push(`${e.error && e.error.code}/${e.error && e.error.message}`));
            }
            const parsed = new Promise((done) => dash.on('streamInitialized', done));
            dash.initialize(video, url, false);
            await parsed;
            if (dash.getTracksFor('text').length) {
                dash.enableText(true);
                dash.setTextTrack(0);
            }
            const pictures = dash.getTracksFor('video');
            return { levels: dash.getRepresentationsByType(pictures.length ? 'video' : 'audio').length,
                sounds: dash.getTracksFor('audio').map((t) => t.lang || ''), has_video: pictures.length > 0,
                end: () => dash.destroy() };
        },
        shaka: () => begin_shaka(),
        async shaka_hls() {
            const { one, ...rest } = await begin_shaka();
            const fetched = () => performance.getEntriesByType('resource').filter((e) => e.name.includes('/iframe-')).length;
            const trick = async () => {
                const tracks = one.getManifest().variants.filter((v) => v.video && v.video.trickModeVideo).length;
                const from = video.currentTime;
                one.trickPlay(6);
                while (fetched() === 0 || video.currentTime < from + 6) {
                    await new Promise(requestAnimationFrame);
                }
                one.cancelTrickPlay();
                return { tracks, fetched: fetched() };
            };
            return { ...rest, trick };
        },
    };

    const result = { player, url, levels: 0, duration: 0 };
    const loaded = event(video, 'loadeddata');
    // A still element shows its first picture: where it stands on the timeline.
    const first = frame();
    const { levels, sounds, has_video, end, trick } = await within('the manifest', begin[player]());
    Object.assign(result, { levels, sounds, has_video });
    await within('data', loaded);
    if (has_video) {
        result.first_media_time = (await within('the first frame', first)).mediaTime;
    }
    result.first_time = video.currentTime;
    result.duration = video.duration;
    // As the player shows it; a rotation is applied already.
    result.size = [video.videoWidth, video.videoHeight];
    await video.play();
    result.after_play = await within('playing', progress());
    // What was decoded of either kind: Chromium counts both.
    result.audio_bytes = video.webkitAudioDecodedByteCount;
    result.video_bytes = video.webkitVideoDecodedByteCount;
    if (trick) {
        result.trick = await within('seeking at speed', trick());
    }

    const middle = video.duration / 2;
    let seeked = event(video, 'seeked');
    video.currentTime = middle;
    await within('the seek to the middle', seeked);
    result.middle = middle;
    result.after_middle = await within('playing from the middle', progress());

    seeked = event(video, 'seeked');
    video.currentTime = video.duration - 0.6;
    await within('the seek to the end', seeked);
    // Not the event: a player may leave its stream open where one track is shorter than the other.
    await within('the end', progress(video.duration - 0.02));
    result.at_end = video.currentTime;
    // What each track holds, [from, to], and by how much the player moved its timestamps.
    result.held = {};
    for (const [name, buffer] of Object.entries(buffers)) {
        const at = buffer.buffered;
        const ranges = Array.from({ length: at.length }, (_, i) => [at.start(i), at.end(i)]);
        result.held[name] = { ranges, span: spans[name], moved: buffer.timestampOffset };
    }
    if (has_video) {
        // The picture shown where the clock stands still: what A/V sync means to the one who watches, whatever a busy
        // machine makes of its pace.
        video.pause();
        result.still = [];
        for (const part of [0.25, 0.35, 0.55, 0.65, 0.75]) {
            const shown = frame();
            const there = event(video, 'seeked');
            video.currentTime = part * video.duration;
            await within('a seek', there);
            result.still.push([video.currentTime, (await within('its picture', shown)).mediaTime]);
        }
    }
    // Subtitles, as the element has them.
    const texts = Array.from(video.textTracks).flatMap((t) => Array.from(t.cues || []));
    result.cues = texts.map((c) => ({ start: c.startTime, end: c.endTime, text: c.text }));
    if (texts.length) {
        const last = texts.reduce((a, b) => (a.startTime > b.startTime ? a : b));
        seeked = event(video, 'seeked');
        video.currentTime = last.startTime + 0.05;
        await within('the seek to a cue', seeked);
        await video.play();
        await within('playing from a cue', progress());
        result.shown = Array.from(video.textTracks).flatMap((t) => Array.from(t.activeCues || [])).map((c) => c.text).join();
    }
    result.dropped = video.getVideoPlaybackQuality().droppedVideoFrames;
    result.fatal = fatal;
    result.warnings = warnings;
    await end();
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
    for (const one of plays) {
        const [player, url] = [one.slice(0, one.indexOf('=')), one.slice(one.indexOf('=') + 1)];
        const page = await browser.newPage();
        try {
            await page.goto(`http://127.0.0.1:${server.address().port}/${player}`);
            console.log(JSON.stringify(await page.evaluate(play, { player, url, limit_ms: 20000 * scale })));
        } catch (error) {
            failed = true;
            console.log(JSON.stringify({ player, url, error: String(error.message || error) }));
        }
        await page.close();
    }
} finally {
    await browser.close();
    server.close();
}
process.exitCode = failed ? 1 : 0;
