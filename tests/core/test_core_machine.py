from wsi_kd.core import machine


def test_auto_asks_for_a_gpu_where_the_driver_shows_one(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "DEVICES", tmp_path)
    (tmp_path / "nvidiactl").touch()
    assert [machine.gpus_for(device) for device in ("auto", "cpu", "cuda", "cuda:1")] == [0, 0, 1, 1]
    (tmp_path / "nvidia0").touch()
    assert [machine.gpus_for(device) for device in ("auto", "cpu", "cuda")] == [1, 0, 1]


def groups_of(folder, *, own, quotas):
    """Draw a tree of control groups; `quotas` gives the content of files by path."""
    (folder / "own").write_text(own)
    for path, content in quotas.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return machine.cpu_quota(folder, folder / "own")


def test_the_quota_of_version_2_is_the_smallest_of_the_group_and_those_above(tmp_path):
    quotas = {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "250000 100000\n", "other/cpu.max": "100000 100000"}
    assert groups_of(tmp_path, own="0::/a/b\n", quotas=quotas) == 3  # 2.5 cores, rounded up
    assert groups_of(tmp_path, own="0::/a/b\n", quotas={"a/b/cpu.max": "50000 100000"}) == 1
    assert groups_of(tmp_path, own="0::/other/c\n", quotas={}) == 1
    assert groups_of(tmp_path, own="0::/\n", quotas={"cpu.max": "800000 200000"}) == 4


def test_the_quota_of_version_1_is_read_too(tmp_path):
    inside = "cpu,cpuacct/docker/x/cpu.cfs_{}_us"
    quotas = {inside.format("quota"): "200000\n", inside.format("period"): "100000\n"}
    own = "3:cpuset:/docker/x\n2:cpu,cpuacct:/docker/x\n0::/\n"
    assert groups_of(tmp_path, own=own, quotas=quotas) == 2
    assert groups_of(tmp_path, own=own, quotas={inside.format("quota"): "-1\n"}) == machine.NO_QUOTA


def test_no_control_groups_are_no_quota(tmp_path):
    assert machine.cpu_quota(tmp_path, tmp_path / "absent") == machine.NO_QUOTA
    odd = groups_of(tmp_path, own="0::/\n", quotas={"cpu.max": "nonsense"})
    assert odd == machine.NO_QUOTA


def test_affinity_quota_and_what_is_asked_for_bound_the_cores(monkeypatch):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(machine, "cpu_quota", lambda: 5)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert machine.usable_cpus() == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert machine.usable_cpus() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert machine.usable_cpus() == 5


def memory_of(folder, *, own, files, available_kib=None):
    """Draw a tree of control groups and what the machine says; `files` gives contents by path."""
    (folder / "own").write_text(own)
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    if available_kib is not None:
        (folder / "meminfo").write_text(
            f"MemTotal: 99999 kB\nMemAvailable:   {available_kib} kB\nHugePages: 0\n"
        )
    return machine.available_memory(folder, folder / "own", meminfo=folder / "meminfo")


def test_the_memory_left_is_the_least_of_the_machine_and_every_group(tmp_path):
    """Version 2: 1000 - (700 - 150 of files) in the group, 5000 - 4500 above it."""
    files = {
        "a/b/memory.max": "1000\n",
        "a/b/memory.current": "700\n",
        "a/b/memory.stat": "anon 500\nfile 200\ninactive_file 100\nactive_file 50\nshmem 50\n",
        "a/memory.max": "max\n",
        "a/memory.current": "900\n",
        "memory.max": "5000\n",
        "memory.current": "4500\n",
    }
    assert memory_of(tmp_path, own="0::/a/b\n", files=files) == 450
    assert memory_of(tmp_path, own="0::/a/c\n", files=files) == 500
    assert memory_of(tmp_path, own="0::/a/c\n", files=files, available_kib=20) == 500
    assert memory_of(tmp_path, own="0::/a/c\n", files={"memory.max": "max"}, available_kib=20) == 20 * 1024
    assert memory_of(tmp_path, own="0::/a/b\n", files={"a/b/memory.current": "1400"}) == 0


def test_the_memory_of_version_1_groups_is_read_too(tmp_path):
    inside = "memory/docker/x/memory."
    files = {
        f"{inside}limit_in_bytes": "3000",
        f"{inside}usage_in_bytes": "2500",
        f"{inside}stat": "active_file 1\ninactive_file 2\ntotal_active_file 100\ntotal_inactive_file 200\n",
        "cpu/docker/x/memory.limit_in_bytes": "5",
        "cpu/docker/x/memory.usage_in_bytes": "1",
    }
    own = "3:cpuset:/docker/x\n2:memory:/docker/x\n1:cpu:/docker/x\n0::/\n"
    assert memory_of(tmp_path, own=own, files=files) == 800


def test_where_nothing_is_told_memory_has_no_bound(tmp_path):
    assert memory_of(tmp_path, own="", files={}) == machine.UNKNOWN_MEMORY
    assert 0 < machine.available_memory() < machine.UNKNOWN_MEMORY
