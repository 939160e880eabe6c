# shellcheck shell=sh
# Sourced by the scripts beside it, never run: gives this checkout a .venv with csfs in it.
#
# The caller sets `top` to the top of the checkout, then calls `set_up csfs`, `set_up test` or `set_up bench`.
# All it has to say goes to stderr: stdout belongs to the command that is run afterwards.

venv=${top:?}/.venv
venv_lock=$top/.venv.lock

say() {
    printf 'set-up: %s\n' "$*" >&2
}

die() {
    say "$@"
    exit 1
}

# A finished set-up leaves the stamp .venv/.built-csfs, and that of what it was for besides. It says
# what was installed, by which Python and where: a .venv that was copied or that outlived a Python
# upgrade is of no use.
read_stamp() {
    built_from='' built_at=''
    if [ -x "$venv/bin/python" ] && [ -x "$venv/bin/csfs" ] && [ -r "$venv/.built-$1" ]; then
        { read -r built_from && read -r built_at; } <"$venv/.built-$1" || built_at=''
    fi
}

source_sum() {
    # Besides what to install, this covers what an editable installation does not pick up by itself: C.
    (cd "$top" && cat pyproject.toml setup.py csfs/*.c csfs/*/*.c 2>/dev/null | cksum)
}

place() {
    printf '%s for %s\n' "$(readlink -f "$venv/bin/python")" "$top"
}

is_built() {
    read_stamp "$1"
    [ -n "$built_at" ] && [ "$built_at" = "$(place)" ] && [ "$built_from" = "$(source_sum)" ]
}

# Root's own Python may lie where nobody else can reach it, and then nobody else could run csfs.
everyone_can_run() {
    [ "$(id -u)" -ne 0 ] || setpriv --reuid=65534 --regid=65534 --clear-groups "$1" -c '' 2>/dev/null
}

# Prints what apt has to add to a Python, or fails if it does not serve. Headers and venv are looked for
# themselves: a Python that is not the distribution's comes with both, or apt cannot complete it.
missing_of_python() {
    "$1" -c '
import importlib.util, os, sys, sysconfig
missing = []
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    missing.append("dev")
if not importlib.util.find_spec("ensurepip"):
    missing.append("venv")
if sys.version_info < (3, 11) or (missing and sys.base_prefix != "/usr"):
    sys.exit(1)
print(*("python%d.%d-%s" % (*sys.version_info[:2], part) for part in missing))
' 2>/dev/null
}

# Sets `python` and `python_packages`, what it lacks.
find_python() {
    for fits in everyone_can_run true; do
        for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3}; do
            if python_packages=$(missing_of_python "$python") && "$fits" "$python"; then
                return
            fi
        done
    done
    if command -v python3 >/dev/null; then
        die "csfs needs Python 3.11 or later, with its headers and venv; name one with PYTHON=/path/to/python3"
    fi
    python=python3
    python_packages='python3 python3-dev python3-venv'
}

missing_packages() {
    command -v fusermount3 >/dev/null || echo fuse3
    command -v pkg-config >/dev/null || echo pkg-config
    pkg-config --exists fuse3 2>/dev/null || echo libfuse3-dev
    # A compiler alone does not bring the C library's headers.
    echo '#include <stdlib.h>' | gcc -E - >/dev/null 2>&1 || echo gcc libc6-dev
    echo "$python_packages"
    if [ "$1" = test ]; then
        command -v rsync >/dev/null || echo rsync
        command -v jq >/dev/null || echo jq
        command -v git >/dev/null || echo git
        command -v make >/dev/null || echo make
        command -v patch >/dev/null || echo patch
        command -v ed >/dev/null || echo ed
        command -v sponge >/dev/null || echo moreutils
        command -v vim.tiny >/dev/null || echo vim-tiny
        command -v setfattr >/dev/null || echo attr
        command -v setfacl >/dev/null || echo acl
        command -v bindfs >/dev/null || echo bindfs
        command -v mkfs.xfs >/dev/null || echo xfsprogs
        command -v logrotate >/dev/null || echo logrotate
        command -v groff >/dev/null || echo groff-base
        command -v systemd-analyze >/dev/null || echo systemd
    fi
    if [ "$1" = bench ]; then
        command -v bindfs >/dev/null || echo bindfs
        command -v mergerfs >/dev/null || echo mergerfs
    fi
}

install_packages() {
    packages=$(missing_packages "$1" | xargs)
    if [ -z "$packages" ]; then
        return
    fi
    if ! command -v apt-get >/dev/null; then
        die "what these Debian packages hold is missing, please install it: $packages"
    fi
    if [ "$(id -u)" -ne 0 ]; then
        say "system packages are missing; ask the administrator to run"
        printf '    apt-get install %s\n' "$packages" >&2
        exit 1
    fi
    say "installing system packages: $packages"
    # Services that a package starts must not inherit the set-up lock (descriptor 9).
    (
        exec </dev/null >&2 9>&-
        export DEBIAN_FRONTEND=noninteractive
        apt-get -qq update || say "going on with the package lists as they are"
        # shellcheck disable=SC2086 # a list of words
        apt-get -qq -o DPkg::Lock::Timeout=300 install --no-install-recommends $packages
    ) || die "apt-get could not install: $packages"
}

build_venv() {
    # Without a stamp this is what an interrupted set-up left, and pip would take a package that was
    # copied in part for installed: start from nothing.
    read_stamp csfs
    if [ -z "$built_at" ] || [ "$built_at" != "$(place)" ]; then
        say "creating .venv with $python"
        "$python" -m venv --clear "$venv" </dev/null >&2 || die "$python could not create $venv"
    fi
    rm -f "$venv"/.built-*

    case $1 in
    csfs) project=. ;;
    *) project=".[$1]" ;;
    esac
    say "installing csfs and the Python packages it needs into .venv"
    built_from=$(source_sum)
    # "compat" is a plain path entry; setuptools' default is a finder that delays every start of csfs.
    (
        cd "$top" || exit
        exec </dev/null >&2
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            --config-settings editable_mode=compat --editable "$project"
    ) || die "pip could not install csfs; the next run starts over"
    # Whoever runs csfs later may not be permitted to write the byte code here.
    "$venv/bin/python" -m compileall -q "$top/csfs" </dev/null >&2 || true

    for stamp in csfs "$1"; do
        printf '%s\n%s\n' "$built_from" "$(place)" >"$venv/.built-$stamp"
    done
    say "done"
}

set_up() {
    if is_built "$1"; then
        return
    fi
    for file in "$top" "$venv" "$venv_lock"; do
        if [ -e "$file" ] && [ ! -w "$file" ]; then
            die "$file is not yours to write; ask its owner to run scripts/$1 once"
        fi
    done
    # pip inherits the lock: should this shell be killed, the next one waits for the pip left behind.
    exec 9>>"$venv_lock"
    if ! flock -n 9; then
        say "waiting for another set-up of this checkout"
        flock 9
    fi
    if ! is_built "$1"; then
        find_python
        install_packages "$1"
        build_venv "$1"
    fi
    # A csfs that stays in the background must not keep it.
    exec 9>&-
}
