"""Sources of the benchmarks, made once by ffmpeg."""
import support
from support import made

MOVING_S = 12


def film(name, bitrate, seconds):
    """A film of `seconds`: ten seconds encoded once, then joined to themselves without encoding."""
    def make(path):
        piece = made(f"bench-piece-{bitrate}.mp4", lambda p: support.ffmpeg(
            "-f", "lavfi", "-i", "testsrc2=size=1920x1080:rate=30:duration=12",
            "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=12", *support.VIDEO, "-g", "60",
            "-b:v", bitrate, "-minrate", bitrate, "-maxrate", bitrate, "-bufsize", bitrate,
            "-x264-params", "nal-hrd=cbr:force-cfr=1", *support.AUDIO, "-f", "mp4", p))
        support.ffmpeg("-stream_loop", "-1", "-i", piece, "-c", "copy", "-t", str(seconds), "-movflags", "+faststart",
                       "-f", "mp4", path)
    return made(f"{name}.mp4", make)


def hour():
    return film("bench-hour", "2150k", 3600)


def minute():
    return film("bench-minute", "2150k", 60)


def bulky():
    """Segments of 6 s that weigh 2 MB."""
    return film("bench-2mb", "2600k", 60)


def moving():
    """1080p at a rate that makes every rung worth it: detail that moves, with grain."""
    return made("bench-moving.mp4", lambda path: support.ffmpeg(
        "-f", "lavfi", "-i", f"testsrc2=size=1920x1080:rate=30:duration={MOVING_S},noise=alls=12:allf=t",
        "-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=48000:duration={MOVING_S}", "-c:v", "libx264", "-preset", "ultrafast",
        "-b:v", "16M", "-g", "60", "-pix_fmt", "yuv420p", "-c:a", "aac", "-ac", "2", "-f", "mp4", path))


def foreign_hour():
    """An hour of MPEG-4 Part 2 and MP3 in AVI, which no browser plays."""
    def make(path):
        piece = made("bench-piece.avi", lambda p: support.ffmpeg(
            "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25:duration=60",
            "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=60", "-c:v", "mpeg4", "-b:v", "2M", "-g", "50",
            "-c:a", "libmp3lame", "-b:a", "128k", "-f", "avi", p))
        support.ffmpeg("-stream_loop", "59", "-i", piece, "-c", "copy", "-f", "avi", path)
    return made("bench-hour.avi", make)
