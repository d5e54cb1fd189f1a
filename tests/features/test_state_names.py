"""Published weights under their authors' names: brought to timm's, they mean the same network."""

import re

import pytest
import torch
from random_encoders import published_state, random_network, small_row
from torch.nn import functional as F

from wsi_kd.core.errors import BadInput
from wsi_kd.features.known_network import enlarge_positions, load_known
from wsi_kd.features.state_names import timm_names
from wsi_kd.features.token_pooling import AttentionalPooler, BiasFreePooler, ClassAndMean

HF_OF_TIMM = (
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^blocks\.", "encoder.layer."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),
)
HF_VIT = ((r"\.norm1\.", ".layernorm_before."), (r"\.norm2\.", ".layernorm_after."))
HF_VIT_MLP = ((r"\.mlp\.fc1\.", ".intermediate.dense."), (r"\.mlp\.fc2\.", ".output.dense."))
HF_SWIGLU = ((r"\.mlp\.fc1\.", ".mlp.weights_in."), (r"\.mlp\.fc2\.", ".mlp.weights_out."))


def renamed(state, rules):
    named = {}
    for key, value in state.items():
        new = key
        for pattern, replacement in rules:
            new = re.sub(pattern, replacement, new)
        named[new] = value
    return named


def as_transformers(state, *rules):
    """The inverse of our conversion: q, k and v apart, the names of transformers."""
    named = {}
    for key, value in renamed(state, (*HF_OF_TIMM, *rules)).items():
        if ".attn.qkv." in key:
            for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                named[key.replace(".attn.qkv.", f".attention.attention.{part}.")] = piece.clone()
        else:
            named[key] = value
    for ours, theirs in (("cls_token", "cls_token"), ("pos_embed", "position_embeddings")):
        named[f"embeddings.{theirs}"] = named.pop(ours)
    return named


def same(first, second):
    assert sorted(first) == sorted(second)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_vit_of_transformers_becomes_timms():
    state = published_state(random_network(small_row("phikon")))
    theirs = as_transformers(state, *HF_VIT, *HF_VIT_MLP)
    assert "encoder.layer.1.attention.attention.key.bias" in theirs
    assert "encoder.layer.0.intermediate.dense.weight" in theirs
    pooler = {"pooler.dense.weight": torch.zeros(2, 2), "pooler.dense.bias": torch.zeros(2)}
    same(timm_names({**theirs, **pooler}), state)
    same(timm_names({f"vit.{key}": value for key, value in theirs.items()}), state)


def test_a_dinov2_of_transformers_becomes_timms():
    state = published_state(random_network(small_row("phikon_v2")))
    theirs = as_transformers(state)
    assert "encoder.layer.1.layer_scale2.lambda1" in theirs
    same(timm_names({**theirs, "embeddings.mask_token": torch.zeros(1, 48)}), state)


def test_names_of_timm_stay():
    state = published_state(random_network(small_row("uni2_h")))
    same(timm_names(state), state)


def test_swiglu_of_dinov2_is_renamed_without_registers_too():
    """Networks of the DINOv2 repository have registers or not; w12 is the gate and value, w3 the way out."""
    first, last = torch.ones(4, 2), torch.zeros(2, 2)
    theirs = {"blocks.0.mlp.w12.weight": first, "blocks.0.mlp.w3.weight": last, "pos_embed": first}
    same(
        timm_names(theirs),
        {"blocks.0.mlp.fc1.weight": first, "blocks.0.mlp.fc2.weight": last, "pos_embed": first},
    )


def test_a_projection_to_text_is_left_out_of_a_tower_by_itself():
    """CONCH's image tower saved alone keeps its projection, which comes after the features."""
    weights = {"trunk.norm.weight": torch.ones(2)}
    same(timm_names({**weights, "proj_contrast": torch.zeros(2, 2)}), weights)


def test_registers_without_positions_are_left_for_the_loader_to_name(tmp_path):
    row = small_row("hibou_b")
    state = dinov2_state(row)
    del state["pos_embed"]
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(BadInput, match=r"missing \(.*pos_embed"):
        load_known(row, random_network(row), tmp_path / "w.pt")


def dinov2_state(row, seed=3):
    """Random weights in the naming of the DINOv2 repository, positions of the class token included."""
    state = published_state(random_network(row, seed=seed))
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(1, 1, state["cls_token"].shape[-1], generator=generator)
    named = renamed(state, ((r"\.mlp\.fc1\.", ".mlp.w12."), (r"\.mlp\.fc2\.", ".mlp.w3.")))
    named["register_tokens"] = named.pop("reg_token")
    named["pos_embed"] = torch.cat([first, named["pos_embed"]], dim=1)
    return {**named, "mask_token": torch.zeros(1, 48)}


def dinov2_forward(state, pixels, *, heads):
    """DINOv2 with registers from its paper's formulas: positions first, then registers are inserted."""
    patches = F.conv2d(pixels, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=14)
    tokens = patches.flatten(2).transpose(1, 2)
    tokens = torch.cat([state["cls_token"].expand(len(pixels), -1, -1), tokens], dim=1) + state["pos_embed"]
    registers = state["register_tokens"].expand(len(pixels), -1, -1)
    x = torch.cat([tokens[:, :1], registers, tokens[:, 1:]], dim=1)
    width = x.shape[-1]
    for block in (f"blocks.{index}." for index in range(2)):
        weights = {key.removeprefix(block): value for key, value in state.items() if key.startswith(block)}
        y = F.layer_norm(x, (width,), weights["norm1.weight"], weights["norm1.bias"], 1e-6)
        y = F.linear(y, weights["attn.qkv.weight"], weights["attn.qkv.bias"])
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in y.chunk(3, dim=-1))
        attention = (q @ k.transpose(-1, -2) / (width / heads) ** 0.5).softmax(dim=-1)
        y = (attention @ v).transpose(1, 2).flatten(2)
        x = x + weights["ls1.gamma"] * F.linear(y, weights["attn.proj.weight"], weights["attn.proj.bias"])
        y = F.layer_norm(x, (width,), weights["norm2.weight"], weights["norm2.bias"], 1e-6)
        gate, value = F.linear(y, weights["mlp.w12.weight"], weights["mlp.w12.bias"]).chunk(2, dim=-1)
        y = F.linear(F.silu(gate) * value, weights["mlp.w3.weight"], weights["mlp.w3.bias"])
        x = x + weights["ls2.gamma"] * y
    return F.layer_norm(x, (width,), state["norm.weight"], state["norm.bias"], 1e-6)[:, 0]


def as_transformers_with_registers(state):
    """The same weights as histai/hibou-b names them."""
    plain = {key: value for key, value in state.items() if key not in {"mask_token", "register_tokens"}}
    timm_like = renamed(plain, ((r"\.mlp\.w12\.", ".mlp.fc1."), (r"\.mlp\.w3\.", ".mlp.fc2.")))
    named = as_transformers(timm_like, *HF_SWIGLU)
    return {**named, "embeddings.register_tokens": state["register_tokens"]}


@pytest.mark.parametrize("naming", [lambda state: state, as_transformers_with_registers])
def test_registers_and_positions_mean_what_dinov2_means(tmp_path, naming):
    """The class token's own position is a constant: it is folded into the token."""
    row = small_row("hibou_b")
    state = dinov2_state(row)
    torch.save(naming(state), tmp_path / "w.pt")
    network = random_network(row, seed=9)
    load_known(row, network, tmp_path / "w.pt")
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found, expected = network(pixels), dinov2_forward(state, pixels, heads=3)
    assert found.numpy() == pytest.approx(expected.numpy(), abs=1e-4)


def test_a_swin_of_old_timm_becomes_todays():
    """Old files downsample at the end of a stage and hold index tables; each stage keeps its weights."""
    state = published_state(random_network(small_row("ctranspath")))
    old = renamed(
        state, ((r"^layers\.(\d)\.downsample", lambda found: f"layers.{int(found[1]) - 1}.downsample"),)
    )
    assert "layers.0.downsample.reduction.weight" in old
    assert "layers.3.downsample.reduction.weight" not in old
    tables = {
        "layers.0.blocks.1.attn_mask": torch.zeros(2),
        "layers.0.blocks.0.attn.relative_position_index": 0,
    }
    same(timm_names({**old, **tables}), state)


def test_conchs_image_tower_is_taken_out_of_the_whole(tmp_path):
    row = small_row("conch")
    tower = random_network(row)
    whole = {f"visual.{key}": value for key, value in tower.state_dict().items()}
    rest = {
        "visual.proj_contrast": torch.zeros(32, 32),
        "visual.attn_pool_caption.query": torch.zeros(4, 8),
        "visual.ln_caption.weight": torch.zeros(8),
        "text.positional_embedding": torch.zeros(3, 3),
        "logit_scale": torch.zeros(()),
    }
    torch.save({**whole, **rest}, tmp_path / "w.bin")
    network = random_network(row, seed=8)
    load_known(row, network, tmp_path / "w.bin")
    pixels = torch.randn(1, 3, 448, 448, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(network(pixels), tower(pixels))


def test_a_file_that_lacks_a_part_of_attention_is_refused(tmp_path):
    theirs = as_transformers(published_state(random_network(small_row("phikon"))), *HF_VIT, *HF_VIT_MLP)
    del theirs["encoder.layer.1.attention.attention.value.bias"]
    torch.save(theirs, tmp_path / "w.bin")
    with pytest.raises(BadInput, match=r"1 missing \(blocks\.1\.attn\.qkv\.bias\)"):
        load_known(small_row("phikon"), random_network(small_row("phikon")), tmp_path / "w.bin")


def attention_by_hand(query, keys, values, *, heads):
    """softmax(q k / sqrt(d)) v, one head after the other."""
    pooled = []
    for q, k, v in zip(query.chunk(heads, -1), keys.chunk(heads, -1), values.chunk(heads, -1), strict=True):
        weights = (k @ q / q.shape[-1] ** 0.5).softmax(dim=-1)
        pooled.append((weights[..., None] * v).sum(dim=-2))
    return torch.cat(pooled, dim=-1)


@pytest.fixture
def tokens():
    return torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(0))


def filled(module):
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module.eval()


def test_the_attentional_pooler_attends_once(tokens):
    pooler = filled(AttentionalPooler(width=12, features=8, heads=2))
    attn = pooler.attn
    biases = attn.in_proj_bias.chunk(3)
    seen = pooler.ln_k(tokens)
    query = F.linear(pooler.ln_q(pooler.query[0]), attn.q_proj_weight, biases[0])
    keys, values = (
        F.linear(seen, attn.k_proj_weight, biases[1]),
        F.linear(seen, attn.v_proj_weight, biases[2]),
    )
    expected = attn.out_proj(attention_by_hand(query, keys, values, heads=2))
    with torch.inference_mode():
        assert pooler(tokens).numpy() == pytest.approx(expected.detach().numpy(), abs=1e-4)


def test_the_pooler_without_bias_attends_once(tokens):
    pooler = filled(BiasFreePooler(width=12, features=8, heads=2))
    keys, values = pooler.to_kv(pooler.ln_k(tokens)).chunk(2, dim=-1)
    query = pooler.to_q(pooler.ln_q(pooler.query[0]))
    expected = pooler.to_out(attention_by_hand(query, keys, values, heads=2))
    with torch.inference_mode():
        assert pooler(tokens).numpy() == pytest.approx(expected.detach().numpy(), abs=1e-4)
    assert not [name for name, _ in pooler.named_parameters() if name.startswith("to_") and "bias" in name]


@pytest.mark.parametrize("pooler", [AttentionalPooler, BiasFreePooler])
def test_poolers_do_not_ask_for_the_order_of_tokens(tokens, pooler):
    found = filled(pooler(width=12, features=8, heads=4))
    order = torch.tensor([4, 2, 0, 6, 1, 5, 3])
    with torch.inference_mode():
        assert found(tokens[:, order]).numpy() == pytest.approx(found(tokens).numpy(), abs=1e-5)


def test_class_and_mean_by_hand():
    """Tokens 1, 10, 20 | 2, 4 with three before the patches: class 1, mean 3; the registers enter neither."""

    class Trunk(torch.nn.Module):
        def forward(self, pixels):
            return torch.tensor([[[1.0], [10.0], [20.0], [2.0], [4.0]]]).expand(len(pixels), 5, 1)

    pooled = ClassAndMean(Trunk(), prefix_tokens=3)(torch.zeros(2, 3, 4, 4))
    assert pooled.tolist() == [[1.0, 3.0], [1.0, 3.0]]


def test_positions_are_resized_as_dino_does():
    """New position j looks at (j + 0.5) m / (n + 0.1) - 0.5 of the old m; a plain resize divides by n.

    On a ramp the two differ by (j + 0.5) m (1 / (n + 0.1) - 1 / n): 0.036 at j = 20, about what cubic
    interpolation itself adds or takes, so that the difference is compared.
    """
    ramp = torch.arange(14.0).repeat(14, 1).reshape(1, 196, 1)
    positions = torch.cat([torch.full((1, 1, 1), 99.0), ramp], dim=1)
    found = enlarge_positions(positions, grid=28)
    assert found.shape == (1, 785, 1)
    assert float(found[0, 0, 0]) == 99.0
    row = found[0, 1:, 0].reshape(28, 28)[5]
    plain = F.interpolate(ramp.reshape(1, 1, 14, 14), size=(28, 28), mode="bicubic")[0, 0, 5]
    expected = [(j + 0.5) * 14 * (1 / 28.1 - 1 / 28) for j in range(6, 22)]
    assert (row - plain)[6:22].tolist() == pytest.approx(expected, abs=0.01)
    assert row[6:22].tolist() == pytest.approx([(j + 0.5) * 14 / 28.1 - 0.5 for j in range(6, 22)], abs=0.06)
    assert enlarge_positions(positions, grid=14) is positions


def test_conch_v1_5_enlarges_the_positions_of_its_file(tmp_path):
    """Published for 224 px, fed 448: the file's 14 x 14 positions become 28 x 28 once, when it is loaded."""
    row = small_row("conch_v1_5")
    network = random_network(row)
    state = network.state_dict()
    small = torch.randn(1, 197, 48, generator=torch.Generator().manual_seed(2))
    torch.save({**state, "trunk.pos_embed": small}, tmp_path / "w.bin")
    load_known(row, network, tmp_path / "w.bin")
    assert torch.equal(network.state_dict()["trunk.pos_embed"], enlarge_positions(small, grid=28))
