from wsi_kd.core import machine


def test_auto_asks_for_a_gpu_where_the_driver_shows_one(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "DEVICES", tmp_path)
    (tmp_path / "nvidiactl").touch()
    assert [machine.gpus_for(device) for device in ("auto", "cpu", "cuda", "cuda:1")] == [0, 0, 1, 1]
    (tmp_path / "nvidia0").touch()
    assert [machine.gpus_for(device) for device in ("auto", "cpu", "cuda")] == [1, 0, 1]
