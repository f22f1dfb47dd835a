"""Sources of every kind (transcode_corpus.py): what a player gets of them is the source again.

Each is uploaded, its jobs are waited for, and all that is offered is decoded by ffmpeg: every segment by itself and
without a warning, every picture at its time, the sound where it belongs, the right way up, in the right
colours.
"""
import array
import concurrent.futures
import math
import os
import re
import shutil
import subprocess
import tempfile
import zlib

import support
import transcode_corpus
from support import ffmpeg, made, path_of

OFFSET_S = 10.0          # of every timeline against the source's
GRID_S = 2.0             # of key frames, and a segment's length
CUT_S = GRID_S - 0.01    # a segment is long enough then
TIME_S = 0.0015          # containers of whole milliseconds
LEAD_S = 0.015           # what a decoder gives nothing of may still count as the beginning: a first packet of Vorbis or Opus
HERTZ = 48000
ENDED = {"ready", "failed"}
PATIENCE_S = 60


class Wrong(AssertionError):
    pass


def call(*command):
    done = support.run(*command)
    if done.returncode != 0:
        raise Wrong(f"status {done.returncode} of {' '.join(command)[:600]}: {done.stderr.decode()[-600:]}")
    return done


def make(clip):
    def run(path):
        for number, command in enumerate(clip.commands):
            last = number == len(clip.commands) - 1
            own = [word.replace("{out}", path).replace("{tmp}", path + ".tmp") for word in command]
            if last and "-f" not in command[command.index("{out}") - 2:]:
                own[-1:-1] = ["-f", {"mkv": "matroska", "ts": "mpegts", "mpg": "mpeg", "ogv": "ogg", "aac": "adts"}.get(clip.ext, clip.ext)]
            elif not last and "-f" not in command[-3:]:
                own[-1:-1] = ["-f", "mpegts"]
            ffmpeg(*own)
        if os.path.exists(path + ".tmp"):
            os.unlink(path + ".tmp")
    version = zlib.crc32(repr(clip.commands).encode())
    return made(f"transcode-{clip.name}-{version:08x}.{clip.ext}", run)


# ---- what ffmpeg sees ----

def lines_of(path):
    """Streams of a framecrc file: {stream: [(pts, duration, checksum)] in seconds}."""
    bases, streams = {}, {}
    with open(path, encoding="ascii") as file:
        for line in file:
            base = re.match(r"#tb (\d+): (\d+)/(\d+)", line)
            if base:
                bases[int(base.group(1))] = int(base.group(2)) / int(base.group(3))
            elif line[0] != "#":
                own = [word.strip() for word in line.split(",")]
                scale = bases[int(own[0])]
                streams.setdefault(int(own[0]), []).append((int(own[2]) * scale, int(own[3]) * scale, own[5]))
    return streams


DECODE = ["ffmpeg", "-nostdin", "-v", "warning", "-xerror", "-nostats", "-copyts"]
EXACT = ["-fps_mode", "passthrough", "-enc_time_base", "-1"]


def silent(done, what):
    said = done.stderr.decode().strip()
    if done.returncode != 0 or said:
        raise Wrong(f"{what}: ffmpeg says {said[:400]!r} (status {done.returncode})")


def inputs(paths):
    return [word for path in paths for word in ("-threads", "1", "-i", path)]


def pictures_of(paths, what, scratch, strict=True):
    """Decodes each file by itself: a list for each of (time, duration, checksum)."""
    out = os.path.join(scratch, "pictures")
    command = [*DECODE, *inputs(paths), *(word for i in range(len(paths)) for word in ("-map", f"{i}:v:0")), *EXACT, "-f", "framecrc", "-y", out]
    done = support.run(*command)
    if strict:
        silent(done, what)
    found = lines_of(out)
    return [sorted(found.get(i, [])) for i in range(len(paths))]


class Sound:
    """Decoded: when it begins, and its samples, mixed to one channel unless told otherwise."""

    def __init__(self, path, what, scratch, strict=True, track=0, channels=1):
        crc, raw = os.path.join(scratch, "sound"), os.path.join(scratch, "samples")
        layout = ["-ac", str(channels)] if channels else []
        done = support.run(*DECODE, *inputs([path]), "-map", f"0:a:{track}", "-f", "framecrc", "-y", crc, "-map", f"0:a:{track}", *layout, "-ar", str(HERTZ), "-f", "s16le",
                           "-y", raw)
        if strict:
            silent(done, what)
        self.frames = lines_of(crc).get(0, [])
        if not self.frames:
            raise Wrong(f"{what}: no sound")
        self.begin = self.frames[0][0]
        self.end = max(at + lasts for at, lasts, _ in self.frames)
        self.samples = array.array("h")
        with open(raw, "rb") as file:
            self.samples.frombytes(file.read())
        for before, after in zip(self.frames, self.frames[1:]):
            if strict and abs(before[0] + before[1] - after[0]) > before[1] + 0.001:
                raise Wrong(f"{what}: sound goes from {before[0] + before[1]:.4f} to {after[0]:.4f}")

    def beeps(self):
        """Times at which it becomes loud."""
        step, found, quiet = HERTZ // 1000, [], 1000
        loud = max((max(self.samples), -min(self.samples)))
        if loud < 1000:
            return found
        for i in range(0, len(self.samples) - step, step):
            part = self.samples[i:i + step]
            if max(max(part), -min(part)) * 3 > loud:
                if quiet > 200:
                    found.append(self.begin + i / HERTZ)
                quiet = 0
            else:
                quiet += 1
        return found


def power(samples, hertz):
    """Goertzel's: how much of a tone is in 0.25 s of samples."""
    part = samples[len(samples) // 3:len(samples) // 3 + HERTZ // 4]
    c = 2 * math.cos(2 * math.pi * hertz / HERTZ)
    a = b = 0.0
    for x in part:
        a, b = x + c * a - b, a
    return math.sqrt(max(a * a + b * b - c * a * b, 0)) / len(part)


class Source:
    def __init__(self, clip, path, scratch):
        self.pictures, self.sound = [], None
        if clip.size[0]:
            self.pictures = [(at - clip.early, *rest) for at, *rest in pictures_of([path], clip.name, scratch, strict=False)[0]]
        if clip.audio:
            self.sound = Sound(path, clip.name, scratch, strict=False)
        first = [self.pictures[0][0]] if self.pictures else []
        # What has edit lists says itself where it begins.
        self.begin = 0.0 if clip.ext in ("mov", "mp4") else min(first + ([self.sound.begin] if self.sound else []))


# ---- what a player gets ----

def attributes(line):
    return {name: value.strip('"') for name, value in re.findall(r'([A-Z0-9-]+)=("[^"]*"|[^,]*)', line)}


class Media:
    """A media playlist with its segments, each a file that can be played by itself."""

    def __init__(self, client, path, folder):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self.text = fetch(client, path).decode()
        self.durations = [float(x) for x in re.findall(r"#EXTINF:([0-9.]+),", self.text)]
        base, init = path.rsplit("/", 1)[0], b""
        mapped = re.search(r'#EXT-X-MAP:URI="([^"]+)"', self.text)
        if mapped:
            init = fetch(client, f"{base}/{mapped.group(1)}")
        self.init, self.files, bodies = init, [], []
        for uri in (line for line in self.text.splitlines() if line and line[0] != "#"):
            bodies.append(fetch(client, f"{base}/{uri}"))
            self.files.append(os.path.join(folder, os.path.basename(uri)))
            with open(self.files[-1], "wb") as file:
                file.write(init + bodies[-1])
        self.whole = os.path.join(folder, "whole." + ("mp4" if init else "ts"))
        with open(self.whole, "wb") as file:
            file.write(init + b"".join(bodies))


def fetch(client, path):
    answer = client.get(path)
    if answer.status != 200:
        raise Wrong(f"{path}: {answer.status} {answer.body[:200]}")
    return answer.body


class Master:
    def __init__(self, client, path, folder):
        self.text = fetch(client, path).decode()
        base, lines = path.rsplit("/", 1)[0], self.text.splitlines()
        self.variants, self.sounds = {}, {}
        for line, following in zip(lines, lines[1:] + [""]):
            if line.startswith("#EXT-X-STREAM-INF:"):  # again with sound of another codec
                if following.split("/")[0] in self.variants:
                    continue
                self.variants[following.split("/")[0]] = (attributes(line), Media(client, f"{base}/{following}", os.path.join(folder, following.split("/")[0])))
            elif line.startswith("#EXT-X-MEDIA:TYPE=AUDIO"):
                a = attributes(line)
                if a["URI"].split("/")[0] in self.sounds:
                    continue
                self.sounds[a["URI"].split("/")[0]] = (a, Media(client, f"{base}/{a['URI']}", os.path.join(folder, a["URI"].split("/")[0])))


def close(a, b, tolerance, what):
    if abs(a - b) > tolerance:
        raise Wrong(f"{what}: {a:.4f} instead of {b:.4f}")


def even(x):
    return int(x + 0.5) & ~1


def rungs_of(clip):
    """name -> size that is to be made."""
    shorter = min(clip.size)
    if not shorter:
        return {}
    made_of = {name: height for name, height in transcode_corpus.LADDER.items()
               if height < shorter or (height == shorter and (clip.way == "encode" or clip.odd))}
    if not made_of and clip.way == "encode":
        made_of = {f"{shorter}p": shorter}
    return {name: tuple(even(side * height / shorter) for side in clip.size) for name, height in made_of.items()}


def check_seams(name, media, segments, sound=None, lasts=None):
    """Segments follow one another, and last as long as the playlist says. Returns all pictures, and where segments
    begin. sound: (begin, end) of what lies in the same segments: the first begins and the last ends with either. lasts: the last
    picture, where the form does not tell."""
    everything = [picture for segment in segments for picture in segment]
    if any(not segment for segment in segments):
        raise Wrong(f"{name}: a segment without pictures")
    if everything != sorted(everything):
        raise Wrong(f"{name}: segments overlap")
    starts = [segment[0][0] for segment in segments]
    begin, end = starts[0], everything[-1][0] + (lasts or everything[-1][1])
    if sound:
        begin, end = min(begin, sound[0]), max(end, sound[1])
    for number, (start, after, told) in enumerate(zip([begin, *starts[1:]], starts[1:] + [None], media.durations)):
        if after is not None:
            close(told, after - start, 0.026 if sound and number == 0 else 0.002, f"{name}: EXTINF of segment {number}")
    if len(everything) > 1:
        close(sum(media.durations), end - begin, 0.05, f"{name}: sum of EXTINF")
    target = int(re.search(r"#EXT-X-TARGETDURATION:(\d+)", media.text).group(1))
    if any(round(x) > target for x in media.durations):
        raise Wrong(f"{name}: TARGETDURATION {target} for {media.durations}")
    return everything, starts


def shift_of(pictures, source):
    """How much later than expected everything is."""
    return pictures[0][0] - OFFSET_S - (source.pictures[0][0] - source.begin)


def check_times(name, clip, source, pictures):
    if len(pictures) != len(source.pictures):
        raise Wrong(f"{name}: {len(pictures)} pictures instead of {len(source.pictures)}")
    shift = shift_of(pictures, source)
    if not -TIME_S <= shift <= LEAD_S:
        raise Wrong(f"{name}: {shift:.4f} s late")
    for number, (got, want) in enumerate(zip(pictures, source.pictures)):
        close(got[0] - pictures[0][0], want[0] - source.pictures[0][0], TIME_S, f"{name}: time of picture {number}")
    length = source.pictures[-1][0] - source.pictures[0][0] + (1 / clip.rate if clip.rate else source.pictures[-1][1])
    close(pictures[-1][0] + pictures[-1][1] - pictures[0][0], length, 0.05, f"{name}: length")


def check_grid(name, pictures, starts):
    """Key frames are the first pictures at or after each instant of the grid; a segment begins with the first of them that finds
    the one before long enough."""
    want, cell = [], -1
    for at, _, _ in pictures:
        own = math.floor((at - OFFSET_S + 1e-6) / GRID_S)
        if own > cell and (not want or at - want[-1] >= CUT_S):
            want.append(at)
        cell = max(cell, own)
    if len(starts) != len(want) or any(abs(a - b) > TIME_S for a, b in zip(starts, want)):
        raise Wrong(f"{name}: segments begin at {[round(x, 3) for x in starts]} instead of {[round(x, 3) for x in want]}")


def check_likeness(name, clip, path, media, size, scratch):
    """SSIM of each picture against the source's, brought to the size by ffmpeg's own filters."""
    out = os.path.join(scratch, "ssim")
    n = len(media.files)
    chain = "".join(f"[{i}:v]" for i in range(n)) + f"concat=n={n}:v=1:a=0,setpts=N/25/TB,setsar=1,format=yuv420p[o];"
    look = clip.look + "," if clip.look else ""
    chain += f"[{n}:v]{look}scale={size[0]}:{size[1]}:flags=bicubic,format=yuv420p,setpts=N/25/TB,setsar=1[r];[o][r]ssim=f={out}"
    call("ffmpeg", "-nostdin", "-v", "error", "-y", *inputs([*media.files, path]), "-filter_complex", chain, "-f", "null", "-")
    with open(out, encoding="ascii") as file:
        found = [float(x) for x in re.findall(r"All:([0-9.]+)", file.read())]
    mean = sum(found) / len(found)
    if mean < clip.ssim or min(found) < clip.ssim - 0.15:
        worst = found.index(min(found))
        raise Wrong(f"{name}: SSIM {mean:.3f}, of picture {worst} {found[worst]:.3f}")
    return mean


def check_colours(name, clip, media, size, scratch):
    out = os.path.join(scratch, "rgb")
    call("ffmpeg", "-nostdin", "-v", "error", "-y", "-i", media.files[0], "-frames:v", "1", "-vf", "scale=flags=accurate_rnd+full_chroma_int,format=rgb24", "-f",
         "rawvideo", out)
    with open(out, "rb") as file:
        data = file.read()
    wrong = []
    for (x, y), want in clip.colours.items():
        at = (y * size[1] // 240 * size[0] + x * size[0] // 320) * 3
        got = tuple(data[at:at + 3])
        if any(abs(a - b) > clip.tolerance for a, b in zip(got, want)):
            wrong.append(f"{want} is {got}")
    if wrong:
        raise Wrong(f"{name}: colours: {'; '.join(wrong)}")


def probe(path, *entries):
    done = call("ffprobe", "-v", "error", "-show_entries", *entries, "-of", "default=nw=1", path)
    return done.stdout.decode()


def check_picture(name, told, clip, media, size):
    said = probe(media.files[0], "stream=codec_name,profile,width,height,sample_aspect_ratio,field_order,pix_fmt:stream_side_data=rotation")
    own = dict(re.findall(r"(\w+)=(.*)", said))
    wanted = {"codec_name": "h264", "profile": "High", "width": str(size[0]), "height": str(size[1]), "field_order": "progressive", "pix_fmt": "yuv420p"}
    wrong = {k: own.get(k) for k, v in wanted.items() if own.get(k) != v}
    if wrong or own.get("sample_aspect_ratio") not in ("1:1", "N/A") or own.get("rotation", "0") not in ("0", "-0"):
        raise Wrong(f"{name}: {wrong or own}")
    if told["RESOLUTION"] != f"{size[0]}x{size[1]}":
        raise Wrong(f"{name}: RESOLUTION={told['RESOLUTION']} instead of {size}")
    at = media.init.find(b"avcC")
    if at > 0 and told["CODECS"].split(",")[0] != "avc1." + media.init[at + 5:at + 8].hex():
        raise Wrong(f"{name}: CODECS={told['CODECS']}, and the file says {media.init[at + 5:at + 8].hex()}")
    if clip.rate:
        close(float(told["FRAME-RATE"]), clip.rate, 0.0011, f"{name}: FRAME-RATE")


def check_fields(name, media):
    """idet finds no combing."""
    done = call("ffmpeg", "-nostdin", "-v", "info", "-nostats", "-i", media.whole, "-vf", "idet", "-f", "null", "-")
    found = re.search(r"Multi frame detection: TFF:\s*(\d+) BFF:\s*(\d+) Progressive:\s*(\d+) Undetermined:\s*(\d+)", done.stderr.decode())
    tff, bff, progressive, _ = (int(x) for x in found.groups())
    if tff + bff > 2 or progressive < 50:
        raise Wrong(f"{name}: idet says {found.group(0)}")


def check_sound(name, clip, source, sound, shift=0.0, beeps=True):
    """shift: of the pictures, or what the sound may have without them."""
    close(sound.begin - OFFSET_S, source.sound.begin - source.begin + shift, 0.05, f"{name}: begin of the sound")
    close(sound.end - OFFSET_S, source.sound.end - source.begin + shift, 0.05, f"{name}: end of the sound")
    if beeps:
        got, want = sound.beeps(), source.sound.beeps()
        if len(want) < 2 or len(got) != len(want):
            raise Wrong(f"{name}: beeps at {got} instead of {want}")
        for a, b in zip(got, want):
            close(a - OFFSET_S, b - source.begin + shift, 0.012, f"{name}: a beep")


def check_downmix(name, media, scratch):
    """What is on one side of six channels is there of two; the front's middle is on both."""
    sound = Sound(media.whole, name, scratch, channels=2)
    sides = sound.samples[0::2], sound.samples[1::2]
    tones = {where: tuple(power(side, hertz) for side in sides) for where, hertz in transcode_corpus.TONES.items()}
    for where, (left, right) in tones.items():
        if where == "FC":
            good = left > 100 and 0.8 < left / (right + 1e-9) < 1.25
        elif where == "LFE":
            good = True  # decoders may leave it out
        else:
            loud, still = (left, right) if where[1] == "L" else (right, left)
            good = loud > 100 and still * 8 < loud
        if not good:
            raise Wrong(f"{name}: {where} is {tones[where]}")


def check_alone(name, media):
    """Every segment of sound decodes by itself."""
    silent(support.run(*DECODE, *inputs(media.files), *(word for i in range(len(media.files)) for word in ("-map", f"{i}:a")), "-f", "null", "-"), name)


# ---- one clip ----

class Check:
    def __init__(self, client, clip, scratch):
        self.client, self.clip, self.scratch = client, clip, scratch
        self.path = make(clip)
        self.found, self.shift, self.lasts = [], 0.0, {}

    def tell(self, check, *args, **kwargs):
        """All that is wrong is told, not only the first."""
        try:
            return check(*args, **kwargs)
        except Wrong as wrong:
            self.found.append(str(wrong))
            return None

    def made(self):
        answer = self.client.upload(self.path, f"{self.clip.name}.{self.clip.ext}")
        if answer.status != 201:
            raise Wrong(f"the upload: {answer.status} {answer.body[:300]}")
        asset_id = answer.json()["id"]

        def through():
            asset = self.client.get(f"/api/v1/assets/{asset_id}").json()
            states = {r["status"] for r in asset["renditions"]}
            if asset["status"] == "failed" or "failed" in states:
                jobs = self.client.get("/api/v1/jobs?limit=200").json()["items"]
                why = [job["error"] for job in jobs if job["asset_id"] == asset_id and job["error"]]
                raise Wrong(f"the asset is {asset['status']}: {asset['error']} {why}")
            return asset["status"] == "ready" and states <= ENDED and asset
        return support.eventually(through, PATIENCE_S, f"the renditions of {self.clip.name}")

    def run(self):
        clip = self.clip
        asset = self.made()
        source = Source(clip, self.path, self.scratch)
        forms = {"fmp4": Master(self.client, path_of(asset["playback"]["hls"]), os.path.join(self.scratch, "fmp4"))}
        if asset["playback"]["hls_ts"]:
            forms["ts"] = Master(self.client, path_of(asset["playback"]["hls_ts"]), os.path.join(self.scratch, "ts"))
        elif clip.way == "encode":
            self.found.append("MPEG-TS is not offered")
        self.tell(self.check_asset, asset)
        if clip.size[0]:
            self.tell(self.check_variants, source, forms)
        self.tell(self.check_sounds, source, forms["fmp4"])

    def check_asset(self, asset):
        clip = self.clip
        if clip.size[0] and (asset["width"], asset["height"]) != clip.size:
            raise Wrong(f"the asset is {asset['width']}x{asset['height']} instead of {clip.size}")
        if clip.size[0] and clip.rate and abs((asset["frame_rate"] or 0) - clip.rate) > 0.01:
            raise Wrong(f"the asset's frame_rate is {asset['frame_rate']}")

    def check_variants(self, source, forms):
        wanted, clip = rungs_of(self.clip), self.clip
        for form, master in forms.items():
            names = set(wanted) | ({"original"} if clip.way != "encode" else set())
            if form == "ts":
                names -= {"original"} - set(master.variants)  # not every source's own packets can be had in it
            if set(master.variants) != names:
                raise Wrong(f"{form} lists {sorted(master.variants)} instead of {sorted(names)}")
        crcs, cuts = {}, {}
        for form, master in forms.items():
            for name, (own, media) in master.variants.items():
                self.tell(self.check_variant, f"{form} {name}", source, (form, name, own, media), (crcs, cuts))
        if len({tuple(round(x, 4) for x in starts) for (form, name), starts in cuts.items() if name != "original"}) > 1:
            raise Wrong(f"rungs are not cut alike: {cuts}")

    def check_variant(self, what, source, variant, shared):
        form, name, own, media = variant
        crcs, cuts = shared
        clip, scratch = self.clip, self.scratch
        sound = Sound(media.whole, what, scratch) if form == "ts" and clip.audio else None
        segments = pictures_of(media.files, what, scratch)
        pictures, starts = check_seams(what, media, segments, sound and (sound.begin, sound.end), self.lasts.get(name))
        if form == "ts" and name in self.lasts:
            pictures[-1] = (pictures[-1][0], self.lasts[name], pictures[-1][2])
        self.lasts[name] = pictures[-1][1]
        cuts[form, name] = starts
        self.shift = shift_of(pictures, source)
        self.tell(check_times, what, clip, source, pictures)
        checksums = [checksum for _, _, checksum in pictures]
        if form == "ts":
            if checksums != crcs.get(name, checksums):
                raise Wrong(f"{what}: other pictures than as fMP4")
            if sound:
                self.tell(check_sound, what, clip, source, sound, self.shift, beeps=not clip.tones)
                check_alone(what, media)
            return
        crcs[name] = checksums
        if name == "original":
            if clip.way == "remux" and checksums != [checksum for _, _, checksum in source.pictures]:
                raise Wrong(f"{what}: not the source's own pictures")
            return
        size = rungs_of(clip)[name]
        self.tell(check_grid, what, pictures, starts)
        self.tell(check_picture, what, own, clip, media, size)
        if clip.ssim:
            self.tell(check_likeness, what, clip, self.path, media, size, scratch)
        if clip.colours:
            self.tell(check_colours, what, clip, media, size, scratch)
        if clip.interlaced:
            self.tell(check_fields, what, media)

    def check_sounds(self, source, master):
        clip = self.clip
        if not clip.audio:
            if master.sounds:
                raise Wrong(f"sound of a source without: {list(master.sounds)}")
            return
        if not master.sounds:  # without pictures, the sound is the variant
            sounds = {name: ({"GROUP-ID": "audio", "CHANNELS": str(clip.channels), "DEFAULT": "YES"}, media) for name, (_, media) in master.variants.items()}
        else:
            sounds = master.sounds
        languages = tuple(own.get("LANGUAGE", "und") for own, _ in sounds.values())
        if languages[:len(clip.audio)] != clip.audio:
            raise Wrong(f"languages are {languages} instead of {clip.audio}")
        if [own["DEFAULT"] for own, _ in sounds.values() if own["GROUP-ID"] == "audio"].count("YES") != 1:
            raise Wrong(f"DEFAULT of sounds: {[own['DEFAULT'] for own, _ in sounds.values()]}")
        if clip.tones and "2" not in [own["CHANNELS"] for own, _ in sounds.values()]:
            raise Wrong(f"no stereo: {list(sounds)}")
        if tuple(sorted({own["GROUP-ID"] for own, _ in sounds.values()})) != clip.groups:
            raise Wrong(f"groups are {[own['GROUP-ID'] for own, _ in sounds.values()]}")
        for number, (name, (own, media)) in enumerate(sounds.items()):
            self.tell(self.check_one_sound, (name, own, media), source, number)

    def check_one_sound(self, offered, source, number):
        name, own, media = offered
        clip = self.clip
        if own["DEFAULT"] == "YES" and own["GROUP-ID"] == "audio" and int(own["CHANNELS"]) != clip.channels:
            raise Wrong(f"{name}: CHANNELS={own['CHANNELS']} instead of {clip.channels}")
        said = re.search(r"channels=(\d+)", probe(media.files[0], "stream=channels")).group(1)
        if own["CHANNELS"] != said:
            raise Wrong(f"{name}: CHANNELS={own['CHANNELS']}, and there are {said}")
        self.tell(check_sound, name, clip, source, Sound(media.whole, name, self.scratch), self.shift, beeps=number == 0 and not clip.tones)
        check_alone(name, media)
        if clip.tones and own["CHANNELS"] == "2":
            check_downmix(name, media, self.scratch)


class Transcode(support.DaemonCase):
    settings = {"transcode.automatic": "all", "transcode.ladder": "240p:600k 144p:300k", "transcode.preset": "ultrafast", "transcode.jobs": "2",
                "transcode.first_jobs": "2", "playback.segment_duration": "2s", "playback.default_policy": "public", "ratelimit.enabled": "false"}

    def one(self, clip):
        scratch = tempfile.mkdtemp(prefix=f"streamgate-{clip.name}-")
        check = None
        try:
            check = Check(self.admin, clip, scratch)
            check.run()
            found = check.found
        except Exception as error:  # of this clip alone
            found = (check.found if check else []) + [f"{error!r}"]
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        print(f"{'FAIL' if found else 'ok  '} {clip.name}", *(f"\n       {line}" for line in found), flush=True)
        return found

    def test_corpus(self):
        only = os.environ.get("SG_ONLY")
        clips = [clip for clip in transcode_corpus.CLIPS.values() if not only or re.search(only, clip.name)]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            wrong = [clip.name for clip, found in zip(clips, pool.map(self.one, clips)) if found]
        self.assertFalse(wrong, "see the lines marked FAIL")


if __name__ == "__main__":
    support.main()
