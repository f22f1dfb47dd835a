"""What RFC 8216 demands of playlists (section numbers are its), checked strictly, over HTTP, with every segment fetched.

    rules = Rules(fetch)            # fetch(url) -> bytes
    rules.master("http://.../master.m3u8")
    rules.broken                    # a list of what does not hold

`follows(before, after)` says whether a growing playlist was only ever appended to.
"""
import re
import struct
from urllib.parse import urljoin, urlsplit

ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"\r\n]*"|[^",\s][^",]*)(?:,|$)')
FORMS = {
    "decimal": re.compile(r"\d{1,20}"), "float": re.compile(r"\d+(\.\d+)?"), "signed": re.compile(r"-?\d+(\.\d+)?"), "quoted": re.compile(r'"[^"]*"'),
    "resolution": re.compile(r"[1-9]\d*x[1-9]\d*"), "yesno": re.compile(r"YES|NO"), "type": re.compile(r"AUDIO|VIDEO|SUBTITLES|CLOSED-CAPTIONS"),
}
STREAM = {"BANDWIDTH": "decimal", "AVERAGE-BANDWIDTH": "decimal", "CODECS": "quoted", "RESOLUTION": "resolution", "FRAME-RATE": "float",
          "AUDIO": "quoted", "SUBTITLES": "quoted", "CLOSED-CAPTIONS": "quoted"}
MEDIA = {"TYPE": "type", "URI": "quoted", "GROUP-ID": "quoted", "LANGUAGE": "quoted", "NAME": "quoted", "DEFAULT": "yesno", "AUTOSELECT": "yesno",
         "FORCED": "yesno", "CHARACTERISTICS": "quoted", "CHANNELS": "quoted"}
IFRAMES = {name: form for name, form in STREAM.items() if name in ("BANDWIDTH", "AVERAGE-BANDWIDTH", "CODECS", "RESOLUTION")} | {"URI": "quoted"}
ONCE_IN_MEDIA = {"EXT-X-VERSION", "EXT-X-TARGETDURATION", "EXT-X-MEDIA-SEQUENCE", "EXT-X-PLAYLIST-TYPE", "EXT-X-I-FRAMES-ONLY", "EXT-X-ENDLIST",
                 "EXT-X-INDEPENDENT-SEGMENTS", "EXT-X-START", "EXT-X-MAP"}
LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|\d{3}))?(-[A-Za-z0-9]{5,8})*")
TS_SLACK = 188 * 8  # a transport packet a second
RATE_SLACK = 2  # the playlist rounds each of two rates up


def text_tags(data):
    """(tags and URIs in order as (name, value), what is wrong with the text itself): 4.1."""
    wrong = []
    if data.startswith(b"\xef\xbb\xbf"):
        wrong.append("a byte order mark")
    lines = data.decode("utf-8").split("\n")
    if lines[0].rstrip("\r") != "#EXTM3U":
        wrong.append("#EXTM3U is not the first line")
    if lines[-1] != "":
        wrong.append("the last line has no end")
    found = []
    for line in lines[1:]:
        if line.startswith("#EXT"):
            name, colon, value = line[1:].partition(":")
            found.append((name, value if colon else None))
        elif line and not line.startswith("#"):
            found.append(("", line))
            if line != line.strip() or "\r" in line:
                wrong.append(f"white space around {line!r}")
    return found, wrong


def follows(before, after):
    """6.2.1: of an EVENT playlist no part changes or goes; lines come behind."""
    return after.startswith(before)


def peak_rate(entries, target):
    """4.1, "peak segment bit rate": of any contiguous set that lasts 0.5 to 1.5 target durations."""
    best = 0
    for first in range(len(entries)):
        size = duration = 0
        for length, segment_bytes in entries[first:]:
            size, duration = size + segment_bytes, duration + length
            if duration > 1.5 * target:
                break
            if duration >= 0.5 * target:
                best = max(best, size * 8 / duration)
    return best


def boxes(data):
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        yield kind.decode("latin-1"), data[at + 8:at + size]
        at += size if size >= 8 else len(data)


class Rules:
    def __init__(self, fetch):
        self.fetch, self.broken, self.bodies = fetch, [], {}

    def get(self, url):
        if url not in self.bodies:
            self.bodies[url] = self.fetch(url)
        return self.bodies[url]

    def demand(self, holds, where, what):
        if not holds:
            self.broken.append(f"{where}: {what}")
        return bool(holds)

    def attributes(self, where, value, forms, required):
        """4.2: names once, each value of its form; what was parsed must be all there is."""
        found, rest = {}, value or ""
        while match := ATTRIBUTE.match(rest):
            name, text = match.groups()
            self.demand(name not in found, where, f"{name} twice")
            self.demand(name in forms and FORMS[forms[name]].fullmatch(text), where, f"{name}={text} is unknown or of a wrong form")
            found[name] = text.strip('"')
            rest = rest[match.end():]
        self.demand(rest == "" and not (value or ",").endswith(","), where, f"attributes end in {rest!r}")
        for name in required:
            self.demand(name in found, where, f"no {name}")
        return found

    # ---- 4.3.4: the master playlist ----

    def master(self, url):
        """Checks it and everything below. Returns the variants: (attributes, URL)."""
        tags, wrong = text_tags(self.get(url))
        self.broken += [f"master: {w}" for w in wrong]
        variants, media, iframes = [], [], []
        version = [int(v) for n, v in tags if n == "EXT-X-VERSION"]
        self.demand(len(version) == 1, "master", "EXT-X-VERSION is not there once")
        following = None
        for name, value in tags:
            if following is not None and not self.demand(name == "", "master", "EXT-X-STREAM-INF has no URI behind it"):
                following = None
            if name == "EXT-X-STREAM-INF":
                following = self.attributes("variant", value, STREAM, ["BANDWIDTH", "CODECS"])
            elif name == "":
                if self.demand(following is not None, "master", f"{value} belongs to nothing"):
                    variants.append((following, urljoin(url, value)))
                following = None
            elif name == "EXT-X-MEDIA":
                media.append(self.attributes("EXT-X-MEDIA", value, MEDIA, ["TYPE", "GROUP-ID", "NAME"]))
            elif name == "EXT-X-I-FRAME-STREAM-INF":
                iframes.append(self.attributes("EXT-X-I-FRAME-STREAM-INF", value, IFRAMES, ["BANDWIDTH", "URI"]))
            else:
                self.demand(name in ("EXT-X-VERSION", "EXT-X-INDEPENDENT-SEGMENTS", "EXT-X-START"), "master", f"{name} has no place in it")
        self.demand(variants, "master", "no variant")
        self.groups(media)
        self.below(url, version, variants, media, iframes)
        return variants

    def groups(self, media):
        """4.3.4.1.1"""
        for one in media:
            where = f"EXT-X-MEDIA {one.get('NAME')}"
            self.demand(one["TYPE"] != "SUBTITLES" or "URI" in one, where, "subtitles have no URI")
            self.demand("FORCED" not in one or one["TYPE"] == "SUBTITLES", where, "FORCED is for subtitles")
            self.demand(one.get("DEFAULT") != "YES" or one.get("AUTOSELECT", "YES") == "YES", where, "DEFAULT without AUTOSELECT")
            self.demand("LANGUAGE" not in one or LANGUAGE.fullmatch(one["LANGUAGE"]), where, f"LANGUAGE {one.get('LANGUAGE')} is no tag of RFC 5646")
            self.demand("CHANNELS" not in one or re.match(r"[1-9]\d*(/|$)", one["CHANNELS"]), where, "CHANNELS")
        for key in {(one["TYPE"], one["GROUP-ID"]) for one in media}:
            members = [one for one in media if (one["TYPE"], one["GROUP-ID"]) == key]
            names = [one["NAME"] for one in members]
            self.demand(len(set(names)) == len(names), f"group {key}", f"NAMEs are not unique: {names}")
            self.demand(sum(one.get("DEFAULT") == "YES" for one in members) <= 1, f"group {key}", "more than one DEFAULT")
        # Groups of one type have the same members, which differ in URI and CHANNELS alone.
        for kind in {one["TYPE"] for one in media}:
            said = {}
            for one in (one for one in media if one["TYPE"] == kind):
                rest = sorted((name, value) for name, value in one.items() if name not in ("GROUP-ID", "URI", "CHANNELS"))
                said.setdefault(one["GROUP-ID"], []).append(rest)
            self.demand(all(sorted(own) == sorted(next(iter(said.values()))) for own in said.values()), f"groups of {kind}", f"members differ: {said}")

    def below(self, url, version, variants, media, iframes):
        pairs = [(at, attributes.get("AUDIO")) for attributes, at in variants]
        self.demand(len(set(pairs)) == len(pairs), "master", "a variant twice")
        rates, targets = {}, {}
        for one in media:
            if one["TYPE"] == "AUDIO" and "URI" in one:
                at = urljoin(url, one["URI"])
                measured = self.media(at, version)
                rates[(one["GROUP-ID"], at)] = measured
                targets[at] = measured["target"]
        for attributes, at in variants:
            measured = self.media(at, version)
            targets[at] = measured["target"]
            for kind in ("AUDIO", "SUBTITLES"):
                group = attributes.get(kind)
                self.demand(group is None or any(m["TYPE"] == kind and m["GROUP-ID"] == group for m in media), at, f"no group {group}")
            sound = [r for (group, other), r in rates.items() if group == attributes.get("AUDIO") and other != at]
            for name, key in (("BANDWIDTH", "peak"), ("AVERAGE-BANDWIDTH", "average")):
                needed = measured[key] + max((r[key] for r in sound), default=0)
                if name in attributes:
                    # The sizes of MPEG-TS are reckoned before the muxer has packed the sound.
                    slack = TS_SLACK if urlsplit(at).path.endswith("-ts.m3u8") else RATE_SLACK
                    self.demand(int(attributes[name]) + slack >= needed, at, f"{name} {attributes[name]} is less than measured: {needed:.0f}")
                    self.demand(int(attributes[name]) <= needed * 1.1 + 1000, at, f"{name} {attributes[name]} is far more than measured: {needed:.0f}")
            self.demand(int(attributes.get("AVERAGE-BANDWIDTH", 0)) <= int(attributes["BANDWIDTH"]), at, "the average is more than the peak")
            self.demand(("RESOLUTION" in attributes) == ("FRAME-RATE" in attributes), at, "RESOLUTION and FRAME-RATE go together")
        self.demand(len(set(targets.values())) <= 1, "master", f"6.2.4: target durations differ: {targets}")
        for one in iframes:
            at = urljoin(url, one["URI"])
            measured = self.media(at, version)
            self.demand(measured["iframes"], at, "EXT-X-I-FRAMES-ONLY is missing")
            self.demand(int(one["BANDWIDTH"]) + RATE_SLACK >= measured["peak"], at, f"BANDWIDTH {one['BANDWIDTH']} is less than {measured['peak']:.0f}")

    # ---- 4.3.2, 4.3.3: a media playlist ----

    def media(self, url, version=()):
        tags, wrong = text_tags(self.get(url))
        self.broken += [f"{url}: {w}" for w in wrong]
        values = {}
        for name, value in tags:
            self.demand(name not in ONCE_IN_MEDIA or name not in values, url, f"{name} twice")
            self.demand(name in ONCE_IN_MEDIA or name in ("", "EXTINF"), url, f"{name} has no place in it")
            values.setdefault(name, value)
        for name in ("EXT-X-VERSION", "EXT-X-TARGETDURATION"):
            self.demand(values.get(name, "").isdigit(), url, f"no {name}")
        target, kind = int(values["EXT-X-TARGETDURATION"]), values.get("EXT-X-PLAYLIST-TYPE")
        self.demand(kind in (None, "VOD", "EVENT"), url, f"EXT-X-PLAYLIST-TYPE {kind}")
        self.demand(kind != "VOD" or "EXT-X-ENDLIST" in values, url, "VOD without an end")
        self.demand("EXT-X-ENDLIST" not in values or tags[-1][0] == "EXT-X-ENDLIST", url, "something behind EXT-X-ENDLIST")
        if "EXT-X-MAP" in values:
            init = self.attributes(url, values["EXT-X-MAP"], {"URI": "quoted"}, ["URI"])
            names = [name for name, _ in boxes(self.get(urljoin(url, init["URI"])))]
            self.demand(names[:2] == ["ftyp", "moov"], url, f"the initialisation segment is made of {names}")
            self.demand(int(values["EXT-X-VERSION"]) >= (5 if "EXT-X-I-FRAMES-ONLY" in values else 6), url, "EXT-X-MAP needs a later version")
        if "EXT-X-START" in values:
            self.attributes(url, values["EXT-X-START"], {"TIME-OFFSET": "signed", "PRECISE": "yesno"}, ["TIME-OFFSET"])
        self.demand(not version or version[0] >= 1, url, "the master has no version")
        entries = self.segments(url, tags, target)
        total = sum(length for length, _ in entries)
        return {"target": target, "iframes": "EXT-X-I-FRAMES-ONLY" in values, "duration": total, "type": kind,
                "ended": "EXT-X-ENDLIST" in values, "n": len(entries),
                "peak": peak_rate(entries, target) or max((s * 8 / d for d, s in entries), default=0),
                "average": sum(s for _, s in entries) * 8 / total if total else 0}

    def segments(self, url, tags, target):
        entries, duration, head = [], None, {"EXT-X-TARGETDURATION", "EXT-X-MEDIA-SEQUENCE", "EXT-X-MAP", "EXT-X-PLAYLIST-TYPE", "EXT-X-VERSION"}
        for name, value in tags:
            if name == "EXTINF":
                self.demand(duration is None, url, "EXTINF without a segment")
                match = re.fullmatch(r"(\d+(?:\.\d+)?),(.*)", value)
                if self.demand(match, url, f"EXTINF:{value}"):
                    duration = float(match.group(1))
                    # 4.3.3.1: rounded to the nearest whole number, at most the target.
                    self.demand(int(duration + 0.5) <= target, url, f"EXTINF {duration} is more than EXT-X-TARGETDURATION {target}")
                    self.demand(duration > 0, url, "EXTINF of no length")
            elif name == "":
                if self.demand(duration is not None, url, f"{value} has no EXTINF"):
                    body = self.get(urljoin(url, value))
                    self.demand(body, url, f"{value} is empty")
                    self.whole(url, value, body)
                    entries.append((duration, len(body)))
                duration = None
            else:
                self.demand(name not in head or not entries, url, f"{name} behind the first segment")
        self.demand(duration is None, url, "the last EXTINF has no segment")
        uris = [value for name, value in tags if name == ""]
        self.demand(len(set(uris)) == len(uris), url, "a segment twice")
        return entries

    def whole(self, url, name, body):
        if name.endswith(".ts"):
            self.demand(len(body) % 188 == 0 and all(body[i] == 0x47 for i in range(0, len(body), 188)), url, f"{name} is no MPEG-TS")
        else:
            kinds = [kind for kind, _ in boxes(body)]
            self.demand("moof" in kinds and "mdat" in kinds and sum(8 + len(b) for _, b in boxes(body)) == len(body), url, f"{name} is made of {kinds}")
