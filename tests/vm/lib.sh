# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What the shell scripts of this folder share: the cache of slow things (kernel, QEMU, root image, headers), its
# locks and keys, and an apt of our own that looks at another suite of the archive this machine already uses. To be
# sourced by bash scripts that have set -euo pipefail; it does nothing by itself.

CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/tdid"
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

# only_cached ARGUMENT ABOUT [LINE...]: the arguments that every script with a cached result has. Sets cached=yes when it
# must not make anything: it then prints the result, or ends with 1 when there is none.
only_cached() {
        cached=no
        case "$1" in
                "") return ;;
                --cached) cached=yes; return ;;
        esac
        {
                echo "usage: ${0##*/} [OPTION]   $2"
                echo "       --cached   only if nothing has to be made or fetched; exit code 1 otherwise"
                [ $# -lt 3 ] || printf '       %s\n' "${@:3}"
        } >&2
        [ "$1" = --help ] && exit 0 || exit 2
}

# hash_of [FILE...]: one key over the files' content and whatever comes on standard input.
hash_of() {
        cat "$@" - | sha256sum | cut -c1-16
}

# versions PACKAGE...: name and version of each as installed, for use in a key; one that is absent counts as "-".
versions() {
        local p
        for p in "$@"; do
                printf '%s %s\n' "$p" "$(dpkg-query -W -f '${Version}' "$p" 2>/dev/null || echo -)"
        done
}

# lock NAME: waits for the lock of that name and holds it until this process and every child that it leaves behind have
# ended: children inherit the descriptor, so a build that outlives a killed script still keeps others out of its way.
lock() {
        local fd
        mkdir -p "$CACHE/locks"
        exec {fd}>"$CACHE/locks/$1"
        if ! flock -n "$fd"; then
                say "another run is busy with '$1': waiting for it"
                flock "$fd"
        fi
}

# scratch NAME: prints a new folder on the cache's own file system (so that a rename out of it is atomic). Call it with
# the lock of NAME held: what an interrupted run left under that name goes away first.
scratch() {
        mkdir -p "$CACHE/tmp"
        rm -rf "$CACHE/tmp/$1".*
        mktemp -d "$CACHE/tmp/$1.XXXXXX"
}

# place SOURCE TARGET: puts a finished file or folder where readers look for it. Only ever whole: one rename.
place() {
        mkdir -p "$(dirname "$2")"
        sync -f "$1"
        mv -T "$1" "$2"
}

# prune FOLDER NUMBER: of the results in a folder of the cache, keeps those that were used last.
prune() {
        local old
        while IFS= read -r old; do
                rm -rf -- "${1:?}/$old"
        done < <(ls -1t "$1" | tail -n +"$(($2 + 1))")
}

# archive_sources: the Debian archive as this machine's apt is configured: a line "ADDRESS SUITE" for the release that it
# runs, its updates and its security updates.
archive_sources() {
        local codename sources
        codename="$(. /etc/os-release && echo "${VERSION_CODENAME:-}")"
        sources="$(apt-get indextargets --format '$(ORIGIN) $(COMPONENT) $(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
                sed -n "s/^Debian main \([^ ]*\) \($codename\(-updates\|-security\)\?\)\$/\1 \2/p" | sort -u)"
        # Where apt has no lists yet it knows no more than where it would fetch them from.
        [ -n "$sources" ] || sources="$(apt-get update --print-uris |
                sed -n "s,^'\([^']*/debian[^/']*/\)dists/\($codename\(-updates\|-security\)\?\)/InRelease' .*,\1 \2,p" | sort -u)"
        [ -n "$sources" ] || die "apt of this machine has no Debian archive with suite '$codename', neither in" \
                "'apt-get indextargets' nor in 'apt-get update --print-uris'. Add it to the sources of apt and run again."
        echo "$sources"
}

# archive_uri: the address of the archive proper; it holds the backports suites, too.
archive_uri() {
        archive_sources | awk '$2 !~ /-/ && !uri { uri = $1 } END { print uri }'
}

# apt_for NAME [apt-get|apt-cache] ARGUMENT...: runs apt with sources, lists and cache of its own, those that apt_lists made
# under that name: the suite's, where there is one. What it installs onto is the system's dpkg status; with a file "status" in
# its folder, that one; with a file "arch", packages of that architecture. Nothing under /etc/apt is changed.
apt_for() {
        local dir="$CACHE/apt/$1" tool=apt-get status=()
        shift
        case "$1" in apt-cache|apt-get) tool="$1"; shift ;; esac
        [ ! -e "$dir/status" ] || status=(-o Dir::State::status="$dir/status")
        [ ! -e "$dir/arch" ] || status+=(-o APT::Architecture="$(cat "$dir/arch")" -o APT::Architectures="$(cat "$dir/arch")")
        "$tool" \
                -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts=/dev/null \
                -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
                -o Dir::State::lists="$dir/lists" -o Dir::Cache="$dir/cache" "${status[@]}" \
                -o Acquire::Languages=none -o Acquire::Retries=3 -o APT::Sandbox::User=root \
                -o DPkg::Lock::Timeout=600 "$@"
}

have_lists() { [ -e "$CACHE/apt/$1/fetched" ]; }

# apt_lists SUITE [OTHER_SUITE...]: sees to it that the private apt of SUITE has lists; OTHER_SUITEs serve its
# dependencies. With REFRESH=1 in the environment they are fetched anew. Lists stay as they are otherwise, so that a key
# made from them does not change behind the back of a warm cache.
apt_lists() { apt_lists_as "$1" "$@"; }

# apt_lists_as NAME SUITE...: the same under another name.
apt_lists_as() (
        dir="$CACHE/apt/$1" keyring=/usr/share/keyrings/debian-archive-keyring.gpg
        have_lists "$1" && [ "${REFRESH:-0}" = 0 ] && exit 0
        lock "apt-$1"
        have_lists "$1" && [ "${REFRESH:-0}" = 0 ] && exit 0
        [ -r "$keyring" ] || die "cannot read $keyring: install package debian-archive-keyring"
        uri="$(archive_uri)"
        mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
        for suite in "${@:2}"; do
                printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$uri" "$suite"
        done >"$dir/sources.list"
        apt_for "$1" update -qq >&2 || die "cannot fetch the package lists of suite '$2': 'apt-get update' failed (see above)." \
                "Is the archive that apt is configured with reachable, and does it carry that suite?"
        touch "$dir/fetched"
)

# candidate SUITE PACKAGE: the version that the private apt would fetch from SUITE, the newest one; empty when none.
candidate() {
        apt_for "$1" apt-cache madison "$2" | awk -F ' *[|] *' 'NR == 1 { print $2 }'
}

# download SUITE PACKAGE=VERSION FOLDER: fetches one .deb into FOLDER and prints its path.
download() (
        cd "$3"
        apt_for "$1" -qq download "$2" >&2 || die "cannot download $2 from suite '$1': 'apt-get download' failed (see above)"
        echo "$3/$(ls -1 | grep "^${2%%=*}_.*[.]deb\$")"
)

# kernel_suite, kernel_source: the suite that kernel packages come from, and the version (7.3, say) of the source that is
# used: the one asked for or, when the suite has moved on, the next later one. Call apt_lists for the suite first.
kernel_suite=trixie-backports
kernel_source() {
        local wanted=7.3 all best
        all="$(apt_for "$kernel_suite" apt-cache pkgnames linux-source- | sed -n 's/^linux-source-\([0-9.]\+\)$/\1/p')"
        best="$(printf '%s\n' $all | awk -v w="$wanted" '
                function num(v, a) { split(v, a, "."); return a[1] * 1000 + a[2] }
                num($1) >= num(w) && (!best || num($1) < num(best)) { best = $1 }
                END { print best }')"
        [ -n "$best" ] || die "suite '$kernel_suite' has no linux-source-$wanted and no later one, only:" $all
        echo "$best"
}
