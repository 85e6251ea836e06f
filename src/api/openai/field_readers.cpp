#include "api/openai/field_readers.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "api/openai/embeddings.h"
#include "api/openai/messages.h"

namespace hearth::api::openai {
namespace {

constexpr std::int64_t kTokensMax = 1 << 24;  // as domain::validate

bool is_number(JsonView value) { return value.kind() == JsonKind::integer || value.kind() == JsonKind::number; }

Verdict add_bias(std::int64_t token, std::string_view field, JsonView bias, Draft& draft) {
    domain::LogitBias entry{static_cast<domain::Token>(token), 0};
    bool const forbids = bias.kind() == JsonKind::boolean && !bias.as_boolean();  // llama-server's spelling
    if (forbids) entry.bias = -std::numeric_limits<float>::infinity();
    else if (auto problem = read_float(field, bias, entry.bias)) return problem;
    if (!forbids && (entry.bias < -100 || entry.bias > 100))
        return invalid_value("logit_bias",
                             fmt::format("'{}' must be between -100 and 100, got {}.", field, quote(bias)));
    draft.request.sampling.logit_bias.push_back(entry);
    return std::nullopt;
}

Verdict bad_token(std::string const& field, std::string const& got) {
    return invalid_value("logit_bias", fmt::format("'{}' must be a token id between 0 and {}, got {}.", field,
                                                   std::numeric_limits<domain::Token>::max(), got));
}

Verdict read_bias_map(JsonView value, Draft& draft) {
    Verdict verdict;
    value.for_each_member([&](std::string const& name, JsonView bias) {
        if (verdict) return;
        domain::Token token = -1;
        auto const [end, failed] = std::from_chars(name.data(), name.data() + name.size(), token);
        if (failed != std::errc{} || end != name.data() + name.size() || token < 0) {
            verdict = bad_token("logit_bias", fmt::format("'{}'", name.substr(0, 32)));
            return;
        }
        verdict = add_bias(token, fmt::format("logit_bias[\"{}\"]", name), bias, draft);
    });
    return verdict;
}

Verdict read_bias_list(JsonView value, Draft& draft) {
    for (std::size_t i = 0; i < value.size(); ++i) {
        auto const field = fmt::format("logit_bias[{}]", i);
        auto const pair = value.at(i);
        if (pair.kind() != JsonKind::array || pair.size() != 2)
            return invalid_value("logit_bias",
                                 fmt::format("'{}' must be [token id, bias], got {}.", field, quote(pair)));
        std::int64_t token = 0;
        if (pair.at(0).kind() != JsonKind::integer) return wrong_type(field + "[0]", "a token id", pair.at(0));
        if (auto problem = read_integer(field + "[0]", pair.at(0), 0, std::numeric_limits<domain::Token>::max(), token))
            return problem;
        if (auto problem = add_bias(token, field + "[1]", pair.at(1), draft)) return problem;
    }
    return std::nullopt;
}

Verdict read_count(Field const& field, JsonView value, std::int64_t high, std::optional<std::uint32_t>& out) {
    std::int64_t count = 0;
    if (auto problem = read_integer(field.name, value, 0, high, count)) return problem;
    out = static_cast<std::uint32_t>(count);
    return std::nullopt;
}

Verdict refuse_value(std::string_view field, JsonView value, std::string_view allowed) {
    return make_problem(Kind::unsupported_value,
                        fmt::format("'{}' supports {} only on this server, got {}.", field, allowed, quote(value)),
                        field);
}

}  // namespace

Verdict read_model(Field const& field, JsonView value, Draft& draft) {
    return read_string(field.name, value, draft.request.model);
}

Verdict read_messages_field(Field const&, JsonView value, Draft& draft) { return read_messages(value, draft); }

Verdict read_prompt_field(Field const&, JsonView value, Draft& draft) { return read_prompt(value, draft); }

Verdict read_input_field(Field const&, JsonView value, Draft& draft) { return read_inputs(value, draft); }

Verdict read_encoding_format(Field const& field, JsonView value, Draft& draft) {
    std::string format;
    if (auto problem = read_string(field.name, value, format)) return problem;
    if (format != "float" && format != "base64")
        return invalid_value(field.name,
                             fmt::format("'{}' must be 'float' or 'base64', got {}.", field.name, quote(value)));
    draft.vectors.base64 = format == "base64";
    return std::nullopt;
}

Verdict read_dimensions(Field const& field, JsonView value, Draft& draft) {
    std::int64_t dimensions = 0;
    if (auto problem = read_integer(field.name, value, 1, domain::kEmbeddingWidthMax, dimensions)) return problem;
    draft.vectors.dimensions = static_cast<std::uint32_t>(dimensions);
    return std::nullopt;
}

Verdict read_max_tokens(Field const& field, JsonView value, Draft& draft) {
    std::int64_t tokens = 0;
    if (is_number(value) && value.as_integer() == -1) {
        draft.request.max_tokens.reset();
        return std::nullopt;
    }
    if (auto problem = read_integer(field.name, value, 1, kTokensMax, tokens)) return problem;
    draft.request.max_tokens = static_cast<std::uint32_t>(tokens);
    return std::nullopt;
}

Verdict read_choices(Field const& field, JsonView value, Draft& draft) {
    std::int64_t choices = 0;
    if (auto problem = read_integer(field.name, value, 1, domain::kChoicesMax, choices)) return problem;
    draft.request.choices = static_cast<std::uint32_t>(choices);
    return std::nullopt;
}

Verdict read_best_of(Field const& field, JsonView value, Draft& draft) {
    std::int64_t best_of = 0;
    if (auto problem = read_integer(field.name, value, 1, domain::kChoicesMax, best_of)) return problem;
    draft.best_of = static_cast<std::uint32_t>(best_of);
    return std::nullopt;
}

Verdict read_stop(Field const& field, JsonView value, Draft& draft) {
    auto& stops = draft.request.stop;
    stops.clear();
    if (value.kind() == JsonKind::string) {
        stops.push_back(value.as_string());
        return std::nullopt;
    }
    if (value.kind() != JsonKind::array) return wrong_type(field.name, "a string or an array of strings", value);
    if (auto problem = read_array(field.name, value, domain::kStopStringsMax, "strings")) return problem;
    for (std::size_t i = 0; i < value.size(); ++i)
        if (auto problem = read_string(fmt::format("stop[{}]", i), value.at(i), stops.emplace_back())) return problem;
    return std::nullopt;
}

Verdict read_seed(Field const& field, JsonView value, Draft& draft) {
    std::int64_t seed = 0;
    if (auto problem = read_integer(field.name, value, std::numeric_limits<std::int64_t>::min(),
                                    std::numeric_limits<std::int64_t>::max(), seed))
        return problem;
    draft.request.sampling.seed.reset();
    if (seed != -1) draft.request.sampling.seed = static_cast<std::uint64_t>(seed);
    return std::nullopt;
}

Verdict read_logit_bias(Field const& field, JsonView value, Draft& draft) {
    draft.request.sampling.logit_bias.clear();
    if (value.kind() != JsonKind::object && value.kind() != JsonKind::array)
        return wrong_type(field.name, "an object", value);
    if (value.size() > domain::kLogitBiasMax)
        return invalid_value(field.name, fmt::format("'logit_bias' has {} entries, the limit is {}.", value.size(),
                                                     domain::kLogitBiasMax));
    return value.kind() == JsonKind::object ? read_bias_map(value, draft) : read_bias_list(value, draft);
}

Verdict read_logprobs(Field const& field, JsonView value, Draft& draft) {
    if (draft.surface == Surface::text)
        return read_count(field, value, domain::kLogprobsMax, draft.request.top_logprobs);
    bool wanted = false;
    if (auto problem = read_boolean(field.name, value, wanted)) return problem;
    draft.logprobs = wanted;
    return std::nullopt;
}

Verdict read_top_logprobs(Field const& field, JsonView value, Draft& draft) {
    return read_count(field, value, domain::kLogprobsMax, draft.request.top_logprobs);
}

Verdict read_repetition_penalty(Field const& field, JsonView value, Draft& draft) {
    draft.aliases.emplace_back("repeat_penalty", field.name);
    return read_float(field.name, value, draft.request.sampling.repeat_penalty);
}

Verdict read_dry_breakers(Field const& field, JsonView value, Draft& draft) {
    if (auto problem = read_array(field.name, value, domain::kDryBreakersMax, "strings")) return problem;
    auto& breakers = draft.request.sampling.dry_sequence_breakers;
    breakers.clear();
    for (std::size_t i = 0; i < value.size(); ++i)
        if (auto problem = read_string(fmt::format("{}[{}]", field.name, i), value.at(i), breakers.emplace_back()))
            return problem;
    return std::nullopt;
}

Verdict read_top_k(Field const& field, JsonView value, Draft& draft) {
    std::int64_t top_k = 0;
    if (auto problem = read_integer(field.name, value, -1, kTokensMax, top_k)) return problem;
    draft.request.sampling.top_k = top_k == -1 ? 0 : static_cast<std::int32_t>(top_k);
    return std::nullopt;
}

Verdict read_mirostat(Field const& field, JsonView value, Draft& draft) {
    std::int64_t version = 0;
    if (auto problem = read_integer(field.name, value, 0, 2, version)) return problem;
    draft.request.sampling.mirostat = static_cast<domain::Mirostat>(version);
    return std::nullopt;
}

Verdict read_stream_options(Field const& field, JsonView value, Draft& draft) {
    if (auto problem = read_object(field.name, value)) return problem;
    if (auto const usage = value.find("include_usage"))
        if (auto problem = read_boolean("stream_options.include_usage", *usage, draft.include_usage)) return problem;
    if (auto const obfuscation = value.find("include_obfuscation")) {
        bool wanted = false;
        if (auto problem = read_boolean("stream_options.include_obfuscation", *obfuscation, wanted)) return problem;
        if (wanted) return unsupported("stream_options.include_obfuscation", *obfuscation, "false");
    }
    return std::nullopt;
}

Verdict read_return_progress(Field const& field, JsonView value, Draft& draft) {
    return read_boolean(field.name, value, draft.request.return_prompt_progress);
}

Verdict read_ping_interval(Field const& field, JsonView value, Draft& draft) {
    constexpr std::int64_t kPingMaxS = 3600;
    std::int64_t seconds = 0;
    if (is_number(value) && value.as_integer() == -1) {
        draft.ping_interval = Duration::max();
        return std::nullopt;
    }
    if (auto problem = read_integer(field.name, value, 1, kPingMaxS, seconds)) return problem;
    draft.ping_interval = std::chrono::seconds(seconds);
    return std::nullopt;
}

Verdict read_response_format(Field const& field, JsonView value, Draft&) {
    if (auto problem = read_object(field.name, value)) return problem;
    auto const type = value.find("type");
    if (!type) return missing("response_format.type");
    if (type->kind() != JsonKind::string) return wrong_type("response_format.type", "a string", *type);
    if (type->as_string() != "text") return refuse_value("response_format.type", *type, "'text'");
    return std::nullopt;
}

Verdict read_modalities(Field const& field, JsonView value, Draft&) {
    if (auto problem = read_array(field.name, value, 8, "modalities")) return problem;
    for (std::size_t i = 0; i < value.size(); ++i) {
        auto const name = fmt::format("modalities[{}]", i);
        if (value.at(i).kind() != JsonKind::string) return wrong_type(name, "a string", value.at(i));
        if (value.at(i).as_string() != "text") return refuse_value(name, value.at(i), "'text'");
    }
    return std::nullopt;
}

Verdict ignore_any(Field const&, JsonView, Draft&) { return std::nullopt; }

Verdict refuse(Field const& field, JsonView value, Draft&) { return unsupported(field.name, value, field.range); }

Verdict refuse_unless_empty(Field const& field, JsonView value, Draft&) {
    bool const container = value.kind() == JsonKind::array || value.kind() == JsonKind::object;
    bool const empty =
        (container && value.size() == 0) || (value.kind() == JsonKind::string && value.as_string().empty());
    if (empty) return std::nullopt;
    return unsupported(field.name, value, field.range);
}

Verdict refuse_word(Field const& field, JsonView value, std::span<std::string_view const> neutral) {
    if (value.kind() == JsonKind::string && std::ranges::find(neutral, value.as_string()) != neutral.end())
        return std::nullopt;
    return refuse_value(field.name, value, field.range);
}

}  // namespace hearth::api::openai
