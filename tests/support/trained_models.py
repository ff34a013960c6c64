"""Configurations of published models, from their papers and weight files."""

from hwdse.workload.transformer.model_config import (
    LayerOverrides,
    Transformer,
    TransformerTraining,
)


def llama(layers, hidden, feedforward, heads, kv_heads, vocabulary):
    """Llama family: rotary positions, RMSNorm, gated MLP, no biases."""
    head_dim = hidden / heads
    return Transformer(
        layers, hidden, feedforward, heads, kv_heads, head_dim, vocabulary, 0.0, 3.0, 2.0, 1.0, 0.0
    )


def gpt(layers, hidden, feedforward, heads, head_dim, vocabulary=50257.0, positions=2048.0):
    """GPT family: learned positions, LayerNorm, MLP without gate, biases."""
    return Transformer(
        layers,
        hidden,
        feedforward,
        heads,
        heads,
        head_dim,
        vocabulary,
        positions,
        2.0,
        1.0,
        2.0,
        1.0,
    )


def training(model, seq_len=2048.0, attention_fraction=1.0):
    return TransformerTraining(model, seq_len, 64.0, attention_fraction, 4.0, 12.0)


LLAMA2_7B = llama(32.0, 4096.0, 11008.0, 32.0, 32.0, 32000.0)
LLAMA2_13B = llama(40.0, 5120.0, 13824.0, 40.0, 40.0, 32000.0)
LLAMA2_70B = llama(80.0, 8192.0, 28672.0, 64.0, 8.0, 32000.0)
LLAMA3_8B = llama(32.0, 4096.0, 14336.0, 32.0, 8.0, 128256.0)
LLAMA3_70B = llama(80.0, 8192.0, 28672.0, 64.0, 8.0, 128256.0)
LLAMA3_405B = llama(126.0, 16384.0, 53248.0, 128.0, 8.0, 128256.0)
GPT3_175B = gpt(96.0, 12288.0, 49152.0, 96.0, 128.0)
MODELS = {
    "llama2-7b": (LLAMA2_7B, 6_738_415_616),
    "llama2-13b": (LLAMA2_13B, 13_015_864_320),
    "llama2-70b": (LLAMA2_70B, 68_976_648_192),
    "llama3-8b": (LLAMA3_8B, 8_030_261_248),
    "llama3-70b": (LLAMA3_70B, 70_553_706_496),
    "llama3-405b": (LLAMA3_405B, 405_853_388_800),
}


LATENT = {
    "q_lora_rank": 1536.0,
    "kv_lora_rank": 512.0,
    "qk_nope_head_dim": 128.0,
    "qk_rope_head_dim": 64.0,
    "v_head_dim": 128.0,
}


def mixture(model, experts, chosen, feedforward, shared=0.0, dense=0.0, **fields):
    """Model with routed experts in all layers except the first `dense` ones."""
    return model.replace(
        num_experts=experts,
        experts_per_token=chosen,
        expert_feedforward=feedforward,
        num_shared_experts=shared,
        num_dense_layers=dense,
        **fields,
    )


MIXTRAL = mixture(llama(32.0, 4096.0, 14336.0, 32.0, 8.0, 32000.0), 8.0, 2.0, 14336.0)
DEEPSEEK_V2 = mixture(
    llama(60.0, 5120.0, 12288.0, 128.0, 128.0, 102400.0), 160.0, 6.0, 1536.0, 2.0, 1.0, **LATENT
)
DEEPSEEK_V3 = mixture(
    llama(61.0, 7168.0, 18432.0, 128.0, 128.0, 129280.0),
    *(256.0, 8.0, 2048.0, 1.0, 3.0),
    num_router_bias=1.0,
    **LATENT,
)
QWEN3 = mixture(
    llama(94.0, 4096.0, 12288.0, 64.0, 4.0, 151936.0).replace(head_dim=128.0),
    *(128.0, 8.0, 1536.0),
    num_head_norm_vectors=2.0,
)
MPT_7B = gpt(32.0, 4096.0, 16384.0, 32.0, 128.0, 50432.0, 0.0).replace(
    num_bias=0.0, num_norm_vectors=1.0
)
PALM = llama(118.0, 18432.0, 73728.0, 48.0, 1.0, 256000.0).replace(
    head_dim=256.0, num_embeddings=1.0, num_layer_norms=1.0
)
GPT_J = Transformer(
    *(28.0, 4096.0, 16384.0, 16.0, 16.0, 256.0, 50400.0, 0.0, 2.0, 2.0, 2.0, 0.0),
    num_layer_norms=1.0,
    num_mlp_bias=1.0,
    num_lm_head_bias=1.0,
)
QWEN25_7B = llama(28.0, 3584.0, 18944.0, 28.0, 4.0, 152064.0).replace(num_qkv_bias=1.0)
GEMMA3_27B = Transformer(
    *(62.0, 5376.0, 21504.0, 32.0, 16.0, 128.0, 262208.0, 0.0, 3.0, 1.0, 1.0, 0.0),
    num_layer_norms=4.0,
    num_head_norm_vectors=2.0,
    layers=(LayerOverrides(count=5.0, sliding_window=1024.0), LayerOverrides(count=1.0)),
)
QWEN3_30B = mixture(
    llama(48.0, 2048.0, 6144.0, 32.0, 4.0, 151936.0).replace(head_dim=128.0),
    *(128.0, 8.0, 768.0),
    num_head_norm_vectors=2.0,
)
MODELS |= {
    "gpt-j-6b": (GPT_J, 6_050_882_784),
    "qwen2.5-7b": (QWEN25_7B, 7_615_616_512),
    # 27,432,406,640 less a vision tower of 416,866,032 and a projector of 6,194,304.
    "gemma-3-27b": (GEMMA3_27B, 27_009_346_304),
    "qwen3-30b-a3b": (QWEN3_30B, 30_532_122_624),
    "mixtral-8x7b": (MIXTRAL, 46_702_792_704),
    "deepseek-v3": (DEEPSEEK_V3, 671_026_419_200),
    "qwen3-235b-a22b": (QWEN3, 235_093_634_560),
    "mpt-7b": (MPT_7B, 6_649_286_656),  # as released: no biases, no learned positions
}
