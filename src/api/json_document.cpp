#include "api/json_document.h"

#include <cmath>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/utf8.h"

namespace hearth::api {
namespace {

using Json = nlohmann::json;

Json const& node(void const* pointer) { return *static_cast<Json const*>(pointer); }

// First byte after the string whose opening quote is at `i`; text.size() if it never ends.
std::size_t skip_string(std::string_view text, std::size_t i) {
    ++i;
    for (;;) {
        i = text.find_first_of("\"\\", i);
        if (i == std::string_view::npos) return text.size();
        if (text[i] == '"') return i + 1;
        i += 2;  // the backslash and the byte it escapes
    }
}

// Counts nesting and values without building anything. Grammar is the parser's business: for text that is no JSON the
// counts are upper bounds.
Status check_bounds(std::string_view text) {
    std::size_t depth = 0;
    std::size_t values = 1;
    for (std::size_t i = 0; i < text.size();) {
        switch (text[i]) {
            case '"': i = skip_string(text, i); continue;
            case '[':
            case '{':
                ++values;
                if (++depth > kJsonDepthMax)
                    return Error(Code::invalid_argument,
                                 fmt::format("The JSON body is nested deeper than {} levels.", kJsonDepthMax));
                break;
            case ']':
            case '}':
                if (depth > 0) --depth;
                break;
            case ',': ++values; break;
            default: break;
        }
        if (values > kJsonValuesMax)
            return Error(Code::invalid_argument,
                         fmt::format("The JSON body holds more than {} values.", kJsonValuesMax));
        ++i;
    }
    return ok();
}

struct Place {
    std::size_t line = 1;
    std::size_t column = 1;
};

Place place_of(std::string_view text, std::size_t offset) {
    Place place;
    for (std::size_t i = 0; i < offset && i < text.size(); ++i) {
        if (text[i] == '\n') {
            ++place.line;
            place.column = 1;
        } else {
            ++place.column;
        }
    }
    return place;
}

// The library's words without its own prefix and without a quote of the body.
std::string reason_of(std::string_view what) {
    auto const dash = what.find(" - ");
    auto reason = dash == std::string_view::npos ? std::string_view("syntax error") : what.substr(dash + 3);
    if (auto const quote = reason.find("; last read"); quote != std::string_view::npos)
        reason = reason.substr(0, quote);
    return std::string(reason);
}

}  // namespace

struct JsonDocument::Tree {
    Json root;
};

std::string_view describe(JsonKind kind) {
    switch (kind) {
        case JsonKind::null: return "null";
        case JsonKind::boolean: return "a boolean";
        case JsonKind::integer: return "an integer";
        case JsonKind::number: return "a number";
        case JsonKind::string: return "a string";
        case JsonKind::array: return "an array";
        case JsonKind::object: return "an object";
    }
    return "a value";
}

JsonKind JsonView::kind() const {
    switch (node(node_).type()) {
        case Json::value_t::boolean: return JsonKind::boolean;
        case Json::value_t::number_integer:
        case Json::value_t::number_unsigned: return JsonKind::integer;
        case Json::value_t::number_float: return JsonKind::number;
        case Json::value_t::string: return JsonKind::string;
        case Json::value_t::array: return JsonKind::array;
        case Json::value_t::object: return JsonKind::object;
        default: return JsonKind::null;
    }
}

bool JsonView::as_boolean() const { return node(node_).get_ref<bool const&>(); }

std::string const& JsonView::as_string() const { return node(node_).get_ref<std::string const&>(); }

double JsonView::as_number() const { return node(node_).get<double>(); }

std::optional<std::int64_t> JsonView::as_integer() const {
    auto const& json = node(node_);
    if (json.is_number_unsigned()) {
        auto const value = json.get<std::uint64_t>();
        if (value > static_cast<std::uint64_t>(INT64_MAX)) return std::nullopt;
        return static_cast<std::int64_t>(value);
    }
    if (json.is_number_integer()) return json.get<std::int64_t>();
    if (!json.is_number_float()) return std::nullopt;
    constexpr double kExactMax = 9007199254740992.0;  // 2^53: above it a double no longer tells whole numbers apart
    auto const value = json.get<double>();
    if (std::abs(value) > kExactMax || value != std::floor(value)) return std::nullopt;
    return static_cast<std::int64_t>(value);
}

std::size_t JsonView::size() const {
    auto const& json = node(node_);
    return json.is_structured() ? json.size() : 0;
}

JsonView JsonView::at(std::size_t i) const { return JsonView(&node(node_)[i]); }

std::optional<JsonView> JsonView::find(std::string_view name) const {
    auto const& json = node(node_);
    auto const found = json.find(name);
    if (found == json.end() || found->is_null()) return std::nullopt;
    return JsonView(&*found);
}

void JsonView::for_each_member(std::function<void(std::string const&, JsonView)> const& visit) const {
    for (auto const& [name, value] : node(node_).get_ref<Json::object_t const&>()) visit(name, JsonView(&value));
}

Result<JsonDocument> JsonDocument::parse(std::string_view text) {
    HEARTH_CHECK(check_bounds(text));
    if (!is_valid_utf8(text)) return Error(Code::invalid_argument, "The JSON body is not valid UTF-8.");
    auto tree = std::make_unique<Tree>();
    try {
        tree->root = Json::parse(text);
    } catch (Json::parse_error const& error) {
        auto const place = place_of(text, error.byte > 0 ? error.byte - 1 : 0);
        return Error(Code::invalid_argument, fmt::format("The body is not valid JSON: line {}, column {}: {}.",
                                                         place.line, place.column, reason_of(error.what())));
    } catch (Json::exception const&) {  // a number no double holds
        return Error(Code::invalid_argument, "The JSON body holds a number out of range.");
    }
    return JsonDocument(std::move(tree));
}

JsonDocument::JsonDocument(std::unique_ptr<Tree> tree) : tree_(std::move(tree)) {}
JsonDocument::~JsonDocument() = default;
JsonDocument::JsonDocument(JsonDocument&&) noexcept = default;
JsonDocument& JsonDocument::operator=(JsonDocument&&) noexcept = default;

JsonView JsonDocument::root() const { return JsonView(&tree_->root); }

}  // namespace hearth::api
