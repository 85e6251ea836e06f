#include "api/openai/logprobs.h"

#include <algorithm>
#include <string>

#include <fmt/format.h>

#include "api/token_logprob.h"
#include "base/utf8.h"

namespace hearth::api::openai {
namespace {

// Token text as an object key must stay unique, so that bytes which are no text are spelled out, as OpenAI does.
std::string spell(std::string const& bytes) {
    if (is_valid_utf8(bytes)) return bytes;
    std::string out = "bytes:";
    for (char const c : bytes) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    return out;
}

std::uint64_t code_points(std::string const& bytes) {
    return static_cast<std::uint64_t>(
        std::ranges::count_if(bytes, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

void write_top(JsonWriter& json, domain::SampledLogprob const& token) {
    json.begin_object();
    bool chosen = false;
    for (auto const& top : token.top) {
        json.key(spell(top.bytes)).number(finite_logprob(top.logprob));
        chosen = chosen || top.token == token.chosen.token;
    }
    if (!chosen) json.key(spell(token.chosen.bytes)).number(finite_logprob(token.chosen.logprob));
    json.end_object();
}

}  // namespace

void write_chat_logprobs(JsonWriter& json, std::span<domain::SampledLogprob const> tokens) {
    json.begin_object().key("content").begin_array();
    for (auto const& token : tokens) {
        json.begin_object();
        write_token_logprob(json, token.chosen);
        json.key("top_logprobs").begin_array();
        for (auto const& top : token.top) {
            json.begin_object();
            write_token_logprob(json, top);
            json.end_object();
        }
        json.end_array().end_object();
    }
    json.end_array().key("refusal").null().end_object();
}

void write_text_logprobs(JsonWriter& json, std::span<domain::SampledLogprob const> tokens, std::uint64_t& offset) {
    json.begin_object().key("tokens").begin_array();
    for (auto const& token : tokens) json.string(spell(token.chosen.bytes));
    json.end_array().key("token_logprobs").begin_array();
    for (auto const& token : tokens) json.number(finite_logprob(token.chosen.logprob));
    json.end_array().key("top_logprobs").begin_array();
    for (auto const& token : tokens) write_top(json, token);
    json.end_array().key("text_offset").begin_array();
    for (auto const& token : tokens) {
        json.number(offset);
        offset += code_points(token.chosen.bytes);
    }
    json.end_array().end_object();
}

}  // namespace hearth::api::openai
