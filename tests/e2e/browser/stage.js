// In the page: one video element, one player, and what a watcher would notice. Loaded by renditions.mjs.
// Every wait is for an event or a state of the element; renditions.mjs bounds them all.
'use strict';

const SAMPLE_MS = 50;
const video = document.getElementById('v');
const fatal = [];
const warnings = [];
const buffers = [];
const once = (target, name) => new Promise((done) => target.addEventListener(name, done, { once: true }));
const frame = () => new Promise((done) => video.requestVideoFrameCallback((_, m) => done(m)));

const add_buffer = MediaSource.prototype.addSourceBuffer;
MediaSource.prototype.addSourceBuffer = function (type) {
    const buffer = add_buffer.call(this, type);
    buffers.push({ kind: type.split('/')[0], buffer });
    return buffer;
};

const ranges_of = (at) => Array.from({ length: at.length }, (_, i) => [at.start(i), at.end(i)]);

async function until(condition) {
    while (!condition()) {
        await new Promise((done) => setTimeout(done, SAMPLE_MS / 2));
    }
}

// What a watcher notices: the clock stands still, or leaps. Not while a seek is under way.
const seen = { stall_s: 0, leap_s: 0, back_s: 0, stalled_at: null, leapt_at: null };
let mark = null;
video.addEventListener('seeking', () => {
    mark = null;
});
setInterval(() => {
    const now = performance.now() / 1000;
    const at = video.currentTime;
    if (video.paused || video.seeking || video.ended || video.readyState === 0) {
        mark = null;
        return;
    }
    if (mark === null) {
        // Not before it moves: the beginning is no stall.
        mark = { now, at, moved: null };
        return;
    }
    if (at !== mark.at) {
        const leap = (at - mark.at) - (now - mark.now) * video.playbackRate;
        if (mark.moved !== null && leap > seen.leap_s) {
            Object.assign(seen, { leap_s: leap, leapt_at: at });
        }
        seen.back_s = Math.max(seen.back_s, mark.at - at);
        mark = { now, at, moved: now };
    } else {
        const still = mark.moved === null ? 0 : now - mark.moved;
        if (still > seen.stall_s) {
            Object.assign(seen, { stall_s: still, stalled_at: at });
        }
        mark.now = now;
    }
}, SAMPLE_MS);

// Each player: begin(url) resolves when it knows what there is; levels(), sounds(); show(i), listen(i) ask for one.
const players = {
    hls: {
        async begin(url) {
            const hls = new Hls({ enableWorker: false, maxBufferLength: 8, startLevel: 0 });
            this.hls = hls;
            hls.on(Hls.Events.ERROR, (_, data) => (data.fatal ? fatal : warnings).push(`${data.type}/${data.details}`));
            hls.on(Hls.Events.BUFFER_CREATED, (_, data) => {
                for (const kind in data.tracks) {
                    buffers.push({ kind, buffer: data.tracks[kind].buffer });
                }
            });
            const parsed = new Promise((done) => hls.on(Hls.Events.MANIFEST_PARSED, done));
            hls.attachMedia(video);
            hls.loadSource(url);
            await parsed;
        },
        levels() {
            return this.hls.levels.map((l) => ({ width: l.width, height: l.height, bitrate: l.bitrate }));
        },
        sounds() {
            return this.hls.audioTracks.map((t) => ({ language: t.lang || '', name: t.name, channels: Number(t.channels) }));
        },
        show(i) {
            this.hls.nextLevel = i;
        },
        listen(i) {
            this.hls.audioTrack = i;
        },
        end() {
            this.hls.destroy();
        },
    },
    shaka: {
        async begin(url) {
            shaka.polyfill.installAll();
            const one = new shaka.Player();
            this.one = one;
            await one.attach(video);
            one.addEventListener('error', ({ detail }) =>
                (detail.severity === shaka.util.Error.Severity.CRITICAL ? fatal : warnings).push(`${detail.code}/${detail.data}`));
            one.configure({ streaming: { bufferingGoal: 8, rebufferingGoal: 1 }, abr: { enabled: false } });
            await one.load(url);
        },
        ladder() {
            const best = new Map();
            for (const t of this.one.getVariantTracks()) {
                const key = t.videoId ?? t.audioId;
                if (!best.has(key) || t.active) {
                    best.set(key, t);
                }
            }
            return [...best.values()].sort((a, b) => a.bandwidth - b.bandwidth);
        },
        levels() {
            return this.ladder().map((t) => ({ width: t.width || 0, height: t.height || 0, bitrate: t.bandwidth }));
        },
        sounds() {
            return this.one.getAudioTracks().map((t) => ({ language: t.language === 'und' ? '' : t.language,
                name: t.label || '', channels: t.channelsCount }));
        },
        show(i) {
            this.one.selectVariantTrack(this.ladder()[i], true, 2);
        },
        listen(i) {
            this.one.selectAudioTrack(this.one.getAudioTracks()[i]);
        },
        end() {
            return this.one.destroy();
        },
    },
    dash: {
        async begin(url) {
            const dash = dashjs.MediaPlayer().create();
            this.dash = dash;
            dash.updateSettings({ debug: { logLevel: dashjs.Debug.LOG_LEVEL_NONE },
                streaming: { buffer: { bufferTimeDefault: 8, bufferTimeAtTopQuality: 8, bufferTimeAtTopQualityLongForm: 8,
                    fastSwitchEnabled: true },
                abr: { autoSwitchBitrate: { video: false, audio: false }, initialBitrate: { video: 1 } } } });
            for (const name of ['error', 'playbackError']) {
                dash.on(name, (e) => fatal.push(`${e.error && e.error.code}/${e.error && e.error.message}`));
            }
            const parsed = new Promise((done) => dash.on('streamInitialized', done));
            dash.initialize(video, url, false);
            await parsed;
        },
        ladder() {
            const kind = this.dash.getTracksFor('video').length ? 'video' : 'audio';
            return [...this.dash.getRepresentationsByType(kind)].sort((a, b) => a.bandwidth - b.bandwidth);
        },
        levels() {
            return this.ladder().map((r) => ({ width: r.width || 0, height: r.height || 0, bitrate: r.bandwidth }));
        },
        sounds() {
            return this.dash.getTracksFor('audio').map((t) => ({ language: t.lang || '',
                name: t.labels && t.labels.length ? t.labels[0].text : '',
                channels: Number((t.audioChannelConfiguration[0] || {}).value || 0) }));
        },
        show(i) {
            this.dash.setRepresentationForTypeById('video', this.ladder()[i].id, true);
        },
        listen(i) {
            this.dash.setCurrentTrack(this.dash.getTracksFor('audio')[i]);
        },
        end() {
            this.dash.destroy();
        },
    },
};

let player = null;
let ear = null;

const stage = {
    async begin({ kind, url }) {
        player = players[kind];
        const loaded = once(video, 'loadeddata');
        await player.begin(url);
        await loaded;
        return stage.offers();
    },
    offers() {
        return { levels: player.levels(), sounds: player.sounds(), duration: video.duration,
            ends: seekable_end() };
    },
    async play() {
        await video.play();
        const from = video.currentTime;
        await until(() => video.currentTime > from + 0.3);
    },
    pause() {
        video.pause();
    },
    // Until the picture has the size of this level and went on for a moment.
    async show({ level, size }) {
        const from = video.currentTime;
        player.show(level);
        await until(() => video.videoWidth === size[0] && video.videoHeight === size[1]);
        const at = video.currentTime;
        await until(() => video.currentTime > at + 0.5);
        return { asked_at: from, seen_at: at, ranges: ranges_of(video.buffered) };
    },
    // Until the sound has this pitch.
    async listen({ sound, hertz }) {
        player.listen(sound);
        await until(() => Math.abs(pitch() - hertz) < 25);
        return pitch();
    },
    pitch: () => until(() => pitch() > 100).then(pitch),
    async seek({ to }) {
        const done = once(video, 'seeked');
        video.currentTime = to;
        await done;
        await until(() => video.ended || video.currentTime > to + 0.3);
        return video.currentTime;
    },
    reach: ({ at }) => until(() => video.currentTime >= at || video.ended),
    end: () => until(() => video.ended),
    until_duration: ({ seconds }) => until(() => Number.isFinite(video.duration) && video.duration >= seconds),
    fetches: ({ word }) => until(() => performance.getEntriesByType('resource').some((e) => e.name.includes(word))),
    // The colours at these places, each a share of width and height, of the picture shown next.
    async colours({ places }) {
        await frame();
        const canvas = document.createElement('canvas');
        canvas.width = video.videoWidth;
        canvas.height = video.videoHeight;
        const context = canvas.getContext('2d');
        context.drawImage(video, 0, 0);
        return places.map(([x, y]) =>
            [...context.getImageData(Math.floor(x * canvas.width), Math.floor(y * canvas.height), 1, 1).data].slice(0, 3));
    },
    report() {
        const held = {};
        for (const { kind, buffer } of buffers) {
            try {
                held[kind] = ranges_of(buffer.buffered);
            } catch {
                // Removed from its source by the player.
            }
        }
        const fetched = performance.getEntriesByType('resource').map((e) => e.name);
        return { ...seen, fatal, warnings, held, ranges: ranges_of(video.buffered), at: video.currentTime,
            ended: video.ended, duration: video.duration, size: [video.videoWidth, video.videoHeight], ends: seekable_end(),
            dropped: video.getVideoPlaybackQuality().droppedVideoFrames, fetched,
            error: video.error && video.error.message };
    },
    finish: () => player.end(),
};

function seekable_end() {
    return video.seekable.length ? video.seekable.end(video.seekable.length - 1) : 0;
}

// The loudest frequency now.
function pitch() {
    if (ear === null) {
        const context = new AudioContext();
        const analyser = context.createAnalyser();
        analyser.fftSize = 8192;
        analyser.smoothingTimeConstant = 0;
        context.createMediaElementSource(video).connect(analyser);
        analyser.connect(context.destination);
        video.muted = false;
        ear = { context, analyser, bins: new Float32Array(analyser.frequencyBinCount) };
    }
    ear.analyser.getFloatFrequencyData(ear.bins);
    let best = 0;
    for (let i = 1; i < ear.bins.length; i++) {
        best = ear.bins[i] > ear.bins[best] ? i : best;
    }
    return ear.bins[best] > -80 ? (best * ear.context.sampleRate) / ear.analyser.fftSize : 0;
}

window.stage = stage;
