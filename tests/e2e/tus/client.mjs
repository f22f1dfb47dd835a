// One upload with tus-js-client. Usage: node client.mjs PLAN, a JSON object:
//   endpoint, key, file   where, who, what
//   options               taken over as tus-js-client's own
//   abort_seed, aborts    calls abort() this often in the midst of a request, at points the seed chooses,
//                         and goes on with a new Upload object that knows only the URL
//   url                   goes on with this upload
// Prints a JSON object a line: {"url"} when the upload has one, {"chunk": bytes so far} for each PATCH
// that was acknowledged, {"aborted"} for each abort, {"done": url, "requests": {...}} or {"error"}.
import { readFileSync } from 'node:fs';
import * as tus from 'tus-js-client';

const plan = JSON.parse(process.argv[2]);
const bytes = readFileSync(plan.file);
const say = (what) => process.stdout.write(JSON.stringify(what) + '\n');
const requests = {};
let aborts = plan.aborts || 0;
let state = BigInt(plan.abort_seed || 1);

// Of 2^32, from a linear congruential generator: the same seed gives the same points.
function random(n) {
    state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffffffffffffffffn;
    return Number((state >> 32n) % BigInt(n));
}

function turns(n, then) {
    if (n === 0) {
        then();
    } else {
        setImmediate(() => turns(n - 1, then));
    }
}

function upload(url) {
    return new Promise((resolve, reject) => {
        let over = false;
        const it = new tus.Upload(bytes, {
            endpoint: plan.endpoint,
            uploadUrl: url,
            retryDelays: null,
            ...plan.options,
            headers: { Authorization: `Bearer ${plan.key}` },
            onUploadUrlAvailable: () => say({ url: it.url }),
            onChunkComplete: (_, accepted) => say({ chunk: accepted }),
            onBeforeRequest: (request) => {
                const name = request.getHeader('X-HTTP-Method-Override') || request.getMethod();
                requests[name] = (requests[name] || 0) + 1;
                if (name !== 'PATCH' || aborts === 0 || over || random(3) === 0) {
                    return;
                }
                turns(random(12), () => {
                    if (over) {
                        return;
                    }
                    over = true;
                    aborts--;
                    it.abort().then(() => resolve({ again: it.url }), reject);
                });
            },
            onError: (error) => {
                if (!over) {
                    over = true;
                    reject(error);
                }
            },
            onSuccess: () => {
                over = true;
                resolve({ done: it.url });
            },
        });
        it.start();
    });
}

try {
    let result = await upload(plan.url || null);
    while (!result.done) {
        say({ aborted: true });
        result = await upload(result.again);
    }
    say({ done: result.done, requests });
} catch (error) {
    say({ error: String(error) });
    process.exitCode = 1;
}
