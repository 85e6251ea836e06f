#include "api/openai/embeddings.h"

#include <bit>
#include <limits>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "api/base64.h"
#include "api/embedding.h"
#include "api/json_writer.h"
#include "api/values.h"

namespace hearth::api::openai {
namespace {

using Input = domain::EmbedPrompt::Input;

static_assert(std::endian::native == std::endian::little, "base64 vectors are little-endian");

bool is_token(JsonView value) { return value.kind() == JsonKind::integer || value.kind() == JsonKind::number; }

Verdict read_tokens(std::string_view field, JsonView value, Draft& draft) {
    std::vector<domain::Token> tokens;
    tokens.reserve(value.size());
    for (std::size_t i = 0; i < value.size(); ++i) {
        std::int64_t token = 0;
        auto problem = read_integer(fmt::format("{}[{}]", field, i), value.at(i), 0,
                                    std::numeric_limits<domain::Token>::max(), token);
        if (problem) return problem;
        tokens.push_back(static_cast<domain::Token>(token));
    }
    draft.inputs.emplace_back(std::move(tokens));
    return std::nullopt;
}

Verdict read_input(std::string_view field, JsonView value, Draft& draft) {
    if (value.kind() == JsonKind::array) {
        if (value.size() == 0) return invalid_value("input", fmt::format("'{}' must not be empty.", field));
        return read_tokens(field, value, draft);
    }
    std::string text;
    if (auto problem = read_string(field, value, text)) return problem;
    if (text.empty()) return invalid_value("input", fmt::format("'{}' must not be empty.", field));
    draft.inputs.emplace_back(std::move(text));
    return std::nullopt;
}

void write_vector(JsonWriter& json, std::vector<float> const& vector, bool as_base64) {
    if (as_base64) {
        json.string(base64(std::as_bytes(std::span(vector))));
        return;
    }
    json.begin_array();
    for (float const value : vector) json.number(value);
    json.end_array();
}

}  // namespace

Verdict read_inputs(JsonView value, Draft& draft) {
    bool const list = value.kind() == JsonKind::array;
    if (!list && value.kind() != JsonKind::string)
        return wrong_type("input", "a string or an array of strings or token ids", value);
    if (list && value.size() == 0) return invalid_value("input", "'input' must not be empty.");
    if (!list || is_token(value.at(0))) return read_input("input", value, draft);
    for (std::size_t i = 0; i < value.size(); ++i)
        if (auto problem = read_input(fmt::format("input[{}]", i), value.at(i), draft)) return problem;
    return std::nullopt;
}

Error too_many_dimensions(std::size_t wanted, std::size_t width) {
    return {Code::invalid_argument,
            fmt::format("'dimensions' is {}, but the model's embeddings have {}", wanted, width), "dimensions"};
}

Result<std::string> render_embeddings(std::string_view model, VectorShape const& shape, Answer const& answer) {
    std::string body;
    JsonWriter json(body);
    json.begin_object().key("object").string("list").key("data").begin_array();
    std::size_t index = 0;
    auto const length = shape.normalize ? Length::one : Length::as_it_is;
    for (auto const& part : answer.embedded) {
        for (auto const& vector : part.vectors) {
            if (shape.dimensions.value_or(0) > vector.size())
                return too_many_dimensions(*shape.dimensions, vector.size());
            json.begin_object().key("object").string("embedding").key("index").number(index++).key("embedding");
            write_vector(json, shaped(vector, shape.dimensions, length), shape.base64);
            json.end_object();
        }
    }
    auto const tokens = answer.totals.usage.prompt_tokens;
    json.end_array().key("model").string(model).key("usage").begin_object();
    json.key("prompt_tokens").number(tokens).key("total_tokens").number(tokens);
    if (answer.totals.usage.left_out_tokens > 0)
        json.key("left_out_tokens").number(answer.totals.usage.left_out_tokens);
    json.end_object().end_object();
    return body;
}

}  // namespace hearth::api::openai
