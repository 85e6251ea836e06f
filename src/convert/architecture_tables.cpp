// Names of tensors, family by family. Left Hugging Face's, right the engine's.
#include <array>

#include "convert/architecture.h"

namespace hearth::convert {
namespace {

constexpr std::array<NamePair, 3> kDecoderOuter{
    {{"embed_tokens", "token_embd"}, {"norm", "output_norm"}, {"lm_head", "output"}}};
constexpr std::array<NamePair, 3> kLfm2Outer{
    {{"embed_tokens", "token_embd"}, {"embedding_norm", "token_embd_norm"}, {"lm_head", "output"}}};

constexpr std::array<NamePair, 11> kDecoderInner{{{"self_attn.q_proj", "attn_q"},
                                                  {"self_attn.k_proj", "attn_k"},
                                                  {"self_attn.v_proj", "attn_v"},
                                                  {"self_attn.o_proj", "attn_output"},
                                                  {"self_attn.q_norm", "attn_q_norm"},
                                                  {"self_attn.k_norm", "attn_k_norm"},
                                                  {"mlp.gate_proj", "ffn_gate"},
                                                  {"mlp.up_proj", "ffn_up"},
                                                  {"mlp.down_proj", "ffn_down"},
                                                  {"input_layernorm", "attn_norm"},
                                                  {"post_attention_layernorm", "ffn_norm"}}};
constexpr std::array<NamePair, 12> kQwen3MoeInner{{{"self_attn.q_proj", "attn_q"},
                                                   {"self_attn.k_proj", "attn_k"},
                                                   {"self_attn.v_proj", "attn_v"},
                                                   {"self_attn.o_proj", "attn_output"},
                                                   {"self_attn.q_norm", "attn_q_norm"},
                                                   {"self_attn.k_norm", "attn_k_norm"},
                                                   {"mlp.gate", "ffn_gate_inp"},
                                                   {"mlp.experts.gate_proj", "ffn_gate_exps"},
                                                   {"mlp.experts.up_proj", "ffn_up_exps"},
                                                   {"mlp.experts.down_proj", "ffn_down_exps"},
                                                   {"input_layernorm", "attn_norm"},
                                                   {"post_attention_layernorm", "ffn_norm"}}};
constexpr std::array<NamePair, 13> kGemma3Inner{{{"self_attn.q_proj", "attn_q"},
                                                 {"self_attn.k_proj", "attn_k"},
                                                 {"self_attn.v_proj", "attn_v"},
                                                 {"self_attn.o_proj", "attn_output"},
                                                 {"self_attn.q_norm", "attn_q_norm"},
                                                 {"self_attn.k_norm", "attn_k_norm"},
                                                 {"mlp.gate_proj", "ffn_gate"},
                                                 {"mlp.up_proj", "ffn_up"},
                                                 {"mlp.down_proj", "ffn_down"},
                                                 {"input_layernorm", "attn_norm"},
                                                 {"post_attention_layernorm", "post_attention_norm"},
                                                 {"pre_feedforward_layernorm", "ffn_norm"},
                                                 {"post_feedforward_layernorm", "post_ffw_norm"}}};
constexpr std::array<NamePair, 14> kLfm2Inner{{{"self_attn.q_proj", "attn_q"},
                                               {"self_attn.k_proj", "attn_k"},
                                               {"self_attn.v_proj", "attn_v"},
                                               {"self_attn.out_proj", "attn_output"},
                                               {"self_attn.q_layernorm", "attn_q_norm"},
                                               {"self_attn.k_layernorm", "attn_k_norm"},
                                               {"conv.conv", "shortconv.conv"},
                                               {"conv.in_proj", "shortconv.in_proj"},
                                               {"conv.out_proj", "shortconv.out_proj"},
                                               {"operator_norm", "attn_norm"},
                                               {"ffn_norm", "ffn_norm"},
                                               {"feed_forward.w1", "ffn_gate"},
                                               {"feed_forward.w2", "ffn_down"},
                                               {"feed_forward.w3", "ffn_up"}}};
constexpr std::array<NamePair, 4> kBertOuter{{{"embeddings.word_embeddings", "token_embd"},
                                              {"embeddings.position_embeddings", "position_embd"},
                                              {"embeddings.token_type_embeddings", "token_types"},
                                              {"embeddings.LayerNorm", "token_embd_norm"}}};
constexpr std::array<NamePair, 8> kBertInner{{{"attention.self.query", "attn_q"},
                                              {"attention.self.key", "attn_k"},
                                              {"attention.self.value", "attn_v"},
                                              {"attention.output.dense", "attn_output"},
                                              {"attention.output.LayerNorm", "attn_output_norm"},
                                              {"intermediate.dense", "ffn_up"},
                                              {"output.dense", "ffn_down"},
                                              {"output.LayerNorm", "layer_output_norm"}}};

constexpr std::array<std::string_view, 3> kLlamaNames{"LlamaForCausalLM", "LlamaModel", "MistralForCausalLM"};
constexpr std::array<std::string_view, 2> kQwen2Names{"Qwen2ForCausalLM", "Qwen2Model"};
constexpr std::array<std::string_view, 1> kQwen3Names{"Qwen3ForCausalLM"};
constexpr std::array<std::string_view, 1> kQwen3MoeNames{"Qwen3MoeForCausalLM"};
constexpr std::array<std::string_view, 2> kGemma3Names{"Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"};
constexpr std::array<std::string_view, 1> kLfm2Names{"Lfm2ForCausalLM"};
constexpr std::array<std::string_view, 2> kBertNames{"BertModel", "BertForMaskedLM"};

constexpr std::array<std::string_view, 3> kDecoderSkipped{"vision_tower.", "vision_model.", "multi_modal_projector."};
constexpr std::array<std::string_view, 4> kBertSkipped{"embeddings.position_ids", "pooler.dense.", "cls.predictions",
                                                       "cls.seq_relationship"};

constexpr std::array<FamilyTable, 7> kFamilies{{
    {Family::llama, "llama", kLlamaNames, "layers.", kDecoderOuter, kDecoderInner, kDecoderSkipped, true, 0},
    {Family::qwen2, "qwen2", kQwen2Names, "layers.", kDecoderOuter, kDecoderInner, kDecoderSkipped, false, 0},
    {Family::qwen3, "qwen3", kQwen3Names, "layers.", kDecoderOuter, kDecoderInner, kDecoderSkipped, false, 0},
    {Family::qwen3moe, "qwen3moe", kQwen3MoeNames, "layers.", kDecoderOuter, kQwen3MoeInner, kDecoderSkipped, false, 0},
    {Family::gemma3, "gemma3", kGemma3Names, "layers.", kDecoderOuter, kGemma3Inner, kDecoderSkipped, false, 1},
    {Family::lfm2, "lfm2", kLfm2Names, "layers.", kLfm2Outer, kLfm2Inner, kDecoderSkipped, false, 0},
    {Family::bert, "bert", kBertNames, "encoder.layer.", kBertOuter, kBertInner, kBertSkipped, false, 0},
}};

}  // namespace

std::span<FamilyTable const> family_tables() { return kFamilies; }

}  // namespace hearth::convert
