# Set-up that scripts/bench and scripts/test share. Sourced by sh, from the repository's root.
#
# Everything is skipped that is already there: a stamp in the virtual environment holds a hash of all that
# the set-up is made from. The stamp is written last. A second file, beside the environment, is there while
# the environment is being filled: if it is still there when nobody holds the lock, a set-up was killed in
# the middle, and the environment is made anew. An environment that somebody made by hand is only ever
# added to.

case ${LAB_VENV:-} in
'') VENV=$PWD/.venv ;;
/*) VENV=${LAB_VENV%/} ;;
*) VENV=$PWD/${LAB_VENV%/} ;;
esac
LOG=$PWD/.setup.log
STAMP=$VENV/.lab-setup
OURS=$VENV/.lab-made
UNFINISHED=$VENV.unfinished
# Whether what the lab is measured and proved against is wanted too (bench_host_peers): set by scripts/test.
PEERS=${PEERS:-false}
# One command of each system package that the lab calls; the list of packages is the Ansible role's.
COMMANDS="qemu-system-x86_64 qemu-img busybox mke2fs cc mmdebstrap setpriv ip nft cpio xz zstd skopeo"

# su without - leaves a root shell without the folders of mke2fs and nft.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH
# They would let packages from outside into the environment.
unset PYTHONHOME PYTHONPATH

say() { printf '%s\n' "$*" >&2; }
fail() { say "${0##*/}: $*"; exit 1; }

# Run this script again through sudo if it must; $1 is its full path. What points pip and apt to the user's
# own package sources goes along, for root's HOME is another one.
become_root() {
    [ "$(id -u)" -eq 0 ] && return
    command -v sudo >/dev/null ||
        fail "needs root (namespaces, cgroups, system packages), and there is no sudo: run it as root"
    for file in "${XDG_CONFIG_HOME:-$HOME/.config}/pip/pip.conf" "$HOME/.pip/pip.conf"; do
        if [ -z "${PIP_CONFIG_FILE:-}" ] && [ -r "$file" ]; then
            PIP_CONFIG_FILE=$file
            export PIP_CONFIG_FILE
        fi
    done
    keep=$(env | sed -n -E 's/^((LAB|PIP)_[A-Z_]+|CI|PYTHON|APT_CONFIG|([a-z]+|[A-Z]+)_(proxy|PROXY))=.*/\1/p' |
        paste -sd, -)
    exec sudo ${keep:+"--preserve-env=$keep"} "$@"
}

# Run one step with its output in the log; on failure show the log's end and stop.
step() {
    what=$1
    shift
    printf 'set-up: %s … ' "$what" >&2
    started=$(date +%s)
    printf '\n== %s\n' "$what" >>"$LOG"
    if "$@" >>"$LOG" 2>&1 </dev/null; then
        say "$(($(date +%s) - started)) s"
        return
    fi
    say "failed"
    tail -n 25 "$LOG" >&2
    fail "set-up failed: $what. All output is in $LOG. When the cause is mended, run the same command again: it goes on from there."
}

apt_install() {
    command -v apt-get >/dev/null || {
        say "no apt-get on this host: install $* with its own package manager, and also what"
        say "ansible/roles/bench_host/defaults/main.yml lists"
        return 1
    }
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    # Most often the package lists are there and new enough; else fetch them. An installation that was
    # killed leaves dpkg refusing all work until it has been told to finish.
    apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=600 "$@" && return
    dpkg --configure --pending
    apt-get update && apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=600 "$@"
}

# The path of a real interpreter (a python3 on the PATH may be a slow shim) that is new enough, or nothing.
find_python() {
    for candidate in "${PYTHON:-}" python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11; do
        [ -n "$candidate" ] && command -v "$candidate" >/dev/null || continue
        "$candidate" -I -c 'import sys
if sys.version_info < (3, 11): sys.exit(1)
print(getattr(sys, "_base_executable", None) or sys.executable)' 2>/dev/null && return
    done
    return 1
}

make_venv() {
    if [ -e "$UNFINISHED" ]; then
        say "set-up: an earlier set-up did not come to its end; starting anew"
    elif "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        return
    elif [ ! -e "$OURS" ] && [ -d "$VENV" ] && [ -n "$(ls -A "$VENV")" ]; then
        fail "$VENV is there, was not made by this script and has no working pip: remove it, or name another place in LAB_VENV"
    fi
    python=$(find_python) || {
        step "install python3" apt_install python3
        python=$(find_python) ||
            fail "needs Python 3.11 or newer, and this host's python3 is older: install one and name it in PYTHON"
    }
    if ! "$python" -I -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$python" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        step "install python$version-venv" apt_install "python$version-venv"
    fi
    : >"$UNFINISHED"
    step "make $VENV with $python" "$python" -m venv --clear "$VENV"
    : >"$OURS"
}

pip() { "$VENV/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }

playbook() {
    # Ansible wants UTF-8, and keeps its scratch below the environment and not in somebody's home.
    LC_ALL=C.UTF-8 ANSIBLE_CONFIG=$PWD/ansible/ansible.cfg ANSIBLE_HOME=$VENV/ansible \
        ANSIBLE_LOCAL_TEMP=$VENV/ansible/tmp ANSIBLE_REMOTE_TEMP=$VENV/ansible/tmp \
        "$VENV/bin/ansible-playbook" --inventory localhost, --connection local \
        --extra-vars "bench_host_peers=$PEERS" "$@" ansible/site.yml
}

fingerprint() {
    {
        "$VENV/bin/python" --version 2>&1
        pwd
        find ansible scripts/lib requirements.lock pyproject.toml -type f -exec sha256sum {} + | sort
    } | sha256sum
}

commands_there() {
    for name in $COMMANDS; do
        command -v "$name" >/dev/null || { printf '%s\n' "$name"; return 1; }
    done
}

# What the stamp says of a set-up with the peers ($1 is true) or without.
stamp_of() { printf '%s peers=%s\n' "$(fingerprint)" "$1"; }

# A host that has the peers has all that is wanted without them.
ready() {
    [ -f "$STAMP" ] && commands_there >/dev/null && case "$(cat "$STAMP")" in
    "$(stamp_of true)" | "$(stamp_of "$PEERS")") ;;
    *) return 1 ;;
    esac
}

setup() {
    # Two at once would write into one environment: the second waits, and then finds all done. A killed
    # set-up's children hold the lock until they end.
    mkdir -p "${VENV%/*}"
    exec 9>"$VENV.lock"
    flock --nonblock 9 || { say "set-up: another one is at work here; waiting for it"; flock 9; }
    if ! ready; then
        : >"$LOG"
        make_venv
        rm -f "$STAMP"
        [ ! -e "$OURS" ] || : >"$UNFINISHED"
        step "install Python packages" pip install --require-hashes -r requirements.lock
        # compat: one line in a .pth file, where the default may put an import hook into every start of Python.
        step "install the lab" pip install --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
        rm -f "$UNFINISHED" # what follows does not write to the environment
        # Ansible's modules run on the distribution's Python, which has the bindings to apt.
        [ -x /usr/bin/python3 ] || step "install the distribution's python3" apt_install python3-minimal
        step "install system packages" playbook
        missing=$(commands_there) ||
            fail "the packages of ansible/roles/bench_host are installed, and the command $missing is still not on PATH ($PATH)"
        stamp_of "$PEERS" >"$STAMP.new"
        mv "$STAMP.new" "$STAMP"
    fi
    exec 9>&-
}
