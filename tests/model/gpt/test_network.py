"""The transformer: its cache changes nothing, and it is the architecture that it says it is."""

import pytest
import torch
from torch import Tensor

from model.gpt.config import CodecConfig, GptConfig
from model.gpt.network import CausalBlock, GptTransformer
from model.gpt.sequence import Layout, image_to_text, text_to_image
from model.layers import rotary_table

CODEC = CodecConfig(image_size=16, patch_size=4, levels=(4, 3))
CONFIG = GptConfig(CODEC, vocabulary=50, max_tokens=9, width=64, depth=3, heads=4)


@pytest.fixture(scope="module")
def network() -> GptTransformer:
    torch.manual_seed(0)
    network = GptTransformer(CONFIG).eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.15)
    return network


def codes() -> Tensor:
    return torch.randint(0, CODEC.values, (CODEC.places, CODEC.codes))


def test_the_block_is_that_of_qwen3() -> None:
    """Given the same weights, a public implementation computes the same (Qwen3 has qk-norm)."""
    configuration = pytest.importorskip("transformers.models.qwen3.configuration_qwen3")
    qwen = pytest.importorskip("transformers.models.qwen3.modeling_qwen3")
    width, heads, hidden, length = 64, 4, 192, 23
    config = configuration.Qwen3Config(
        hidden_size=width,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=width // heads,
        intermediate_size=hidden,
        num_hidden_layers=1,
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    theirs, ours = qwen.Qwen3DecoderLayer(config, 0), CausalBlock(width, heads)
    state = theirs.state_dict()
    for tensor in state.values():
        tensor.normal_(1.0 if tensor.ndim == 1 else 0.0, 0.15)
    ours.load_state_dict(
        {
            "attention_norm.gain": state["input_layernorm.weight"],
            "attention.qkv.weight": torch.cat(
                [state[f"self_attn.{one}_proj.weight"] for one in "qkv"]
            ),
            "attention.query_norm.gain": state["self_attn.q_norm.weight"],
            "attention.key_norm.gain": state["self_attn.k_norm.weight"],
            "attention.out.weight": state["self_attn.o_proj.weight"],
            "feed_forward_norm.gain": state["post_attention_layernorm.weight"],
            "feed_forward.gate_up.weight": torch.cat(
                [state["mlp.gate_proj.weight"], state["mlp.up_proj.weight"]]
            ),
            "feed_forward.down.weight": state["mlp.down_proj.weight"],
        }
    )
    x = torch.randn(2, length, width)
    positions = torch.arange(length)
    table = rotary_table(positions[:, None], width // heads)
    bias = torch.full((length, length), -30_000.0).triu(1)[None, None]
    with torch.no_grad():
        expected = theirs(
            x,
            attention_mask=bias,
            position_embeddings=qwen.Qwen3RotaryEmbedding(config)(x, positions[None]),
        )
        torch.testing.assert_close(ours(x, table[:, None, None], bias), expected, atol=1e-5, rtol=0)


def test_a_cache_changes_nothing(network: GptTransformer) -> None:
    """Fed in chunks and then one by one, among other slots, it computes what it does at once."""
    torch.manual_seed(1)
    one = text_to_image(network.layout, [5, 6, 7], codes(), 9)
    two = image_to_text(network.layout, [8, 9], codes(), 9)
    slots = {0: two, 2: one}
    whole = {slot: network(batch.ids, batch.first)[0] for slot, batch in slots.items()}
    length = one.ids.shape[1]
    cache = network.new_cache(3, length + 1)
    cached = {slot: torch.zeros(length, CONFIG.width) for slot in slots}
    first = torch.tensor([two.first.item(), 0, one.first.item()])
    for begin, end in [(0, 5), (5, 10), *((n, n + 1) for n in range(10, length))]:
        ids = torch.zeros(3, end - begin, network.layout.per_position, dtype=torch.long)
        positions = torch.full((3, end - begin), length)
        for slot, batch in slots.items():
            ids[slot] = batch.ids[0, begin:end]
            positions[slot] = torch.arange(begin, end)
        hidden = network.advance(ids, positions, first, cache)
        for slot in slots:
            cached[slot][begin:end] = hidden[slot]
    for slot, batch in slots.items():
        seen = slice(int(batch.first), length)
        torch.testing.assert_close(cached[slot][seen], whole[slot][seen], atol=1e-4, rtol=0)
        for head in (lambda x: network.code_head.logits(x, 0), network.text_head):
            torch.testing.assert_close(
                head(cached[slot][seen]), head(whole[slot][seen]), atol=1e-4, rtol=0
            )


def test_a_picture_without_a_prompt_is_the_same_in_both_orders(network: GptTransformer) -> None:
    """Guidance rests on it: the slot without a prompt was trained by the other order."""
    torch.manual_seed(2)
    one = codes()
    before = text_to_image(network.layout, [], one, 9)
    after = image_to_text(network.layout, [], one, 9)
    begin, places = int(before.image), CODEC.places
    left = network(before.ids, before.image)[0, begin : begin + places]
    right = network(after.ids, after.first)[0, :places]
    torch.testing.assert_close(left, right, atol=1e-4, rtol=0)


def test_nothing_sees_what_comes_later(network: GptTransformer) -> None:
    torch.manual_seed(3)
    batch = text_to_image(network.layout, [5, 6], codes(), 9)
    changed = batch.ids.clone()
    changed[0, 15:] = 1
    one, other = network(batch.ids, batch.first), network(changed, batch.first)
    seen = slice(int(batch.first), 15)
    assert torch.equal(one[0, seen], other[0, seen])
    assert not torch.equal(one[0, 15:], other[0, 15:])


def test_what_stands_at_each_position() -> None:
    layout = Layout(vocabulary=50, places=4, codes=2, values=12)
    picture = torch.tensor([[0, 1], [2, 3], [4, 5], [6, 7]])
    forward = text_to_image(layout, [5, 6, 7, 8], picture, 3)
    #  nothing before; the special token of text is 50, of the image 51; codes begin at 56 and at 68
    assert forward.ids[0].tolist() == [
        *([50, 0, 0], [5, 0, 0], [6, 0, 0], [7, 0, 0], [51, 0, 0]),
        *([52, 56, 69], [53, 58, 71], [54, 60, 73], [55, 62, 75]),
    ]
    assert (forward.first.item(), forward.image.item()) == (0, 4)
    assert text_to_image(layout, [5], picture, 3).ids[0, :5, 0].tolist() == [0, 0, 50, 5, 51]
    backward = image_to_text(layout, [5, 6], picture, 3)
    assert backward.ids[0, :, 0].tolist() == [51, 52, 53, 54, 55, 50, 5, 6, 0]
    assert backward.text.tolist() == [[5, 6, 0, -1]]
    assert image_to_text(layout, [5, 6, 7, 8], picture, 3).text.tolist() == [[5, 6, 7, -1]]
