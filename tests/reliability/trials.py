"""Everything that is tried on one command: kills, signals, full and read-only disks, two processes at once.

python -m tests.reliability.trials <command> <folder with the inputs> <most steps> <seed> [kind …]

After each fault the command is run again, and what it leaves is compared with that of an undisturbed run. Prints one
JSON object: kind → {"tried", "hit", "faults"}, and "steps", how many there are.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from hf_mlalign.hub.run_record import PREVIOUS, read_record
from tests.hub_server import HubServer
from tests.reliability.commands import (
    AT_ONCE,
    CHAT,
    HUB,
    arguments,
    asked_again,
    differences,
    environment,
    result,
    served,
    url_of,
)
from tests.reliability.forks import NONE, Attempt, Fault, Outcome, load_everything
from tests.servers import ChatServer

INTERRUPTED, TERMINATED = 130, 143
BUSY = "another process is writing to"


@dataclass
class Tally:
    """How many faults of a kind were tried, how many hit, and what went wrong then, one sentence each."""

    tried: int = 0
    hit: int = 0
    faults: list[str] = field(default_factory=list)


class Trial:
    """One command, its inputs, and the server it talks to."""

    def __init__(self, name: str, inputs: Path, server: ChatServer | HubServer | None, most: int, seed: int):
        self.name, self.inputs, self.server, self.most = name, inputs, server, most
        self.random = random.Random(seed)
        self.tally = Tally()
        folder = self.fresh()
        done = self.run(folder)
        assert done.code == 0, done.log
        self.steps, self.wanted = done.steps, self.found(folder)
        for module in done.modules:
            with suppress(ImportError):
                importlib.import_module(module)
        shutil.rmtree(folder)

    # --- the attempts

    def fresh(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="attempt-", dir=self.inputs))
        (folder / "run" / "tmp").mkdir(parents=True)
        for path in self.inputs.iterdir():
            if not path.name.startswith("attempt-"):
                (folder / path.name).symlink_to(path)
        if self.name in HUB:
            self.server.repos.clear()
            self.server.objects.clear()
        return folder

    def start(
        self, folder: Path, fault: Fault = NONE, output: str = "run/out", more: Sequence[str] = ()
    ) -> Attempt:
        return Attempt(folder, [*arguments(self.name, url_of(self.server), output), *more], fault)

    def run(self, folder: Path, fault: Fault = NONE) -> Outcome:
        return self.start(folder, fault).wait()

    def found(self, folder: Path, output: str = "run/out") -> dict:
        if self.name not in HUB:
            return result(folder / output)
        repo = self.server.repos.get(("dataset", "me/set"))
        return {} if repo is None else {"private": repo.private, "commits": len(repo.commits),
                                        **self.server.files("dataset", "me/set")}  # fmt: skip

    def points(self, most: int) -> list[int]:
        """All steps, or the first, the last and a seeded choice between."""
        if self.steps <= most:
            return list(range(self.steps))
        return sorted({0, self.steps - 1, *self.random.sample(range(1, self.steps - 1), most - 2)})

    def sizes(self, most: int) -> list[int]:
        """File sizes: nothing at all, the middle of what the command writes, and one byte before its end."""
        sizes = {len(data) for data in self.wanted.values() if isinstance(data, bytes)}
        wanted = sorted({0, 1, *(size // 2 for size in sizes), *(size - 1 for size in sizes)})
        return wanted[:: max(1, -(-len(wanted) // most))]

    # --- what must hold

    def wrong(self, what: str) -> None:
        self.tally.faults.append(what)

    def disturbed(self, where: str, fault: Fault, check: Callable[[Outcome], str | None]) -> None:
        """An attempt with a fault, and one without, which must end with the wanted result."""
        folder, begin = self.fresh(), self.asked()
        outcome = self.run(folder, fault)
        self.tally.tried += 1
        self.tally.hit += outcome.code != 0
        if outcome.code and (complaint := check(outcome)):
            self.wrong(f"{where}: {complaint}")
        self.again(where, folder, begin)
        shutil.rmtree(folder)

    def again(self, where: str, folder: Path, begin: int) -> None:
        while self.name in CHAT and self.server._under_way:
            time.sleep(0.005)
        self.check_half_done(where, folder)
        done = self.run(folder)
        if done.code:
            self.wrong(f"{where}: the rerun ended with {done.code}: {done.log[-600:]}")
        elif different := differences(self.found(folder), self.wanted):
            self.wrong(f"{where}: different after the rerun: {different}")
        if self.name in CHAT and (twice := asked_again(self.server.bodies[begin:])) > AT_ONCE:
            self.wrong(f"{where}: {twice} requests were sent twice, {AT_ONCE} can be under way")
        if self.name in HUB and (twice := self.server.objects.again):
            self.wrong(f"{where}: {len(twice)} files that had arrived were sent again")

    def check_half_done(self, where: str, folder: Path) -> None:
        found = self.found(folder)
        if self.name in HUB:
            if set(found) - {"private", "commits"} and differences(found, self.wanted):
                self.wrong(f"{where}: half of it is visible: {sorted(found)}")
        elif found.get("run.json", {}).get("state") == "finished" and (lost := set(self.wanted) - set(found)):
            self.wrong(f"{where}: says it is finished, but lacks {sorted(lost)}")

    def asked(self) -> int:
        return len(self.server.bodies) if self.name in CHAT else 0

    # --- the faults

    def killed(self) -> None:
        """SIGKILL before a step."""
        for step in self.points(self.most):
            self.disturbed(f"step {step}", Fault(step), partial(_ended_with, -signal.SIGKILL))

    def overwritten(self) -> None:
        """SIGKILL before a step of a run that replaces a finished one, whose result is there until the new one is."""
        if self.name not in OVERWRITING:
            return
        done = self.fresh()
        assert self.run(done).code == 0
        folder = self.finished(done)
        steps = self.start(folder, more=["--overwrite"]).wait().steps
        shutil.rmtree(folder)
        for step in sorted(self.random.sample(range(steps), max(6, self.most // 2))):
            folder, where = self.finished(done), f"--overwrite, step {step}"
            outcome = self.start(folder, Fault(step), more=["--overwrite"]).wait()
            self.tally.tried += 1
            self.tally.hit += outcome.code == -signal.SIGKILL
            out = folder / "run" / "out"
            records = [read_record(place) for place in (out, out / PREVIOUS)]
            if not any(record is not None and record.state == "finished" for record in records):
                self.wrong(f"{where}: neither the old result is there nor the new one")
            again = self.start(folder, more=["--overwrite"]).wait()
            if again.code or (different := differences(self.found(folder), self.wanted)):
                self.wrong(f"{where}: code {again.code}, {again.log[-500:] if again.code else different}")
            shutil.rmtree(folder)
        shutil.rmtree(done)

    def finished(self, done: Path) -> Path:
        folder = self.fresh()
        shutil.copytree(done / "run", folder / "run", dirs_exist_ok=True)
        return folder

    def torn(self) -> None:
        """Killed in the middle of a write."""
        for size in () if self.name in HUB else self.sizes(max(3, self.most // 6)):
            self.disturbed(f"size {size}", Fault(size=size), partial(_ended_with, -signal.SIGXFSZ))

    def interrupted(self) -> None:
        """Ctrl-C before a step, once, or again and again; and SIGTERM."""
        kinds = [(signal.SIGINT, False), (signal.SIGINT, True), (signal.SIGTERM, False)]
        for step, (number, often) in zip(self.points(max(6, self.most // 3)), kinds * self.most, strict=False):
            code = TERMINATED if number == signal.SIGTERM else INTERRUPTED

            def check(done: Outcome, code: int = code, often: bool = often, number: int = number) -> str | None:
                if done.code != code and not (often and done.code == -number):
                    return f"code {done.code} after signal {number}: {done.log[-500:]}"
                if "Traceback" in done.log or (not often and "Interrupted." not in done.log):
                    return f"no clean message: {done.log[-800:]}"
                return None

            self.disturbed(f"step {step}, signal {number}{' often' * often}", Fault(step, number, often), check)

    def limited(self) -> None:
        """A limit on file sizes."""
        for size in () if self.name in HUB else self.sizes(max(3, self.most // 8)):
            self.disturbed(f"limit {size}", Fault(size=size, kills=False), self.told)

    def full(self) -> None:
        """A small disk that is full; the rerun finds more space."""
        total = sum(len(data) if isinstance(data, bytes) else 4096 for data in self.wanted.values())
        for part in (0.1, 0.5, 0.9, 1.2):
            folder, begin = self.fresh(), self.asked()
            with mounted(folder / "run", f"size={max(8192, int(part * total))}"):
                (folder / "run" / "tmp").mkdir()
                outcome = self.run(folder)
                self.tally.tried += 1
                self.tally.hit += outcome.code != 0
                if outcome.code and (complaint := self.told(outcome)):
                    self.wrong(f"disk of {part} of the result: {complaint}")
                _mount("-o", "remount,size=1g", str(folder / "run"))
                self.again(f"disk of {part} of the result", folder, begin)
            shutil.rmtree(folder)

    def told(self, outcome: Outcome) -> str | None:
        """What is missing in the message about a full disk."""
        named = str(self.inputs) in outcome.log or "run/" in outcome.log
        remedy = "Free some space" in outcome.log or "free some space" in outcome.log
        if outcome.code == 2 and named and remedy and "again" in outcome.log and "Traceback" not in outcome.log:
            return None
        return f"code {outcome.code}, said: {outcome.log[-1500:]}"

    def read_only(self) -> None:
        """An output on a read-only disk; refused before any work. A push writes nothing there and goes on."""
        folder, begin = self.fresh(), self.asked()
        (folder / "only").mkdir()
        with mounted(folder / "only", "size=1m,ro"):
            done = self.start(folder, output="only/out").wait()
        self.tally.tried += 1
        self.tally.hit += done.code != 0
        if self.name not in HUB:
            if done.code != 2 or "cannot write to 'only/out" not in done.log or "Traceback" in done.log:
                self.wrong(f"read-only: code {done.code}, said {done.log[-800:]}")
            if self.asked() > begin or (folder / "run" / "cache").exists():
                self.wrong("read-only: work had begun")
        elif done.code:
            self.wrong(f"read-only: code {done.code}, said {done.log[-800:]}")
        shutil.rmtree(folder)

    def together(self) -> None:
        """Two processes, started together: on one output, then on two with one cache."""
        for outputs in (("run/out", "run/out"), ("run/out", "run/other")):
            folder, begin = self.fresh(), self.asked()
            both = [self.start(folder, output=output) for output in outputs]
            done = [attempt.wait() for attempt in both]
            codes = sorted(one.code for one in done)
            self.tally.tried += 1
            self.tally.hit += codes != [0, 0]
            refused = [one for one in done if one.code]
            same = outputs[0] == outputs[1] or self.name in HUB
            if any(one.code != 2 or BUSY not in one.log for one in refused) or len(refused) > same:
                self.wrong(f"{outputs}: codes {codes}: {[one.log[-800:] for one in refused]}")
            for output in outputs:
                if different := differences(self.found(folder, output), self.wanted):
                    self.wrong(f"{output} of {outputs}: different: {different}")
            if self.name in CHAT and same and asked_again(self.server.bodies[begin:]):
                self.wrong(f"{outputs}: requests were sent twice")
            shutil.rmtree(folder)

    def waiting(self) -> None:
        """Ctrl-C while a server does not answer."""
        if self.name not in CHAT:
            return
        folder = self.fresh()
        with ChatServer(fault=lambda number, body: "hang") as server:
            attempt = Attempt(folder, arguments(self.name, server.base_url, "run/out"))
            while not server.requests:
                time.sleep(0.01)
            os.kill(attempt.pid, signal.SIGINT)
            begin = time.monotonic()
            done = attempt.wait()
        self.tally.tried += 1
        self.tally.hit += done.code == INTERRUPTED
        if done.code != INTERRUPTED or time.monotonic() - begin > 20 or "Interrupted." not in done.log:
            self.wrong(f"a server that hangs: code {done.code}, said {done.log[-500:]}")
        shutil.rmtree(folder)


def _ended_with(code: int, done: Outcome) -> str | None:
    return None if done.code == code else f"code {done.code}: {done.log[-500:]}"


KINDS = ("killed", "overwritten", "torn", "interrupted", "limited", "full", "read_only", "together", "waiting")
OVERWRITING = ("score", "judge", "curate", "build-pairs")
MOUNTED = ("full", "read_only")


class mounted:
    """A disk in memory at a folder, while the context lasts."""

    def __init__(self, folder: Path, options: str):
        self.folder, self.options = str(folder), options

    def __enter__(self) -> None:
        _mount("-t", "tmpfs", "-o", self.options, "tmpfs", self.folder)

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", self.folder], check=True)


def _mount(*options: str) -> None:
    subprocess.run(["mount", *options], check=True, capture_output=True)


def can_mount() -> bool:
    """Whether this user may mount a disk in memory."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with mounted(Path(folder), "size=64k"):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


def tried(name: str, inputs: Path, most: int, seed: int, kinds: Iterable[str] = KINDS) -> dict:
    """Try the kinds of faults on a command."""
    with served(name) as server:
        os.environ.update(environment(inputs, server))
        load_everything()
        trial = Trial(name, inputs, server, most, seed)
        found: dict = {"steps": trial.steps}
        for kind in kinds:
            trial.tally = Tally()
            getattr(trial, kind)()
            found[kind] = vars(trial.tally)
    return found


if __name__ == "__main__":
    chosen = [kind for kind in sys.argv[5:] or KINDS if kind not in MOUNTED or can_mount()]
    print(json.dumps(tried(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), chosen),
                     ensure_ascii=False))  # fmt: skip
