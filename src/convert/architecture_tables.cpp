// Names of tensors: left Hugging Face's, right the engine's, and the families that have them.
#include <algorithm>
#include <array>

#include "convert/architecture.h"

namespace hearth::convert {
namespace {

constexpr Families kLlama = only(Family::llama) | only(Family::mistral) | only(Family::mixtral);
constexpr Families kGemma = only(Family::gemma3);
constexpr Families kLfm2 = only(Family::lfm2);
constexpr Families kBert = only(Family::bert);
constexpr Families kQwenMoe = only(Family::qwen3moe);
constexpr Families kMixtral = only(Family::mixtral);
constexpr Families kUsual = kLlama | only(Family::qwen2) | only(Family::qwen3) | kQwenMoe | kGemma;
constexpr Families kDense = kUsual & ~(kQwenMoe | kMixtral);

constexpr auto kOuter = std::to_array<TensorName>({{"embed_tokens", "token_embd", kUsual | kLfm2},
                                                   {"norm", "output_norm", kUsual},
                                                   {"embedding_norm", "token_embd_norm", kLfm2},
                                                   {"lm_head", "output", kUsual | kLfm2},
                                                   {"embeddings.word_embeddings", "token_embd", kBert},
                                                   {"embeddings.position_embeddings", "position_embd", kBert},
                                                   {"embeddings.token_type_embeddings", "token_types", kBert},
                                                   {"embeddings.LayerNorm", "token_embd_norm", kBert}});

constexpr auto kInner = std::to_array<TensorName>({
    {"self_attn.q_proj", "attn_q", kUsual | kLfm2},
    {"self_attn.k_proj", "attn_k", kUsual | kLfm2},
    {"self_attn.v_proj", "attn_v", kUsual | kLfm2},
    {"self_attn.o_proj", "attn_output", kUsual},
    {"self_attn.q_norm", "attn_q_norm", kUsual},
    {"self_attn.k_norm", "attn_k_norm", kUsual},
    {"mlp.gate_proj", "ffn_gate", kDense},
    {"mlp.up_proj", "ffn_up", kDense},
    {"mlp.down_proj", "ffn_down", kDense},
    {"mlp.gate", "ffn_gate_inp", kQwenMoe},
    {"mlp.experts.gate_proj", "ffn_gate_exps", kQwenMoe},
    {"mlp.experts.up_proj", "ffn_up_exps", kQwenMoe},
    {"mlp.experts.down_proj", "ffn_down_exps", kQwenMoe},
    {"block_sparse_moe.gate", "ffn_gate_inp", kMixtral},
    {"block_sparse_moe.experts.w1", "ffn_gate_exps", kMixtral},
    {"block_sparse_moe.experts.w2", "ffn_down_exps", kMixtral},
    {"block_sparse_moe.experts.w3", "ffn_up_exps", kMixtral},
    {"input_layernorm", "attn_norm", kUsual},
    {"post_attention_layernorm", "ffn_norm", kUsual & ~kGemma},
    {"post_attention_layernorm", "post_attention_norm", kGemma},
    {"pre_feedforward_layernorm", "ffn_norm", kGemma},
    {"post_feedforward_layernorm", "post_ffw_norm", kGemma},
    {"self_attn.out_proj", "attn_output", kLfm2},
    {"self_attn.q_layernorm", "attn_q_norm", kLfm2},
    {"self_attn.k_layernorm", "attn_k_norm", kLfm2},
    {"conv.conv", "shortconv.conv", kLfm2},
    {"conv.in_proj", "shortconv.in_proj", kLfm2},
    {"conv.out_proj", "shortconv.out_proj", kLfm2},
    {"operator_norm", "attn_norm", kLfm2},
    {"ffn_norm", "ffn_norm", kLfm2},
    {"feed_forward.w1", "ffn_gate", kLfm2},
    {"feed_forward.w2", "ffn_down", kLfm2},
    {"feed_forward.w3", "ffn_up", kLfm2},
    {"attention.self.query", "attn_q", kBert},
    {"attention.self.key", "attn_k", kBert},
    {"attention.self.value", "attn_v", kBert},
    {"attention.output.dense", "attn_output", kBert},
    {"attention.output.LayerNorm", "attn_output_norm", kBert},
    {"intermediate.dense", "ffn_up", kBert},
    {"output.dense", "ffn_down", kBert},
    {"output.LayerNorm", "layer_output_norm", kBert},
});

constexpr std::array<std::string_view, 2> kLlamaNames{"LlamaForCausalLM", "LlamaModel"};
constexpr std::array<std::string_view, 1> kMistralNames{"MistralForCausalLM"};
constexpr std::array<std::string_view, 1> kMixtralNames{"MixtralForCausalLM"};
constexpr std::array<std::string_view, 2> kQwen2Names{"Qwen2ForCausalLM", "Qwen2Model"};
constexpr std::array<std::string_view, 1> kQwen3Names{"Qwen3ForCausalLM"};
constexpr std::array<std::string_view, 1> kQwen3MoeNames{"Qwen3MoeForCausalLM"};
constexpr std::array<std::string_view, 2> kGemma3Names{"Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"};
constexpr std::array<std::string_view, 1> kLfm2Names{"Lfm2ForCausalLM"};
constexpr std::array<std::string_view, 2> kBertNames{"BertModel", "BertForMaskedLM"};

constexpr std::array<std::string_view, 3> kDecoderSkipped{"vision_tower.", "vision_model.", "multi_modal_projector."};
constexpr std::array<std::string_view, 4> kBertSkipped{"embeddings.position_ids", "pooler.dense.", "cls.predictions",
                                                       "cls.seq_relationship"};

constexpr FamilyTable decoder(Family family, std::string_view gguf, std::span<std::string_view const> hf_names,
                              Defaults const& defaults) {
    return {.family = family,
            .gguf = gguf,
            .hf_names = hf_names,
            .layers = "layers.",
            .skipped = kDecoderSkipped,
            .defaults = defaults};
}

constexpr FamilyTable permuted(FamilyTable table) {
    table.permuted = true;
    return table;
}

constexpr FamilyTable mixture(FamilyTable table, std::string_view experts) {
    table.experts = experts;
    return table;
}

constexpr FamilyTable gemma3() {
    auto table =
        decoder(Family::gemma3, "gemma3", kGemma3Names,
                {.context = 131072, .heads = 8, .kv_heads = 4, .head_width = 256, .vocabulary = 262208, .theta = 1e6});
    table.norm_shift = 1;
    return table;
}

constexpr FamilyTable bert() {
    return {.family = Family::bert,
            .gguf = "bert",
            .hf_names = kBertNames,
            .layers = "encoder.layer.",
            .skipped = kBertSkipped,
            .defaults = {.context = 512, .epsilon = 1e-12}};
}

constexpr std::array<FamilyTable, 9> kFamilies{
    permuted(decoder(Family::llama, "llama", kLlamaNames, {.context = 2048})),
    permuted(decoder(Family::mistral, "llama", kMistralNames, {.context = 131072, .kv_heads = 8})),
    mixture(permuted(decoder(Family::mixtral, "llama", kMixtralNames,
                             {.context = 131072, .kv_heads = 8, .theta = 1e6, .epsilon = 1e-5})),
            "block_sparse_moe.experts."),
    decoder(Family::qwen2, "qwen2", kQwen2Names, {.context = 32768}),
    decoder(Family::qwen3, "qwen3", kQwen3Names, {.context = 32768, .head_width = 128}),
    mixture(decoder(Family::qwen3moe, "qwen3moe", kQwen3MoeNames, {.context = 32768}), "mlp.experts."),
    gemma3(),
    decoder(Family::lfm2, "lfm2", kLfm2Names, {.context = 128000, .theta = 1e6, .epsilon = 1e-5}),
    bert(),
};

}  // namespace

std::span<FamilyTable const> family_tables() { return kFamilies; }

std::string_view gguf_name(Family family, bool in_layer, std::string_view hf) {
    auto const names = in_layer ? std::span<TensorName const>(kInner) : std::span<TensorName const>(kOuter);
    auto const found = std::ranges::find_if(
        names, [&](TensorName const& name) { return name.hf == hf && (name.families & only(family)) != 0; });
    return found == names.end() ? std::string_view() : found->gguf;
}

}  // namespace hearth::convert
