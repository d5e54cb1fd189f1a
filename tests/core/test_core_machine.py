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
