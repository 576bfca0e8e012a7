# SPDX-License-Identifier: Apache-2.0
"""Two hosts on one machine: Linux namespaces with an address, processes and a ``/tmp`` each."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

NAMESPACES = ("--net", "--pid", "--mount", "--uts")
INTERFACE = "eth0"
ADDRESSES = ("10.77.0.1", "10.77.0.2")


def refusal() -> str | None:
    """Why hosts cannot be made here; None if they can."""
    tried = subprocess.run(
        ["unshare", *NAMESPACES, "--fork", "ip", "link", "set", "lo", "up"],
        capture_output=True,
        text=True,
    )
    return None if tried.returncode == 0 else f"no namespaces here: {tried.stderr.strip()}"


class Host:
    """A host and its shell, to which commands are typed as a user types them.

    Ending its first process ends every process of the host.
    """

    def __init__(
        self, name: str, address: str, folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.name, self.address, self._environment = name, address, environment
        self.log = folder / f"{name}.log"
        self._typed = 0
        self._first = subprocess.Popen(
            # With the process that made it the host ends too, however that one ends.
            [
                "setpriv",
                "--pdeathsig",
                "KILL",
                "unshare",
                *NAMESPACES,
                "--fork",
                "--mount-proc",
                "--kill-child",
                "sleep",
                "infinity",
            ],
            stderr=subprocess.DEVNULL,  # it complains of the signal that ends it
        )
        self._pid = self._child()

    def _child(self) -> int:
        """The host's first process as this machine numbers it."""
        children = Path(f"/proc/{self._first.pid}/task/{self._first.pid}/children")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if numbers := children.read_text().split():
                program = Path(f"/proc/{numbers[0]}/comm").read_text().strip()
                if program == "sleep":
                    return int(numbers[0])
            time.sleep(0.05)
        raise AssertionError(f"host {self.name} did not start")

    def _inside(self, *command: str) -> list[str]:
        return ["nsenter", "-t", str(self._pid), *NAMESPACES, "--", *command]

    def connect(self, link: str) -> None:
        """Take ``link`` for the host's interface and open a shell."""
        subprocess.run(["ip", "link", "set", link, "netns", str(self._pid)], check=True)
        # As Debian's installer writes it: a host's name is no way to find its address.
        names = self.log.with_suffix(".hosts")
        names.write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")
        for command in (
            f"ip link set {link} name {INTERFACE}",
            f"ip address add {self.address}/24 dev {INTERFACE}",
            f"ip link set {INTERFACE} up",
            "ip link set lo up",
            f"ip route add default dev {INTERFACE}",
            f"hostname {self.name}",
            f"mount --bind {names} /etc/hosts",
            "mount -t tmpfs none /tmp/ray",
        ):
            subprocess.run(self._inside(*command.split()), check=True)
        self._shell = subprocess.Popen(
            self._inside("bash"),
            stdin=subprocess.PIPE,
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment,
        )

    def type(self, commands: str) -> None:
        """Type ``commands`` into the shell; they run one after another."""
        assert self._shell.stdin is not None
        self._shell.stdin.write(commands.rstrip("\n") + "\n")
        self._shell.stdin.flush()

    def run(self, commands: str, seconds: float) -> None:
        """Type ``commands`` and wait until they have ended, the last of them well."""
        self._typed += 1
        mark = f"-- {self.name} {self._typed} ended "
        self.type(f"{commands.rstrip()}\necho '{mark}'$?")
        text = self.wait_for(mark, seconds)
        assert f"{mark}0" in text, text[-6000:]

    def wait_for(self, text: str, seconds: float) -> str:
        """What the shell has printed, once ``text`` is in it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if text in (printed := self.log.read_text(errors="replace")):
                return printed
            time.sleep(0.5)
        raise AssertionError(f"no {text!r} within {seconds} s:\n{printed[-6000:]}")

    def output(self, *command: str) -> str:
        """What ``command`` prints inside the host."""
        return subprocess.run(
            self._inside(*command), check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    def processes(self, *words: str) -> dict[int, str]:
        """The host's processes whose command line holds one of ``words``, by their number there."""
        found = {}
        for line in self.output("ps", "-ww", "-eo", "pid=,stat=,args=").splitlines():
            pid, state, args = line.split(maxsplit=2)
            # Nobody in the host waits for what its first process has inherited: these have ended.
            if state[0] != "Z" and any(word in args for word in words):
                found[int(pid)] = args
        return found

    def signal(self, pid: int, number: signal.Signals) -> None:
        subprocess.run(self._inside("kill", f"-{number.value}", str(pid)), check=True)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        self._first.wait()


@contextlib.contextmanager
def two_hosts(folder: Path, environment: Mapping[str, str]) -> Iterator[tuple[Host, Host]]:
    """Hosts ``first`` and ``second``, joined by a cable; both are gone afterwards.

    Args:
        folder: for the logs of their shells.
        environment: of their shells.
    """
    os.makedirs("/tmp/ray", exist_ok=True)  # under which each host mounts its own
    links = [f"kl{os.getpid()}{side}" for side in "ab"]
    with contextlib.ExitStack() as stack:
        hosts = []
        for name, address in zip(("first", "second"), ADDRESSES, strict=True):
            hosts.append(Host(name, address, folder, environment))
            stack.callback(hosts[-1].end)
        # The kernel takes both ends away with either host.
        subprocess.run(
            ["ip", "link", "add", links[0], "type", "veth", "peer", "name", links[1]], check=True
        )
        for host, link in zip(hosts, links, strict=True):
            host.connect(link)
        yield hosts[0], hosts[1]
