"""Models of transformers, tiny and random, all kinds of our tuners, and what their tests measure."""

import peft
import torch
import transformers as tf
from torch import nn

from curtensor.adapters import CURLoRAConfig, TCURLoRAConfig

# name: (configuration, its options, number of parameters trained for L weights (m, n))
KINDS = {
    "curlora": (CURLoRAConfig, {"r": 6}, lambda m, n, L: 36 * L),
    "curlora-raw": (
        CURLoRAConfig,
        {"r": 6, "basis": "raw", "method": "inverse_norm", "scale": 0.5},
        lambda m, n, L: 36 * L,
    ),
    "tcurlora": (TCURLoRAConfig, {"r": 6}, lambda m, n, L: 36 * L),
    "tcurlora-ranks": (TCURLoRAConfig, {"r": [7, 5, 2], "scale": 2.0}, lambda m, n, L: 70),
    "tcurlora-tubal": (TCURLoRAConfig, {"r": 4, "form": "tubal"}, lambda m, n, L: 16 * L),
    "tcurlora-factors": (
        TCURLoRAConfig,
        {"r": [7, 5, 2], "form": "mode_factors", "factor_rank": 3},
        lambda m, n, L: 2 * (3 * 7 + 3 * 5 + 2 * 2),
    ),
}


def config(kind, **options):
    """A configuration of a kind."""
    make, own, _ = KINDS[kind]
    return make(**own | options)


def adapted(kind, model, target_modules, **options):
    """A model with adapters of a kind, by PEFT."""
    return peft.get_peft_model(model, config(kind, target_modules=target_modules, **options))


def trained(model):
    """The parameters that are trained."""
    return [p for p in model.parameters() if p.requires_grad]


def shake(model, size=0.3, seed=3):
    """As if trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in trained(model):
            p.add_(size * torch.randn(p.shape, generator=generator).to(p.dtype))
    return model


def layers_of(model):
    """The layers with adapters."""
    return [module for module in model.modules() if hasattr(module, "deltas")]


def normal(shape, dtype=torch.float32, seed=0):
    """Seeded normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def seeded(make, seed=0):
    """A model with seeded weights; torch's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().eval()


def mlp(dtype=torch.float32, seed=0):
    """Three layers of one shape and a head."""
    sizes = [(20, 20)] * 3 + [(20, 3)]

    def make():
        return nn.Sequential(*[layer for m, n in sizes for layer in (nn.Linear(m, n, dtype=dtype), nn.Tanh())][:-1])

    return seeded(make, seed)


SIZES = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "max_position_embeddings": 64, "pad_token_id": 0}  # fmt: skip
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
          "image_size": 16, "patch_size": 8}  # fmt: skip
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]


def ids():
    """Two sequences of ten tokens."""
    return torch.randint(3, 97, (2, 10), generator=torch.Generator().manual_seed(5))


def llama(**options):
    """Llama with grouped queries."""
    own = tf.LlamaConfig(**SIZES | options, num_key_value_heads=2, bos_token_id=1, eos_token_id=2)
    return tf.LlamaForCausalLM(own)


def gpt2():
    """GPT-2, whose weights lie in by out."""
    return tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=64))


def t5():
    """T5, an encoder and a decoder."""
    return tf.T5ForConditionalGeneration(
        tf.T5Config(vocab_size=97, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0)
    )


def vit():
    """A vision transformer."""
    return tf.ViTForImageClassification(tf.ViTConfig(**VISION, num_labels=5))


def clip():
    """CLIP's two towers."""
    text = {name: value for name, value in SIZES.items() if name != "pad_token_id"}
    return tf.CLIPModel(tf.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16))


def mixtral():
    """Mixtral, whose experts are parameters."""
    sizes = SIZES | {"intermediate_size": 48}
    return tf.MixtralForCausalLM(tf.MixtralConfig(**sizes, num_key_value_heads=2, num_local_experts=4))


def bert():
    """BERT with a classifier."""
    return tf.BertForSequenceClassification(tf.BertConfig(**SIZES))


def mamba():
    """Mamba, without attention."""
    return tf.MambaForCausalLM(tf.MambaConfig(vocab_size=97, hidden_size=32, state_size=4, num_hidden_layers=2))


# name: (model, inputs, options of the targets)
FAMILIES = {
    "llama": (llama, lambda: {"input_ids": ids()}, {"target_modules": ["q_proj", "k_proj", "down_proj"]}),
    "gpt2": (gpt2, lambda: {"input_ids": ids()}, {"target_modules": ["c_attn", "c_fc"]}),
    "t5": (t5, lambda: {"input_ids": ids(), "decoder_input_ids": ids()[:, :4]}, {"target_modules": ["q", "wo"]}),
    "vit": (vit, lambda: {"pixel_values": normal((2, 3, 16, 16))}, {"target_modules": "all-linear"}),
    "clip": (
        clip,
        lambda: {"input_ids": ids(), "pixel_values": normal((2, 3, 16, 16))},
        {"target_modules": ["q_proj", "fc1"]},
    ),
    "mixtral": (mixtral, lambda: {"input_ids": ids()}, {"target_modules": ["q_proj"], "target_parameters": EXPERTS}),
    "bert": (
        bert,
        lambda: {"input_ids": ids()},
        {"target_modules": ["query", "output.dense"], "modules_to_save": ["classifier"]},
    ),
    "mamba": (mamba, lambda: {"input_ids": ids()}, {"target_modules": ["in_proj", "x_proj"]}),
}


def output(model, inputs):
    """The logits of a model, or CLIP's."""
    with torch.no_grad():
        found = model(**inputs)
    return found.logits if hasattr(found, "logits") else found.logits_per_image
