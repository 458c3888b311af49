# Set-up that scripts/bench, scripts/test and scripts/check share. Sourced by sh, from the repository's root.
#
# Everything is skipped that is already there: a stamp in the virtual environment holds a hash of all that
# the set-up is made from. The stamp is written last, so that a set-up killed in the middle is done again.

VENV=${LAB_VENV:-.venv}
LOG=.setup.log
STAMP=$VENV/.lab-setup
# One command of each system package that the lab calls; the list of packages is the Ansible role's.
COMMANDS="qemu-system-x86_64 qemu-img busybox mke2fs cc mmdebstrap setpriv"

say() { printf '%s\n' "$*" >&2; }
fail() { say "$0: $*"; exit 1; }

become_root() {
    [ "$(id -u)" -eq 0 ] && return
    command -v sudo >/dev/null || fail "needs root (namespaces, cgroups, packages), and there is no sudo"
    exec sudo --preserve-env=LAB_VENV,LAB_CACHE_DIR,LAB_RESULTS,CI "$0" "$@"
}

# Run one step with its output in the log; on failure show the log's end and stop.
step() {
    what=$1
    shift
    say "set-up: $what"
    if ! "$@" >>"$LOG" 2>&1; then
        tail -n 25 "$LOG" >&2
        fail "set-up failed: $what. The whole output is in $PWD/$LOG; run the same command again to go on."
    fi
}

apt_install() {
    command -v apt-get >/dev/null ||
        fail "no apt-get here: install $* with your package manager, and what ansible/roles/bench_host/defaults/main.yml lists"
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    apt-get install -y --no-install-recommends "$@" && return
    apt-get update && apt-get install -y --no-install-recommends "$@"
}

# The path of a real interpreter (a python3 on the PATH may be a shim) that is new enough, or nothing.
find_python() {
    for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
        [ -n "$candidate" ] && command -v "$candidate" >/dev/null || continue
        "$candidate" -c 'import sys
if sys.version_info < (3, 11): sys.exit(1)
print(getattr(sys, "_base_executable", None) or sys.executable)' 2>/dev/null && return
    done
    return 1
}

make_venv() {
    "$VENV/bin/python" -m pip --version >/dev/null 2>&1 && return
    python=$(find_python) || {
        step "install python3" apt_install python3
        python=$(find_python) || fail "needs Python 3.11 or newer; set PYTHON to one"
    }
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        step "install python$version-venv" apt_install "python$version-venv"
    fi
    step "make $VENV with $python" "$python" -m venv --clear "$VENV"
}

fingerprint() {
    {
        "$VENV/bin/python" --version 2>/dev/null
        pwd
        find ansible scripts/lib requirements.lock pyproject.toml -type f -exec sha256sum {} + | sort
    } | sha256sum
}

commands_there() {
    for name in $COMMANDS; do
        command -v "$name" >/dev/null || return 1
    done
}

setup() {
    # Two at once would write into one environment: the second waits, and then finds all done.
    exec 9>.setup.lock
    flock 9
    if [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$(fingerprint)" ] && commands_there; then
        exec 9>&-
        return
    fi
    : >"$LOG"
    make_venv
    rm -f "$STAMP"
    pip="$VENV/bin/python -m pip --disable-pip-version-check --no-input"
    step "install Python packages (requirements.lock)" $pip install --require-hashes -r requirements.lock
    step "install the lab" $pip install --no-deps --no-build-isolation --editable .
    step "install system packages (ansible/site.yml)" env ANSIBLE_CONFIG=ansible/ansible.cfg \
        PATH="$PWD/$VENV/bin:$PATH" "$VENV/bin/ansible-playbook" --inventory localhost, --connection local ansible/site.yml
    commands_there || fail "the playbook has run and one of these is still missing: $COMMANDS"
    fingerprint >"$STAMP.new"
    mv "$STAMP.new" "$STAMP"
    exec 9>&-
}
