# Shared by scripts/*: sourced, never run. Sets ROOT and leaves the shell in it.
# shellcheck shell=bash disable=SC2034
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"

say() {
    printf '==> %s\n' "$*" >&2
}

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

BUILD_PACKAGES="gcc cmake:cmake ninja:ninja-build pkg-config:pkg-config libc6-dev libmicrohttpd-dev
    libjansson-dev libavformat-dev libavcodec-dev libavfilter-dev libavutil-dev libswscale-dev libswresample-dev libsqlite3-dev libssl-dev
    libinih-dev libseccomp-dev libsystemd-dev libcurl4-openssl-dev libcmocka-dev"
RUN_PACKAGES="ffmpeg:ffmpeg curl:curl python3:python3 ca-certificates"
LINT_PACKAGES="clang:clang clang-format:clang-format nm:binutils systemd-analyze:systemd"
TEST_PACKAGES="libclang-rt-14-dev promtool:prometheus chromium:chromium node:nodejs npm:npm xmllint:libxml2-utils setpriv:util-linux
    nginx:nginx-light mpv:mpv"
BENCH_PACKAGES="nginx:nginx-light wrk:wrk valgrind:valgrind node:nodejs npm:npm strace:strace"

# node_packages FOLDER...: what their package-lock.json names, when it is not there yet.
node_packages() {
    local folder
    for folder in "$@"; do
        cmp -s "$folder/package-lock.json" "$folder/node_modules/.streamgate-lock" && continue
        say "installing the node packages of $folder"
        npm --prefix "$folder" ci --no-audit --no-fund --loglevel=error >&2
        cp "$folder/package-lock.json" "$folder/node_modules/.streamgate-lock"
    done
}

# need_packages NAME|COMMAND:NAME...: installs what is missing, nothing else. A command that is
# already on the PATH satisfies its package, however it came there.
need_packages() {
    local item command missing=()
    for item in "$@"; do
        if [[ $item == *:* ]]; then
            command=${item%%:*}
            PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null 2>&1 && continue
        elif [[ $(dpkg-query -W -f='${Status}' "$item" 2>/dev/null) == *" installed" ]]; then
            continue
        fi
        missing+=("${item#*:}")
    done
    ((${#missing[@]})) || return 0
    say "installing ${missing[*]}"
    local as_root=()
    if ((EUID != 0)); then
        command -v sudo >/dev/null || die "these packages are missing and need root: ${missing[*]}"
        as_root=(sudo)
    fi
    local log
    log=$(mktemp)
    # SYSTEMD_OFFLINE: nginx and prometheus come with services that nobody asked to start here.
    if ! { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive SYSTEMD_OFFLINE=1 apt-get -qq -y \
            --no-install-recommends install "${missing[@]}"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        die "apt-get could not install ${missing[*]}"
    fi
    rm -f "$log"
}

# free_port: prints a TCP port of 127.0.0.1 that nobody uses at this moment.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# configure_and_build DIR CMAKE-OPTION...: quiet unless something fails.
configure_and_build() {
    local dir=$1 log
    shift
    mkdir -p "$dir"
    log=$dir/build.log
    if ! { cmake -S "$ROOT" -B "$dir" -G Ninja "$@" && ninja -C "$dir"; } >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        die "building $dir failed; all of it: $log"
    fi
}
