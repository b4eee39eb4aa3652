"""Memory that is there, and pages of mapped files that are given back."""

import mmap
from pathlib import Path

import numpy as np
from datasets import Dataset, load_from_disk

from hf_mlalign.data import columns as memory
from hf_mlalign.data.columns import available_bytes, release_mapped


def resident(path) -> int:
    """Bytes of the mapped file that count as memory of this process."""
    total, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if "-" in first and not first.endswith(":"):
            ours = line.rstrip().endswith(str(path))
        elif ours and first == "Rss:":
            total += int(line.split()[1]) * 1024
    return total


def test_available_bytes(tmp_path, monkeypatch):
    assert 0 < available_bytes() < 2**50
    for name, text in {"memory.max": "5000", "memory.current": "4900", "memory.stat": "anon 900\nfile 4000"}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert available_bytes() == 4100  # 100 free, and 4,000 of files in the cache
    (tmp_path / "memory.max").write_text("max")
    assert available_bytes() > 5000
    (tmp_path / "memory").mkdir()
    for name, text in {"limit_in_bytes": "300", "usage_in_bytes": "250", "stat": "cache 1\ntotal_cache 40"}.items():
        (tmp_path / "memory" / f"memory.{name}").write_text(text)
    assert available_bytes() == 90


def test_pages_of_a_mapped_file_are_given_back_and_read_again(tmp_path):
    content = np.random.default_rng(0).integers(0, 256, 2**22, dtype=np.uint8).tobytes()
    for name in ("wanted", "other"):
        (tmp_path / name).write_bytes(content)
    with open(tmp_path / "wanted", "rb") as a, open(tmp_path / "other", "rb") as b:
        wanted = mmap.mmap(a.fileno(), 0, access=mmap.ACCESS_READ)
        other = mmap.mmap(b.fileno(), 0, access=mmap.ACCESS_READ)
        assert wanted[:] == other[:] == content
        assert min(resident(tmp_path / "wanted"), resident(tmp_path / "other")) == 2**22
        release_mapped([str(tmp_path / "wanted"), str(tmp_path / "missing")])
        assert resident(tmp_path / "wanted") == 0
        assert resident(tmp_path / "other") == 2**22
        assert wanted[:] == content


def test_a_written_mapping_keeps_what_was_written(tmp_path):
    (tmp_path / "private").write_bytes(b"a" * 8192)
    with open(tmp_path / "private", "rb") as handle:
        private = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY)
        private[0:3] = b"xyz"
        release_mapped([str(tmp_path / "private")])
        assert private[0:4] == b"xyza"


def test_a_dataset_on_disk_and_one_in_memory(tmp_path):
    rows = {"text": [f"row {i}" * 20 for i in range(20_000)]}
    in_memory = Dataset.from_dict(rows)
    in_memory.save_to_disk(tmp_path / "saved")
    mapped = load_from_disk(tmp_path / "saved")
    for ds in (in_memory, mapped):
        files = [file["filename"] for file in ds.cache_files]
        assert ds["text"][:] == rows["text"]
        release_mapped(files)
        assert sum(map(resident, files)) == 0
        assert ds["text"][:] == rows["text"]
