import json

import pytest
import torch
from safetensors.torch import save_file

from skxlmr.checkpoints import normalize_names, read_config, read_tensors
from skxlmr.utils._errors import CheckpointError
from tests.checkpoints.conftest import assert_same


def write_shards(folder, tensors, kind="safetensors"):
    """Distribute tensors over two shards, with the first tensor alone in the second shard."""
    stem, write = {"safetensors": ("model", save_file), "bin": ("pytorch_model", torch.save)}[kind]
    shards = [f"{stem}-0000{i}-of-00002.{kind}" for i in (1, 2)]
    first = next(iter(tensors))
    places = {name: shards[name == first] for name in tensors}
    for shard in shards:
        write({name: tensors[name] for name in tensors if places[name] == shard}, folder / shard)
    (folder / f"{stem}.{kind}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return shards


@pytest.fixture
def sharded(tmp_path, tensors):
    return tmp_path, write_shards(tmp_path, tensors)


def change_index(folder, weight_map):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_config(folder):
    assert read_config(folder) == {"model_type": "xlm-roberta"}
    assert read_config(str(folder)) == {"model_type": "xlm-roberta"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not valid JSON"),
        (b'{"hidden_size": 48', "is not valid JSON"),
        (b"\xff\xfe{}", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b"[1]", "expected a JSON object, found list"),
    ],
)
def test_broken_config(folder, content, message):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"config\.json: {message}"):
        read_config(folder)


def test_missing_config(tmp_path):
    with pytest.raises(CheckpointError, match=r"config\.json: no such file"):
        read_config(tmp_path)
    with pytest.raises(CheckpointError, match=r"config\.json: no such folder"):
        read_config(tmp_path / "absent")
    (tmp_path / "config.json").mkdir()
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read"):
        read_config(tmp_path)


def test_safetensors_come_before_bin(folder, tensors):
    torch.save({"other": torch.ones(1)}, folder / "pytorch_model.bin")
    assert_same(read_tensors(folder), tensors)
    (folder / "model.safetensors").unlink()
    assert_same(read_tensors(str(folder)), {"other": torch.ones(1)})


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards(kind, tmp_path, tensors):
    write_shards(tmp_path, tensors, kind)
    assert_same(read_tensors(tmp_path), tensors)


def test_missing_shard(sharded):
    folder, shards = sharded
    (folder / shards[0]).unlink()
    with pytest.raises(CheckpointError, match=rf"index\.json: 1 of 2 shards missing from the folder: {shards[0]}"):
        read_tensors(folder)


def test_broken_shard(sharded):
    folder, shards = sharded
    (folder / shards[0]).write_bytes(b"hello world")
    with pytest.raises(CheckpointError, match=rf"{shards[0]}: is not a whole safetensors file"):
        read_tensors(folder)


def test_tensor_that_is_not_in_its_shard(sharded, tensors):
    folder, shards = sharded
    change_index(folder, {**dict.fromkeys(tensors, shards[0])})
    with pytest.raises(CheckpointError, match=rf"{shards[0]}: tensor {next(iter(tensors))} is not in this shard"):
        read_tensors(folder)


@pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/passwd", "a/b", "a\\b", "..", ".", "", 3, None])
def test_shards_never_leave_the_folder(sharded, shard):
    folder, _ = sharded
    change_index(folder, {"weight": shard})
    with pytest.raises(CheckpointError, match="shard of tensor 'weight' must be a file of the same folder"):
        read_tensors(folder)


def test_a_name_that_is_too_long_for_a_file(sharded):
    change_index(sharded[0], {"weight": "a" * 5000})
    with pytest.raises(CheckpointError, match="must be a file of the same folder"):
        read_tensors(sharded[0])


def in_hub_cache(folder, root):
    """The folder as in the hub's cache: a snapshot of links to files elsewhere."""
    blobs, snapshot = root / "models--a--b" / "blobs", root / "models--a--b" / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for i, file in enumerate(sorted(folder.iterdir())):
        file.rename(blobs / f"{i:064x}")
        (snapshot / file.name).symlink_to(f"../../blobs/{i:064x}")
    return snapshot


def test_links_of_the_hubs_cache(tmp_path, tensors):
    folder = tmp_path / "folder"
    folder.mkdir()
    write_shards(folder, tensors)
    snapshot = in_hub_cache(folder, tmp_path / "hub")
    assert_same(read_tensors(snapshot), tensors)
    (tmp_path / "link").symlink_to(snapshot)
    assert_same(read_tensors(tmp_path / "link"), tensors)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(snapshot)
        assert_same(read_tensors("."), tensors)


def test_a_single_file_may_be_a_link(folder, tmp_path, tensors):
    (folder / "model.safetensors").rename(tmp_path / "elsewhere")
    (folder / "model.safetensors").symlink_to(tmp_path / "elsewhere")  # put there by the user, not named by a file
    assert_same(read_tensors(folder), tensors)


def test_shards_that_link_to_another_folder(sharded, tmp_path_factory):
    folder, shards = sharded
    outside = tmp_path_factory.mktemp("outside") / "secret"
    (folder / shards[1]).rename(outside)
    (folder / shards[1]).symlink_to(outside)
    with pytest.raises(CheckpointError, match=rf"{shards[1]}: links to a file outside the folder"):
        read_tensors(folder)


def test_shards_that_are_devices(sharded):
    folder, shards = sharded
    (folder / shards[1]).unlink()
    (folder / shards[1]).symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match=f"1 of 2 shards missing from the folder: {shards[1]}"):
        read_tensors(folder)


def test_tensors_that_the_index_does_not_name(sharded, tensors):
    folder, shards = sharded
    places = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    left_out = list(places)[1]
    change_index(folder, {name: shard for name, shard in places.items() if name != left_out})
    with pytest.raises(CheckpointError, match=rf"{shards[0]}: holds tensor {left_out}, which .* does not place"):
        read_tensors(folder)


def test_a_tensor_in_two_shards(sharded, tensors):
    folder, shards = sharded
    save_file(tensors, folder / shards[0])
    with pytest.raises(
        CheckpointError, match=rf"{shards[0]}: holds tensor {next(iter(tensors))}, which .* does not place"
    ):
        read_tensors(folder)


def test_an_index_that_contradicts_itself(sharded):
    folder, shards = sharded
    text = f'{{"weight_map": {{"a": "{shards[0]}", "a": "{shards[1]}"}}}}'
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match="two entries of the same name"):
        read_tensors(folder)


@pytest.mark.parametrize("weight_map", [None, {}, [], "x"])
def test_index_without_a_map(sharded, weight_map):
    folder, _ = sharded
    change_index(folder, weight_map)
    with pytest.raises(CheckpointError, match=r"index\.json: expected an object \"weight_map\""):
        read_tensors(folder)


def test_no_weights(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no weights: expected model\.safetensors or .*, found nothing"):
        read_tensors(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(CheckpointError, match=r"found notes\.txt"):
        read_tensors(tmp_path)
    with pytest.raises(CheckpointError, match="no such folder"):
        read_tensors(tmp_path / "absent")


def test_git_lfs_pointer(folder):
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 3\n")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: is a Git LFS pointer.*git lfs pull"):
        read_tensors(folder)


@pytest.mark.parametrize("part", ["bin", "tf", "flax"])
@pytest.mark.parametrize("name", ["base", "mlm", "seqcls", "tokcls", "qa", "mc", "clm"])
def test_published_formats_agree(shared_data, name, part):
    folder = shared_data / "checkpoints" / name
    mapped = normalize_names(read_tensors(folder))
    assert len(mapped) >= 53
    assert_same(normalize_names(read_tensors(folder / part)), mapped)
