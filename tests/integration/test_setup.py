"""The set-up of scripts/bench and scripts/test, on this host."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: installs system packages"),
]


def shell(code: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `code` after the scripts' library, with this interpreter's environment as theirs."""
    return subprocess.run(
        ["sh", "-euc", f". scripts/lib/setup.sh\n{code}"],
        cwd=cwd,
        env={**os.environ, "LAB_VENV": sys.prefix, **env},
        check=False,
        capture_output=True,
        text=True,
    )


def tree(tmp_path: Path) -> Path:
    """What the set-up reads, in a folder of its own."""
    copy = tmp_path / "tree"
    shutil.copytree(ROOT / "scripts", copy / "scripts")
    shutil.copytree(ROOT / "ansible", copy / "ansible")
    for name in ("requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.mark.skipif(
    shutil.which("apt-get") is None, reason="needs a Debian-family host: no apt-get"
)
def test_the_playbook_changes_nothing_the_second_time() -> None:
    first = shell("playbook")
    assert first.returncode == 0, first.stdout + first.stderr
    second = shell("playbook", LC_ALL="C", http_proxy="http://127.0.0.1:9/")  # and needs no network
    assert second.returncode == 0, second.stdout + second.stderr
    recap = re.search(r"^localhost .*$", second.stdout, re.MULTILINE)
    assert recap
    assert "changed=0" in recap[0]
    assert "failed=0" in recap[0]


def test_another_distribution_is_refused_in_one_sentence(tmp_path: Path) -> None:
    play = tmp_path / "site.yml"
    play.write_text(
        "- hosts: all\n  gather_facts: false\n  vars:\n"
        "    ansible_facts: {os_family: RedHat, distribution: Fedora, distribution_release: ''}\n"
        f"  roles: [{ROOT}/ansible/roles/bench_host]\n"
    )
    done = shell(
        f"ANSIBLE_HOME={tmp_path} LC_ALL=C.UTF-8 "
        f'ANSIBLE_CONFIG=ansible/ansible.cfg "$VENV/bin/ansible-playbook" '
        f"--inventory localhost, --connection local {play}"
    )
    assert done.returncode != 0
    assert "Fedora is not Debian or Ubuntu" in done.stdout


def test_what_is_there_is_not_done_again(tmp_path: Path) -> None:
    copy = tree(tmp_path)
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").symlink_to(sys.executable)
    commands = 'COMMANDS="sh cat"'
    assert (
        shell(f'{commands}; stamp_of false >"$STAMP"; ready', copy, LAB_VENV=str(venv)).returncode
        == 0
    )
    done = shell(f"{commands}; setup", copy, LAB_VENV=str(venv))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    # Made without the peers, it does not do for the tests; made with them, it does for all.
    assert shell(f"{commands}; PEERS=true; ready", copy, LAB_VENV=str(venv)).returncode != 0
    with_peers = f'{commands}; stamp_of true >"$STAMP"; PEERS=true; ready && PEERS=false && ready'
    assert shell(with_peers, copy, LAB_VENV=str(venv)).returncode == 0
    # A command gone, or any input changed, and it is not ready.
    assert shell('COMMANDS="sh nosuchcommand"; ready', copy, LAB_VENV=str(venv)).returncode != 0
    (copy / "requirements.lock").write_text("changed\n")
    assert shell(f"{commands}; ready", copy, LAB_VENV=str(venv)).returncode != 0


def test_a_foreign_folder_is_not_cleared(tmp_path: Path) -> None:
    copy = tree(tmp_path)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.tex").write_text("years of work")
    done = shell("setup", copy, LAB_VENV=str(theirs))
    assert done.returncode == 1
    assert "was not made by this script" in done.stderr
    assert "LAB_VENV" in done.stderr
    assert (theirs / "thesis.tex").read_text() == "years of work"


def test_a_killed_set_up_is_begun_anew(tmp_path: Path) -> None:
    """Killed while the environment is filled; the next one clears it and fills it again."""
    copy = tree(tmp_path)
    venv = tmp_path / "venv"
    # Slow, so that it can be killed; the set-up's own steps are real up to there.
    stall = f'pip() {{ : >"{tmp_path}/filling"; exec sleep 60; }}\nsetup'
    with subprocess.Popen(
        ["sh", "-euc", f". scripts/lib/setup.sh\n{stall}"],
        cwd=copy,
        env={**os.environ, "LAB_VENV": str(venv)},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as killed:
        wait_for(tmp_path / "filling")
        (venv / "half-made").touch()
        os.killpg(killed.pid, 9)
    assert Path(f"{venv}.unfinished").exists()
    done = shell("pip() { :; }; playbook() { :; }; setup", copy, LAB_VENV=str(venv))
    assert done.returncode == 0, done.stderr
    assert "starting anew" in done.stderr
    assert not (venv / "half-made").exists()
    assert not Path(f"{venv}.unfinished").exists()
    assert (venv / ".lab-setup").exists()


def test_two_at_once_do_it_once(tmp_path: Path) -> None:
    copy = tree(tmp_path)
    log = tmp_path / "log"
    steps = f"pip() {{ sleep 0.2; echo pip >>{log}; }}; playbook() {{ echo play >>{log}; }}; setup"
    both = [
        subprocess.Popen(
            ["sh", "-euc", f". scripts/lib/setup.sh\n{steps}"],
            cwd=copy,
            env={**os.environ, "LAB_VENV": str(tmp_path / "venv")},
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    assert [one.wait(120) for one in both] == [0, 0]
    assert log.read_text().split() == ["pip", "pip", "play"]


def wait_for(path: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear in {seconds} s"
        time.sleep(0.02)
