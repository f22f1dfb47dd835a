#!/usr/bin/env python3
"""Packaging is right: a corpus of awkward clips, each compared frame by frame with its source.

    media_corpus.py --base http://127.0.0.1:8080 --key KEY   through a running daemon: curl uploads, everything is fetched back
    media_corpus.py --dump build/unit_media_av               without one: the program writes out what a viewer could fetch
    ... --compare build/unit_media_plain                     also: both readers of sample tables say the same of each clip

For both HLS forms of each clip: ffmpeg plays the playlist without a warning; every segment decodes on its own; consecutive
segments neither gap nor overlap by more than a frame; EXT-X-INDEPENDENT-SEGMENTS is there where, and only where, it is true; every decoded frame of the source, video and audio, is found again by
its hash at its own time plus one constant offset (so the A/V offset is kept and the timeline is shared); durations agree;
EXTINF adds up; what is not playable is refused. Needs python3, ffmpeg, ffprobe and, with --base, curl.
"""
import argparse
import concurrent.futures
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.request

OFFSET_S = 10.0       # SG_TIMELINE_OFFSET_S
AV_TOLERANCE_S = 0.020
DURATION_TOLERANCE_S = 0.050
TS_EXTRA_S = 0.0001   # 90 kHz rounding

VIDEO = "testsrc2=s=320x180:r={rate}"
AUDIO = "anoisesrc=r={rate}:a=0.3:seed=7"
X264 = "-c:v libx264 -preset ultrafast -g 50 -threads 1 -pix_fmt yuv420p"
AAC = "-c:a aac -b:a 64k -aac_pns 0"  # noise substitution decodes differently after a seek


START_GAP = "setpts='if(eq(N\\,0)\\,0\\,PTS+15/TB)'"
# The second segment begins long before time 0, too.
SLIDES_KEYS = "-g 4 -bf 3 -b_strategy 0 -x264-params b-pyramid=normal:ref=4 -force_key_frames expr:lt(n,3)"


def source(video=25, audio=48000, t=14):
    parts = []
    if video:
        parts.append(f"-f lavfi -t {t} -i " + VIDEO.format(rate=video))
    if audio:
        parts.append(f"-f lavfi -t {t} -i " + AUDIO.format(rate=audio))
    return " ".join(parts)


# name -> list of ffmpeg command lines; {out} is the clip, {tmp} a scratch file
CLIPS = {
    "plain": [f"{source()} {X264} -bf 0 {AAC} {{out}}"],
    "bframes": [f"{source()} {X264} -bf 2 -b_strategy 0 {AAC} {{out}}"],
    "reorder3": [f"{source()} {X264} -bf 7 -b_strategy 0 -x264-params b-pyramid=normal:ref=4 {AAC} {{out}}"],
    "opengop": [f"{source()} {X264} -bf 3 -b_strategy 0 -x264-params open-gop=1 {AAC} {{out}}"],
    # Key frames at 0, 7, 9, 16, 18...: those at 7, 16 open groups, so the cuts go to 9, 18...
    "opengop-some": [f"{source(t=9, audio=0)} {X264} -g 175 -bf 3 -b_strategy 0 -x264-params open-gop=1 {{tmp}}",
                     "-stream_loop 2 -i {tmp} -c copy {out}"],
    "editlist": [f"{source(t=20)} {X264} -bf 2 -b_strategy 0 {AAC} {{tmp}}", "-ss 3.3 -i {tmp} -c copy {out}"],
    "editlist-nob": [f"{source(t=20)} {X264} -bf 0 {AAC} {{tmp}}", "-ss 3.3 -i {tmp} -c copy {out}"],
    "edit-end": [f"{source(t=20)} {X264} -bf 3 -b_strategy 0 {AAC} {{tmp}}", "-ss 1.3 -t 11.37 -i {tmp} -c copy {out}"],
    "vfr": [f"{source()} -vf select='not(mod(n\\,7))+gt(mod(n\\,5)\\,2)' -fps_mode vfr {X264} -bf 2 {AAC} {{out}}"],
    "rotate90": [f"{source()} {X264} -bf 2 {AAC} {{tmp}}", "-i {tmp} -c copy -metadata:s:v rotate=90 {out}"],
    "rotate180": [f"{source()} {X264} {AAC} {{tmp}}", "-i {tmp} -c copy -metadata:s:v rotate=180 {out}"],
    "sar": [f"{source()} -vf setsar=4/3 {X264} {AAC} {{out}}"],
    "noaudio": [f"{source(audio=0)} {X264} -bf 2 {{out}}"],
    "audioonly": [f"{source(video=0, t=20)} {AAC} {{out}}"],
    "faststart": [f"{source()} {X264} -bf 2 {AAC} -movflags +faststart {{out}}"],
    "fragmented": [f"{source()} {X264} -bf 2 {AAC} -movflags frag_keyframe+empty_moov {{out}}"],
    "fragmented-base": [f"{source()} {X264} -bf 2 {AAC} -movflags frag_keyframe+empty_moov+default_base_moof+delay_moov {{out}}"],
    "audio-late": [f"{source()} {X264} -bf 2 {AAC} {{tmp}}", "-i {tmp} -itsoffset 0.5 -i {tmp} -map 0:v -map 1:a -c copy {out}"],
    "video-late": [f"{source()} {X264} -bf 2 {AAC} {{tmp}}", "-i {tmp} -itsoffset 0.5 -i {tmp} -map 1:v -map 0:a -c copy {out}"],
    "audio-longer": [f"{source(audio=0, t=9)} -f lavfi -t 25 -i {AUDIO.format(rate=48000)} {X264} {AAC} {{out}}"],
    "audio-little-longer": [f"{source(audio=0, t=9)} -f lavfi -t 10 -i {AUDIO.format(rate=48000)} {X264} {AAC} {{out}}"],
    "audio-shorter": [f"{source(audio=0, t=16)} -f lavfi -t 5 -i {AUDIO.format(rate=48000)} {X264} {AAC} {{out}}"],
    "oneframe": [f"{source(audio=0)} -frames:v 1 {X264} {{out}}"],
    "longgop": [f"{source(t=30)} {X264} -g 9999 -sc_threshold 0 -bf 2 {AAC} {{out}}"],
    "shortgop": [f"{source()} {X264} -g 1 {AAC} {{out}}"],
    "hevc": [f"{source(t=8)} -c:v libx265 -preset ultrafast -x265-params log-level=none:pools=1:frame-threads=1 -g 50 {AAC} -tag:v hvc1 {{out}}"],
    "hevc-hev1": [f"{source(t=16)} -c:v libx265 -preset ultrafast -x265-params log-level=none:pools=1:frame-threads=1:open-gop=1:keyint=50:bframes=3 {AAC} {{out}}"],
    "cd-audio": [f"{source(audio=44100)} {X264} -bf 2 {AAC} {{out}}"],
    "opus": [f"{source()} {X264} -bf 2 -c:a libopus -b:a 64k {{out}}"],
    "mp3": [f"{source()} {X264} -c:a libmp3lame -b:a 64k {{out}}"],
    "aac-ac3": [f"{source()} -map 0:v -map 1:a -map 1:a {X264} -c:a:0 aac -b:a:0 64k -c:a:1 ac3 -b:a:1 128k {{out}}"],
    "ntsc-film": [f"{source(video='24000/1001')} {X264} -bf 2 {AAC} {{out}}"],
    "two-audio": [f"{source()} -f lavfi -t 14 -i {AUDIO.format(rate=48000)} -map 0 -map 1 -map 2 {X264} {AAC} -metadata:s:a:0 language=eng "
                  "-metadata:s:a:1 language=deu {out}"],
    "quicktime": [f"{source()} {X264} -bf 2 {AAC} -f mov {{out}}"],
    # The first pictures lie far apart, so those that are reordered are decoded long before time 0.
    "start-gap": [f"{source(t=4, audio=0)} -f lavfi -t 19 -i {AUDIO.format(rate=48000)} -vf {START_GAP} -fps_mode vfr {X264} -bf 2 {AAC} {{out}}"],
    "slides": [f"{source(video='1/15', t=210, audio=0)} {X264} -g 4 -bf 3 -b_strategy 0 {{out}}"],
    "slides-keys": [f"{source(video='1/15', t=150, audio=0)} {X264} {SLIDES_KEYS} {{out}}"],
    "slides-editlist": [f"{source(video='1/15', t=300, audio=0)} {X264} {SLIDES_KEYS} {{tmp}}", "-ss 25 -i {tmp} -c copy {out}"],
    "slides-fragmented": [f"{source(video='1/15', t=150, audio=0)} {X264} {SLIDES_KEYS} -movflags frag_keyframe+delay_moov {{out}}"],
    "tenminutes": [f"{source(t=600)} {X264} -bf 2 {AAC} {{out}}"],
}
UNEVEN = {"vfr", "start-gap"}
TS_NOT_OFFERED = {"opus", "rotate90", "rotate180"}  # players do not turn pictures in MPEG-TS
# Leading pictures of an open group refer to the group before: a segment alone cannot decode them, which ffmpeg remarks on.
OPEN_GROUPS = {"opengop", "hevc-hev1"}
NOT_PLAIN = {"fragmented", "fragmented-base", "slides-fragmented"}  # libavformat reads them

REFUSED = {  # name -> (maker, slugs of the problem)
    "empty": (lambda path: open(path, "wb").close(), {"unprocessable-media", "invalid-request"}),
    "text": (lambda path: open(path, "w").write("This is no film.\n" * 50), {"unsupported-media"}),
    "playlist": (lambda path: open(path, "w").write("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"),
                 {"unsupported-media"}),
    "truncated": (lambda path: cut(path, 0.6, []), {"unprocessable-media"}),
    "truncated-faststart": (lambda path: cut(path, 0.6, ["-movflags", "+faststart"]), {"unprocessable-media"}),
    "zeros": (lambda path: zeros(path, 0, 1), {"unprocessable-media"}),
    "zeros-tail": (lambda path: zeros(path, 2 / 3, 1), {"unprocessable-media"}),
    "bomb": (lambda path: bomb(path), {"content-too-large", "unprocessable-media"}),
}

failures = []
readers = None  # the program that compares them


def fail(clip, text):
    failures.append((clip, text))
    print(f"  FAIL {clip}: {text}", flush=True)


def run(args, **kw):
    return subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, **kw)


def ffmpeg(line, out):
    r = run(["ffmpeg", "-nostdin", "-v", "error", "-y"] + line.split() + [out])
    if r.returncode:
        raise SystemExit(f"cannot make {out}: {r.stderr.decode()}")


def cut(path, share, extra):
    ffmpeg(f"{source(t=4)} {X264} {AAC} " + " ".join(extra) + " -f mp4", path)
    os.truncate(path, int(os.path.getsize(path) * share))


def zeros(path, begin, end):
    """A film whose tables are whole and whose media data was not written from one share to another."""
    ffmpeg(f"{source(t=4)} {X264} {AAC} -movflags +faststart -f mp4", path)
    data = bytearray(open(path, "rb").read())
    first = data.index(b"mdat") + 4
    at, to = (first + int((len(data) - first) * share) for share in (begin, end))
    data[at:to] = bytes(to - at)
    open(path, "wb").write(data)


def bomb(path):
    """A small file whose sample entry and track header claim 16000x16000."""
    ffmpeg(f"{source(t=1, audio=0)} {X264} -f mp4", path)
    data = bytearray(open(path, "rb").read())
    at = data.index(b"avc1", data.index(b"stsd"))
    data[at + 28:at + 32] = (16000).to_bytes(2, "big") * 2
    open(path, "wb").write(data)


def make_clip(name, path, tmp):
    for line in CLIPS[name]:
        args = [a.format(out=path, tmp=tmp) for a in line.split()]
        r = run(["ffmpeg", "-nostdin", "-v", "error", "-y"] + args)
        if r.returncode:
            raise RuntimeError(f"cannot make {name}: {r.stderr.decode()}")


# ---- getting at what a viewer gets ----

def uris(text):
    for line in text.splitlines():
        if line.startswith("#EXT-X-I-FRAME-STREAM-INF"):
            continue  # test_iframes.py looks at those
        if line and not line.startswith("#"):
            yield line
        yield from re.findall(r'URI="([^"]+)"', line)


def fetch(url):
    with urllib.request.urlopen(url, timeout=60) as r:
        return r.read()


def mirror(url, directory, rel):
    """Fetches a playlist and all below it into directory."""
    base = url.rsplit("/", 1)[0]
    data = fetch(url)
    path = os.path.join(directory, rel)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "wb").write(data)
    for uri in uris(data.decode()):
        below = os.path.normpath(os.path.join(os.path.dirname(rel), uri))
        if uri.endswith(".m3u8"):
            mirror(f"{base}/{uri}", directory, below)
        else:
            open(os.path.join(directory, below), "wb").write(fetch(f"{base}/{uri}"))


class Daemon:
    def __init__(self, base, key):
        self.base, self.key = base.rstrip("/"), key

    def put(self, path, name):
        r = run(["curl", "-sS", "-T", path, "-H", f"Authorization: Bearer {self.key}", "-w", "\n%{http_code}",
                 f"{self.base}/api/v1/upload/{name}.mp4"])
        body, _, status = r.stdout.decode().rpartition("\n")
        try:
            return int(status), json.loads(body)
        except ValueError:
            return 0, {"detail": body + r.stderr.decode()}

    def get(self, name, path, out):
        """Returns (slug of the refusal or None, forms {name: playlist to play})."""
        status, asset = self.put(path, name)
        if status != 201 or asset.get("status") != "ready":
            return asset.get("type", f"status {status} {asset}").rsplit(":", 1)[-1], {}
        forms = {}
        for form, key in (("fmp4", "hls"), ("ts", "hls_ts")):
            url = asset["playback"].get(key)
            if url:
                url = url if url.startswith("http") else self.base + url
                forms[form] = url
                mirror(url, out, "master.m3u8" if form == "fmp4" else "master-ts.m3u8")
        return None, forms


class Dump:
    def __init__(self, program):
        self.program = program

    def get(self, name, path, out):
        r = run([self.program, path, out])
        text = r.stdout.decode()
        refused = re.search(r"^probe: ([a-z-]+): ", text, re.M)
        if refused:
            return refused.group(1), {}
        if r.returncode:
            fail(name, f"{self.program}: {text} {r.stderr.decode()[-400:]}")
        for line in text.splitlines():
            if "the index says" in line:
                fail(name, line)
        forms = {"fmp4": os.path.join(out, "master.m3u8")}
        if os.path.exists(os.path.join(out, "master-ts.m3u8")):
            forms["ts"] = os.path.join(out, "master-ts.m3u8")
        return None, forms


# ---- what is checked ----

def frames(clip, path, stream):
    """[(time, duration, hash)] as ffmpeg decodes them, in order of output; anything it says is kept."""
    r = run(["ffmpeg", "-nostdin", "-v", "warning", "-xerror", "-threads", "1", "-noautorotate", "-copyts", "-i", path, "-map", f"0:{stream}",
             "-fps_mode", "passthrough", "-enc_time_base", "-1", "-f", "framemd5", "-"])
    said = r.stderr.decode().strip()
    tb, out = 1.0, []
    for line in r.stdout.decode().splitlines():
        m = re.match(r"#tb 0: (\d+)/(\d+)", line)
        if m:
            tb = int(m.group(1)) / int(m.group(2))
        elif line and line[0] != "#":
            f = [x.strip() for x in line.split(",")]
            out.append((int(f[2]) * tb, int(f[3]) * tb, f[5]))
    return out, said, r.returncode


def kinds(path):
    r = run(["ffprobe", "-v", "error", "-show_entries", "stream=codec_type", "-of", "csv=p=0", path])
    return [x.strip(", ") for x in r.stdout.decode().split()]


def compare(clip, form, kind, want, got):
    """Every frame of the source is there, at its time plus OFFSET_S."""
    at = {}
    for t, _, h in got:
        at.setdefault(h, []).append(t)
    missing, deltas = 0, []
    for t, _, h in want:
        times = at.get(h)
        if not times:
            missing += 1
            continue
        deltas.append(min((x - t for x in times), key=lambda d: abs(d - OFFSET_S)))
    # Audio: a decoder that starts elsewhere gives other bits for a frame or two, and the source's first and last may be trimmed.
    allowed = 0 if kind == "v" else 6
    if missing > allowed:
        fail(clip, f"{form} {kind}: {missing} of {len(want)} frames of the source are missing")
    if not deltas:
        return
    worst = max(abs(d - OFFSET_S) for d in deltas)
    if worst > (0.001 if kind == "v" else 0.002):
        fail(clip, f"{form} {kind}: a frame is {worst * 1000:.1f} ms off (offsets {min(deltas):.4f}..{max(deltas):.4f})")
    extra = len(got) - len(want)
    if kind == "v" and len(shown(got)) > len(want) + 1:
        fail(clip, f"{form} v: {extra} frames more than the source")


def shown(found):
    """Without the frames that are there for decoding alone: those shown for less than a millisecond."""
    found = sorted(found)
    return [a for a, b in zip(found, found[1:] + [(1e9,)]) if b[0] - a[0] > 0.001]


def check_form(clip, form, playlist, want):
    for kind in ("v", "a"):
        if not want[kind]:
            continue
        got, said, status = frames(clip, playlist, f"{kind}:0")
        if said or status:
            fail(clip, f"{form} {kind}: ffmpeg says: {said[:300]!r} (status {status})")
        compare(clip, form, kind, want[kind], got)
        if kind == "v" and got:
            span = max(t + d for t, d, _ in got) - min(t for t, _, _ in shown(got))
            wanted = max(t + d for t, d, _ in want[kind]) - min(t for t, _, _ in want[kind])
            if abs(span - wanted) > DURATION_TOLERANCE_S:
                fail(clip, f"{form} v: lasts {span:.3f} s, the source {wanted:.3f}")


def packets(path, kind):
    r = run(["ffprobe", "-v", "warning", "-select_streams", f"{kind}:0", "-show_entries", "packet=pts_time,dts_time,duration_time", "-of", "csv=p=0",
             path])
    out = []
    for line in r.stdout.decode().split():
        f = [x for x in line.split(",")]
        out.append(tuple(float(x) if x not in ("N/A", "") else None for x in f[:3]))
    return out, r.stderr.decode().strip()


def media_playlists(directory, master):
    text = open(os.path.join(directory, master)).read()
    for uri in uris(text):
        yield os.path.join(directory, uri)


def check_segments(clip, form, playlist, scratch):
    text = open(playlist).read()
    directory = os.path.dirname(playlist)
    durations = [float(x) for x in re.findall(r"#EXTINF:([0-9.]+),", text)]
    names = [u for u in uris(text) if not u.endswith("init.mp4")]
    target = int(re.search(r"TARGETDURATION:(\d+)", text).group(1))
    if len(names) != len(durations) or any(round(d) > target for d in durations):
        fail(clip, f"{playlist}: EXTINF and TARGETDURATION disagree")
    independent = "#EXT-X-INDEPENDENT-SEGMENTS" in text.splitlines()
    if independent == (clip in OPEN_GROUPS and "/original/" in playlist):
        fail(clip, f"{playlist}: its segments are {'' if independent else 'not '}said to be independent")
    init = b"" if form == "ts" else open(os.path.join(directory, "init.mp4"), "rb").read()
    ends, starts, total = {}, None, 0.0
    for number, name in enumerate(names):
        path = os.path.join(scratch, "segment." + ("ts" if form == "ts" else "mp4"))
        with open(path, "wb") as f:
            f.write(init + open(os.path.join(directory, name), "rb").read())
        r = run(["ffmpeg", "-nostdin", "-v", "warning", "-xerror", "-threads", "1", "-copyts", "-i", path, "-fps_mode", "passthrough",
                 "-enc_time_base", "-1", "-f", "null", "-"])
        said = [x for x in r.stderr.decode().splitlines() if x.strip()]
        if not independent and not r.returncode:
            said = [x for x in said if "mmco" not in x and "repeated" not in x]
        if r.returncode or said:
            fail(clip, f"{form} {name} alone: {said[:2]} (status {r.returncode})")
        for kind in ("v", "a"):
            found, said = packets(path, kind)
            found = [p for p in found if p[0] is not None]
            if not found:
                continue
            visible = shown(found)
            steps = sorted(b[0] - a[0] for a, b in zip(sorted(found), sorted(found)[1:]))
            frame = max(max(steps) if clip in UNEVEN and steps else statistics.median(steps) if steps else 0.04, visible[-1][2] or 0)
            start = min(p[0] for p in visible)
            end = max(p[0] + (p[2] or frame) for p in found)
            if kind in ends and abs(start - ends[kind]) > frame + 0.002:
                fail(clip, f"{form} {name} {kind}: starts at {start:.4f}, the one before ended at {ends[kind]:.4f} (frame {frame:.4f})")
            ends[kind] = end
            if starts is None or start < starts:
                starts = start
    total = sum(durations)
    if ends and form == "fmp4" and abs(max(ends.values()) - starts - total) > DURATION_TOLERANCE_S:
        fail(clip, f"{playlist}: EXTINF adds up to {total:.4f}, the samples to {max(ends.values()) - starts:.4f}")
    return total


def check_clip(name, viewer, scratch):
    path, tmp, out = (os.path.join(scratch, x) for x in (name + ".mp4", "tmp.mp4", name))
    make_clip(name, path, tmp)
    if readers:
        said = run([readers, path]).stdout.decode()
        if not said.endswith(": not taken on\n" if name in NOT_PLAIN else ": alike\n"):
            fail(name, f"the readers of sample tables: {said}")
    refused, forms = viewer.get(name, path, out)
    if refused:
        fail(name, f"refused: {refused}")
        return
    if ("ts" in forms) == (name in TS_NOT_OFFERED):
        fail(name, f"offered as {sorted(forms)}")
    has = kinds(path)
    want = {k: frames(name, path, f"{k}:0")[0] if word in has else [] for k, word in (("v", "video"), ("a", "audio"))}
    whole = max(t + d for k in want for t, d, _ in want[k]) - min(t for k in want for t, _, _ in want[k])
    for form, playlist in forms.items():
        check_form(name, form, playlist, want)
        longest = max(check_segments(name, form, p, scratch)
                      for p in media_playlists(out, "master-ts.m3u8" if form == "ts" else "master.m3u8"))
        if abs(longest - whole) > DURATION_TOLERANCE_S and "late" not in name:
            fail(name, f"{form}: the playlists last {longest:.3f} s, the source {whole:.3f}")


def check_refused(name, viewer, scratch):
    maker, slugs = REFUSED[name]
    path = os.path.join(scratch, name)
    maker(path)
    refused, _ = viewer.get(name, path, os.path.join(scratch, "refused"))
    if refused not in slugs:
        fail(name, f"answered {refused}, not {sorted(slugs)}")


def check(name, viewer, scratch):
    """One clip, in a folder of its own."""
    own = os.path.join(scratch, name)
    os.mkdir(own)
    try:
        (check_clip if name in CLIPS else check_refused)(name, viewer, own)
    except Exception as error:
        fail(name, f"could not be checked: {error!r}")
    shutil.rmtree(own, ignore_errors=True)
    print(f"{'FAIL' if any(clip == name for clip, _ in failures) else 'ok  '} {name}", flush=True)


def main():
    global readers
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--base", help="URL of a running daemon")
    p.add_argument("--key", help="API key that may upload")
    p.add_argument("--dump", help="program that writes out a file's streams")
    p.add_argument("--compare", help="program that reads a clip in both ways")
    p.add_argument("--only", help="comma-separated names")
    p.add_argument("--jobs", type=int, default=os.cpu_count(), help="clips checked at once")
    a = p.parse_args()
    if bool(a.base) == bool(a.dump):
        p.error("one of --base and --dump is needed")
    readers = os.path.abspath(a.compare) if a.compare else None
    viewer = Daemon(a.base, a.key) if a.base else Dump(os.path.abspath(a.dump))
    only = set(a.only.split(",")) if a.only else None
    names = [name for name in [*CLIPS, *REFUSED] if not only or name in only]
    names.sort(key=lambda name: name != "tenminutes")  # the longest by far begins first
    with tempfile.TemporaryDirectory(prefix="media-corpus-") as scratch, \
            concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        list(pool.map(lambda name: check(name, viewer, scratch), names))
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
