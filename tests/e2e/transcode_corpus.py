"""Sources that have to be transcoded, one of each kind, and what must come of them.

A clip is made by ffmpeg out of its own sources. Where it has both, its pictures flash and its sound
beeps at the same instants, so that a picture or a beep out of its place shows.
"""
from dataclasses import dataclass, field

LADDER = {"240p": 240, "144p": 144}
SECONDS = 5
# A white picture and a beep of 40 ms at 0.48 s of every second.
PICTURE = "testsrc2=s={size}:r={rate}:d={seconds},drawbox=c=white:t=fill:enable='between(mod(t,1),0.479,0.519)'"
BEEP = "gte(mod(t,1),0.48)*lt(mod(t,1),0.52)"
SOUND = "aevalsrc='0.6*sin(2*PI*1000*t)*" + BEEP + "':s={hertz}:d={seconds}"
# Six tones, each in one channel: where a channel went, its tone tells.
TONES = {"FL": 300, "FR": 500, "FC": 800, "LFE": 60, "BL": 1300, "BR": 2100}
SURROUND = ("aevalsrc='" + "|".join(f"0.3*sin(2*PI*{hertz}*t)" for hertz in TONES.values()) + "':c=5.1:s=48000:d={seconds}")
X264 = "-c:v libx264 -preset ultrafast -threads 1 -pix_fmt yuv420p"
X265 = "-c:v libx265 -preset ultrafast -x265-params log-level=none:pools=1:frame-threads=1"
# Four patches of a picture 320x240, and a grey one in the middle.
PATCHES = {(40, 40): (200, 40, 40), (280, 40): (40, 180, 60), (40, 200): (50, 60, 200), (280, 200): (220, 180, 40), (160, 120): (128, 128, 128)}


def moving(size="480x270", rate=25, seconds=SECONDS, sound=True, hertz=48000):
    parts = ["-f", "lavfi", "-i", PICTURE.format(size=size, rate=rate, seconds=seconds)]
    return parts + (["-f", "lavfi", "-i", SOUND.format(hertz=hertz, seconds=seconds)] if sound else [])


def patches(size="320x240", seconds=1):
    """Flat colours. ffmpeg keeps them RGB, so that the encoder's arguments say how they become YUV."""
    width, height = (int(x) for x in size.split("x"))
    boxes = []
    for (x, y), (r, g, b) in PATCHES.items():
        x, y = x * width // 320, y * height // 240
        half_w, half_h = 38 * width // 320, 38 * height // 240
        boxes.append(f"drawbox=x={x - half_w}:y={y - half_h}:w={2 * half_w}:h={2 * half_h}:c=0x{r:02x}{g:02x}{b:02x}:t=fill")
    return ["-f", "lavfi", "-i", f"color=black:s={size}:r=25:d={seconds},format=gbrp," + ",".join(boxes)]


def tagged(matrix, transfer):
    """Converts by zscale and says so in the stream."""
    names = {"bt470bg": "470bg", "smpte170m": "170m", "bt709": "709"}
    return ["-vf", f"zscale=m={names[matrix]}:range=limited,format=yuv420p", "-colorspace", matrix, "-color_trc", transfer or matrix, "-color_primaries", matrix,
            "-color_range", "tv"]


@dataclass
class Clip:
    name: str
    commands: list               # of arguments of ffmpeg; {out}, {tmp}
    ext: str
    way: str = "encode"          # or remux: another container is enough; packaged: it plays as it is
    size: tuple = (480, 270)     # as displayed, (0, 0) without pictures
    rate: float = 25             # 0: not even
    early: float = 0             # how much before the time that ffmpeg tells of them the pictures belong
    audio: tuple = ("und",)      # languages
    channels: int = 1            # of the sound that is chosen when nobody chooses
    groups: tuple = ("audio",)   # of sound: one for each codec
    look: str = ""               # ffmpeg's filters that make the source comparable
    ssim: float = 0.9
    colours: dict = field(default_factory=dict)   # patch -> RGB that must come out
    tolerance: int = 12          # of them
    tones: bool = False          # SURROUND
    interlaced: bool = False
    odd: bool = False            # packaged, though not every player shows it well: has a rung as high as it is


def words(text):
    return text.split()


def one(source, arguments):
    return [source + words(arguments) + ["{out}"]]


def clips():
    # AVI numbers packets and knows no other time: where pictures are reordered, ffmpeg gives the first that of the second packet.
    aac, mp3 = "-c:a aac -b:a 96k", "-c:a libmp3lame -b:a 96k"
    yield Clip("avi-mpeg4-mp3", one(moving(), f"-c:v mpeg4 -q:v 3 -bf 2 {mp3}"), "avi", early=0.04)
    yield Clip("avi-mpeg4-plain", one(moving(), f"-c:v mpeg4 -q:v 3 -bf 0 -c:a pcm_s16le"), "avi")
    yield Clip("webm-vp8-vorbis", one(moving(), "-c:v libvpx -deadline realtime -cpu-used 8 -b:v 2M -c:a libvorbis"), "webm")
    yield Clip("webm-vp9-opus", one(moving(), "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 2M -c:a libopus"), "webm", groups=("audio", "audio-opus"))
    yield Clip("ts-mpeg2-mp2", one(moving(), "-c:v mpeg2video -q:v 3 -bf 2 -c:a mp2"), "ts")
    yield Clip("mpg-mpeg2-mp2", one(moving(), "-c:v mpeg2video -q:v 3 -bf 2 -c:a mp2 -f vob"), "mpg")
    yield Clip("ts-mpeg2-mp3", one(moving(), f"-c:v mpeg2video -q:v 3 {mp3}"), "ts")
    yield Clip("mov-prores-pcm", one(moving(), "-c:v prores_ks -profile:v 0 -c:a pcm_s16le"), "mov")
    yield Clip("ogg-theora-vorbis", one(moving(), "-c:v libtheora -q:v 8 -c:a libvorbis"), "ogv")
    yield Clip("avi-mjpeg-pcm", one(moving(), "-c:v mjpeg -q:v 3 -pix_fmt yuvj420p -c:a pcm_s16le"), "avi", look="scale=in_range=pc:out_range=tv,format=yuv420p")
    yield Clip("flv-flv1-mp3", one(moving(hertz=44100), f"-c:v flv1 -q:v 3 {mp3}"), "flv")
    yield Clip("mkv-mpeg4-flac", one(moving(), "-c:v mpeg4 -q:v 3 -c:a flac"), "mkv")
    yield Clip("mkv-h264-10bit", one(moving(), f"-c:v libx264 -preset ultrafast -threads 1 -pix_fmt yuv422p10le {aac}"), "mkv", look="format=yuv420p")
    # what needs another container only
    yield Clip("ts-h264-aac", one(moving(), f"{X264} -g 50 -bf 2 {aac}"), "ts", way="remux")
    yield Clip("mkv-h264-aac", one(moving(), f"{X264} -g 50 -bf 2 {aac}"), "mkv", way="remux")
    yield Clip("flv-h264-aac", one(moving(), f"{X264} -g 50 -bf 2 {aac}"), "flv", way="remux")
    yield Clip("mkv-h264-ac3", one(moving(), f"{X264} -g 50 -bf 2 -c:a ac3"), "mkv", way="remux")
    yield Clip("mp4-h264-ac3", one(moving(), f"{X264} -g 50 -bf 2 -c:a ac3"), "mp4", way="remux", groups=("audio", "audio-ac-3"))
    yield Clip("mov-h264-eac3", one(moving(), f"{X264} -g 50 -bf 2 -c:a eac3"), "mov", way="remux", groups=("audio", "audio-ec-3"))
    yield Clip("mp4-h264-422-ac3", one(moving(), "-c:v libx264 -preset ultrafast -threads 1 -pix_fmt yuv422p10le -c:a ac3"), "mp4", look="format=yuv420p")
    yield Clip("ts-h264-mp3", one(moving(), f"{X264} -g 50 {mp3}"), "ts", way="remux")
    # what plays as it is, and gets the ladder beside it
    yield Clip("mp4-h264-aac", one(moving(), f"{X264} -g 50 -bf 2 {aac}"), "mp4", way="packaged")
    # (of a rate that is no reason for a rung)
    slow = "-b:v 600k -maxrate 700k -bufsize 350k"
    yield Clip("mp4-h264-422", one(moving("426x240"), f"-c:v libx264 -preset veryfast -threads 1 -g 50 -pix_fmt yuv422p10le {slow} {aac}"), "mp4",
               way="packaged", size=(426, 240), odd=True, look="format=yuv420p")
    yield Clip("mp4-h264-fields", one(moving("480x240", rate=50), "-vf scroll=h=0.01,tinterlace=interleave_top,setfield=tff -c:v libx264 -preset veryfast "
                                      f"-threads 1 -pix_fmt yuv420p {slow} -flags +ildct+ilme -x264-params interlaced=1:tff=1 {aac}"), "mp4", way="packaged",
               size=(480, 240), odd=True, interlaced=True, ssim=0.94, look="bwdif=0")
    # turned, stretched, odd
    for degrees in (90, 180, 270):
        yield Clip(f"turned-{degrees}", [moving() + words("-c:v prores_ks -profile:v 0 -c:a pcm_s16le -f mov {tmp}"),
                                         words(f"-i {{tmp}} -c copy -metadata:s:v rotate={degrees} {{out}}")], "mov",
                   size=(270, 480) if degrees % 180 else (480, 270))
    yield Clip("mp4-turned-90", [moving() + words(f"{X264} -g 50 {aac} -f mp4 {{tmp}}"), words("-i {tmp} -c copy -metadata:s:v rotate=90 {out}")], "mp4",
               way="packaged", size=(270, 480))
    yield Clip("sar-wide", one(moving("360x288"), f"-vf setsar=16/11 -c:v mpeg2video -q:v 3 -aspect 16:9 -c:a mp2"), "ts", size=(512, 288))
    yield Clip("sar-narrow", one(moving(), f"-vf setsar=3/4 -c:v libvpx -deadline realtime -cpu-used 8 -b:v 2M -c:a libvorbis"), "webm", size=(360, 270))
    yield Clip("odd-size", one(moving("640x360", sound=False), "-vf scale=641:361,setsar=1 -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 3M -pix_fmt yuv420p"), "webm", size=(641, 361),
               audio=())
    yield Clip("tiny", one(moving("160x90"), f"-c:v mpeg4 -q:v 3 {mp3}"), "avi", size=(160, 90))
    yield Clip("odd-tiny", one(moving("100x74", sound=False), "-vf scale=101:75,setsar=1 -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 1M -pix_fmt yuv420p"), "webm", size=(101, 75),
               audio=())
    # times
    yield Clip("vfr", one(moving(rate=50), "-vf select='not(mod(n\\,7))+gt(mod(n\\,5)\\,2)' -fps_mode vfr -c:v libvpx -deadline realtime -cpu-used 8 -b:v 2M "
                                           "-c:a libvorbis"), "webm", rate=0)
    yield Clip("fps-1", one(moving(rate=1, seconds=9), f"-c:v mpeg4 -q:v 3 {mp3}"), "avi", rate=1, ssim=0.8)
    yield Clip("fps-120", one(moving(rate=120, seconds=3), f"-c:v mpeg4 -q:v 3 {mp3}"), "avi", rate=120)
    yield Clip("fps-ntsc", one(moving(rate="30000/1001"), "-c:v mpeg2video -q:v 3 -c:a ac3"), "ts", rate=30000 / 1001)
    yield Clip("fps-film", one(moving(rate="24000/1001"), "-c:v libvpx -deadline realtime -cpu-used 8 -b:v 2M -c:a libvorbis"), "webm", rate=24000 / 1001)
    # pictures so far apart that reordered ones are decoded long before time 0
    vp8 = "-c:v libvpx -deadline realtime -cpu-used 8 -b:v 2M"
    yield Clip("start-gap", one(moving(seconds=4, sound=False), f"-vf setpts='if(eq(N\\,0)\\,0\\,PTS+15/TB)' -fps_mode vfr {vp8}"), "webm", rate=0, audio=())
    yield Clip("slides-vp8", one(moving(rate="1/20", seconds=240, sound=False), vp8), "webm", rate=1 / 20, audio=(), ssim=0.8)
    yield Clip("slides-avi", one(moving(rate="1/30", seconds=240, sound=False), "-c:v mpeg4 -q:v 3"), "avi", rate=1 / 30, audio=())
    yield Clip("slides-mkv", one(moving(rate="1/15", seconds=180, sound=False), f"{X264} -g 4 -bf 2 -b_strategy 0"), "mkv", way="remux", rate=1 / 15, audio=())
    yield Clip("slides-mp4", one(moving(rate="1/15", seconds=180, sound=False), f"{X264} -g 4 -bf 0"), "mp4", way="packaged", rate=1 / 15, audio=())
    yield Clip("one-picture", one(moving(sound=False), "-frames:v 1 -c:v mpeg4 -q:v 3"), "avi", audio=())
    yield Clip("late-sound", [moving() + words("-c:v mpeg2video -q:v 3 -c:a mp2 {tmp}"),
                              words("-i {tmp} -itsoffset 0.7 -i {tmp} -map 0:v -map 1:a -c copy {out}")], "mkv")
    yield Clip("late-picture", [moving() + words("-c:v mpeg4 -q:v 3 -c:a libvorbis -f matroska {tmp}"),
                                words("-i {tmp} -itsoffset 0.7 -i {tmp} -map 1:v -map 0:a -c copy {out}")], "mkv")
    yield Clip("late-both", [moving() + words("-c:v mpeg4 -q:v 3 -c:a libvorbis -f matroska {tmp}"),
                             words("-itsoffset 3 -i {tmp} -c copy {out}")], "mkv")
    # fields: 50 pictures a second woven into 25 of two fields each
    weave = "-vf {} -c:v mpeg2video -q:v 2 -flags +ildct+ilme -c:a mp2"
    yield Clip("fields-top", one(moving("480x288", rate=50), weave.format("scroll=h=0.01,tinterlace=interleave_top,setfield=tff") + " -top 1"), "ts", size=(480, 288), interlaced=True, ssim=0.94, look="bwdif=0")
    yield Clip("fields-bottom", one(moving("480x288", rate=50), weave.format("scroll=h=0.01,tinterlace=interleave_bottom,setfield=bff") + " -top 0"), "ts", size=(480, 288), interlaced=True, ssim=0.94,
               look="bwdif=0")
    yield Clip("fields-mbaff", one(moving("480x288", rate=50), "-vf scroll=h=0.01,tinterlace=interleave_top,setfield=tff -c:v libx264 -preset veryfast -threads 1 -pix_fmt yuv420p "
                                                    f"-flags +ildct+ilme -x264-params interlaced=1:tff=1 {aac}"), "ts", size=(480, 288), interlaced=True, ssim=0.94, look="bwdif=0")
    # sound
    yield Clip("surround-aac", one(moving(sound=False) + words("-f lavfi -i") + [SURROUND.format(seconds=SECONDS)],
                                   f"{X264} -g 50 -c:a aac -b:a 256k"), "mkv", way="remux", channels=6, tones=True)
    yield Clip("surround-ac3-mp4", one(moving(sound=False) + words("-f lavfi -i") + [SURROUND.format(seconds=SECONDS)],
                                       f"{X264} -g 50 -c:a ac3 -b:a 448k"), "mp4", way="remux", channels=2, tones=True, groups=("audio", "audio-ac-3"))
    yield Clip("surround-ac3", one(moving(sound=False) + words("-f lavfi -i") + [SURROUND.format(seconds=SECONDS)],
                                   "-c:v mpeg2video -q:v 3 -c:a ac3 -b:a 448k"), "ts", channels=2, tones=True)
    yield Clip("languages", one(moving() + words("-f lavfi -i sine=600:d=5 -f lavfi -i sine=900:d=5"),
                                "-map 0:v -map 1:a -map 2:a -map 3:a -c:v mpeg4 -q:v 3 -c:a ac3 -metadata:s:a:0 language=eng -metadata:s:a:1 language=deu "
                                "-metadata:s:a:2 language=jpn -metadata:s:a:2 title=Kommentar"), "mkv", audio=("en", "de", "ja"))
    # nothing but sound
    for name, codec, ext, way in (("mp3", "libmp3lame -b:a 128k", "mp3", "encode"), ("flac", "flac", "flac", "encode"), ("wav", "pcm_s16le", "wav", "encode"),
                                  ("vorbis", "libvorbis", "ogg", "encode"), ("opus", "libopus", "opus", "remux"), ("adts", "aac -b:a 96k", "aac", "remux")):
        yield Clip(f"sound-{name}", one(["-f", "lavfi", "-i", SOUND.format(hertz=48000, seconds=SECONDS)], f"-c:a {codec}"), ext, way=way, size=(0, 0))
    # colours
    for name, matrix, transfer, codec, ext in (
            ("601", "smpte170m", None, "mpeg2video -q:v 2", "ts"), ("601-pal", "bt470bg", "gamma28", "mpeg2video -q:v 2", "ts"),
            ("709", "bt709", None, "mpeg2video -q:v 2", "ts"), ("709-vp9", "bt709", None, "libvpx-vp9 -cpu-used 8 -b:v 1M", "webm")):
        yield Clip(f"colours-{name}", one(patches(), " ".join(tagged(matrix, transfer)) + f" -c:v {codec}"), ext, size=(320, 240), audio=(), ssim=0,
                   colours=PATCHES)
    yield Clip("colours-full", one(patches(), "-vf zscale=m=470bg:r=full,format=yuvj420p -c:v mjpeg -q:v 2"), "avi", size=(320, 240), audio=(), ssim=0, colours=PATCHES)
    yield Clip("colours-rgb", one(patches(), "-c:v png -pix_fmt rgb24"), "mov", size=(320, 240), audio=(), ssim=0, colours=PATCHES)
    yield Clip("colours-untagged-hd", one(patches("1280x960"), "-vf zscale=m=709:r=limited,format=yuv420p -c:v mpeg4 -q:v 2"), "avi", size=(1280, 960), audio=(),
               ssim=0, colours=PATCHES)
    yield Clip("colours-untagged-sd", one(patches(), "-vf zscale=m=170m:r=limited,format=yuv420p -c:v mpeg4 -q:v 2"), "avi", size=(320, 240), audio=(), ssim=0,
               colours=PATCHES)
    # wider and brighter than a common display: the patches are placed in the larger space, and must come back to where they were
    wide = "-vf zscale=pin=709:tin=709:min=gbr:p=2020:t={t}:m=2020_ncl:r=limited{more},format=yuv420p10le -colorspace bt2020nc -color_primaries bt2020 -color_trc {tag}"
    yield Clip("colours-2020", one(patches(), wide.format(t="2020_10", more="", tag="bt2020-10") + " -c:v libvpx-vp9 -profile:v 2 -cpu-used 8 -b:v 1M"), "webm",
               size=(320, 240), audio=(), ssim=0, colours=PATCHES)
    hdr = f" {X265}:colorprim=bt2020:colormatrix=bt2020nc:transfer="
    yield Clip("hdr-pq", one(patches(), wide.format(t="smpte2084", more=":npl=203", tag="smpte2084") + hdr + "smpte2084"), "mkv", way="remux", size=(320, 240),
               audio=(), ssim=0, colours=PATCHES, tolerance=50)
    yield Clip("hdr-hlg", one(patches(), wide.format(t="arib-std-b67", more=":npl=203", tag="arib-std-b67") + hdr + "arib-std-b67"), "mkv", way="remux",
               size=(320, 240), audio=(), ssim=0, colours=PATCHES, tolerance=50)
    # see-through: as it looks on black
    half = ["-f", "lavfi", "-i", "color=0xc86432@0.5:s=320x240:r=25:d=1,format=rgba"]
    seen = {(160, 120): (100, 50, 25)}
    yield Clip("alpha-png", one(half, "-c:v png -pix_fmt rgba"), "mov", size=(320, 240), audio=(), ssim=0, colours=seen)
    yield Clip("alpha-prores", one(half, "-c:v prores_ks -profile:v 4444 -pix_fmt yuva444p10le -alpha_bits 16"), "mov", size=(320, 240), audio=(), ssim=0,
               colours=seen)
    yield Clip("alpha-vp9", one(half, "-c:v libvpx-vp9 -pix_fmt yuva420p -auto-alt-ref 0 -cpu-used 8 -b:v 1M"), "webm", size=(320, 240), audio=(), ssim=0,
               colours=seen)


CLIPS = {clip.name: clip for clip in clips()}
