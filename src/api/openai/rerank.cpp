#include "api/openai/rerank.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "api/json_writer.h"
#include "api/openai/fields.h"
#include "api/values.h"

namespace hearth::api::openai {
namespace {

// A string, or an object whose member text is one.
Verdict read_document(std::string_view field, JsonView value, std::string& out) {
    if (value.kind() != JsonKind::object) return read_string(field, value, out);
    auto const name = fmt::format("{}.text", field);
    auto const text = value.find("text");
    return text ? read_string(name, *text, out) : missing(name);
}

Verdict read_list(std::string_view field, JsonView value, Draft& draft) {
    if (value.kind() != JsonKind::array)
        return wrong_type(field, "an array of strings or of objects with a text", value);
    if (value.size() == 0) return invalid_value(field, fmt::format("'{}' must not be empty.", field));
    if (value.size() > kDocumentsMax)
        return invalid_value(
            field, fmt::format("'{}' has {} documents, the limit is {}.", field, value.size(), kDocumentsMax));
    draft.ranks.documents.clear();
    for (std::size_t i = 0; i < value.size(); ++i)
        if (auto problem =
                read_document(fmt::format("{}[{}]", field, i), value.at(i), draft.ranks.documents.emplace_back()))
            return problem;
    return std::nullopt;
}

std::vector<float> scores_of(Answer const& answer) {
    std::vector<float> scores;
    for (auto const& part : answer.embedded)
        for (auto const& vector : part.vectors) scores.push_back(vector.empty() ? 0 : vector.front());
    return scores;
}

// The best first; of equal ones who came first.
std::vector<std::size_t> order_of(std::vector<float> const& scores, std::size_t most) {
    std::vector<std::size_t> order(scores.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::sort(
        order, [&](std::size_t a, std::size_t b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a < b; });
    order.resize(std::min(order.size(), most));
    return order;
}

}  // namespace

Verdict read_query(Field const& field, JsonView value, Draft& draft) {
    auto& query = draft.ranks.query;
    if (auto problem = read_string(field.name, value, query)) return problem;
    if (query.empty()) return invalid_value(field.name, "'query' must not be empty.");
    if (query.size() > kQueryBytesMax)
        return invalid_value(field.name,
                             fmt::format("'query' has {} bytes, the limit is {}.", query.size(), kQueryBytesMax));
    return std::nullopt;
}

Verdict read_documents(Field const& field, JsonView value, Draft& draft) { return read_list(field.name, value, draft); }

Verdict read_texts(Field const& field, JsonView value, Draft& draft) {
    if (!draft.ranks.documents.empty())
        return invalid_value(field.name, "'texts' is another name of 'documents': send one of them.");
    draft.ranks.bare = true;
    return read_list(field.name, value, draft);
}

Verdict read_top_n(Field const& field, JsonView value, Draft& draft) {
    std::int64_t count = 0;
    if (auto problem = read_integer(field.name, value, 1, std::int64_t{1} << 24, count)) return problem;
    draft.ranks.most = static_cast<std::size_t>(count);
    return std::nullopt;
}

Verdict read_return_documents(Field const& field, JsonView value, Draft& draft) {
    return read_boolean(field.name, value, draft.ranks.returns_documents);
}

Verdict make_pairs(Draft& draft) {
    auto const& [query, documents, bare, returns_documents, most] = draft.ranks;
    if (query.empty()) return missing("query");
    if (documents.empty()) return missing("documents");
    for (auto const& document : documents) draft.inputs.emplace_back(domain::RankPair{query, document});
    return std::nullopt;
}

Result<std::string> render_ranks(std::string_view id, std::string_view model, RankShape const& shape,
                                 Answer const& answer) {
    auto const scores = scores_of(answer);
    if (scores.size() != shape.documents.size())
        return Error(Code::internal,
                     fmt::format("the engine ranked {} of {} documents", scores.size(), shape.documents.size()));
    std::string body;
    JsonWriter json(body);
    if (!shape.bare) {
        auto const tokens = answer.totals.usage.prompt_tokens;
        json.begin_object().key("id").string(id).key("object").string("list").key("model").string(model);
        json.key("usage").begin_object().key("prompt_tokens").number(tokens);
        json.key("total_tokens").number(tokens).end_object().key("results");
    }
    json.begin_array();
    for (auto const at : order_of(scores, shape.most)) {
        json.begin_object().key("index").number(at).key(shape.bare ? "score" : "relevance_score").number(scores[at]);
        if (shape.returns_documents && shape.bare) json.key("text").string(shape.documents[at]);
        if (shape.returns_documents && !shape.bare)
            json.key("document").begin_object().key("text").string(shape.documents[at]).end_object();
        json.end_object();
    }
    json.end_array();
    if (!shape.bare) json.end_object();
    return body;
}

}  // namespace hearth::api::openai
