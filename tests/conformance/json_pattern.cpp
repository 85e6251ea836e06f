#include "json_pattern.h"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <utility>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

namespace hearth::conformance {
namespace {

using Json = nlohmann::ordered_json;
constexpr std::string_view kHole = "...";

}  // namespace

struct JsonPattern::Node {
    struct Any {};
    struct Object {
        std::vector<std::pair<std::string, Node>> members;
        bool open = false;
    };
    struct Array {
        std::vector<Node> elements;
        bool open = false;
    };
    std::variant<Any, Json, Object, Array> value;
};

namespace {

using Node = JsonPattern::Node;

class Parser {
public:
    explicit Parser(std::string_view text) : text_(text) {}

    Node parse_all() {
        Node node = parse_value();
        skip_space();
        if (at_ != text_.size()) fail("text after the end");
        return node;
    }

private:
    [[noreturn]] void fail(std::string const& what) const {
        throw std::runtime_error("bad pattern at byte " + std::to_string(at_) + ": " + what + ": " +
                                 std::string(text_.substr(at_, 40)));
    }
    void skip_space() {
        while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) ++at_;
    }
    bool take(std::string_view token) {
        skip_space();
        if (!text_.substr(at_).starts_with(token)) return false;
        at_ += token.size();
        return true;
    }

    Node parse_value() {
        if (take(kHole)) return {Node::Any{}};
        if (take("{")) return parse_object();
        if (take("[")) return parse_array();
        skip_space();
        if (at_ < text_.size() && text_[at_] == '"') return {Json(parse_string())};
        auto const end = std::min(text_.find_first_of(",]} \t\r\n", at_), text_.size());
        auto const word = text_.substr(at_, end - at_);
        auto literal = Json::parse(word, nullptr, false);
        if (word.empty() || literal.is_discarded()) fail("no value");
        at_ = end;
        return {std::move(literal)};
    }

    std::string parse_string() {
        auto end = at_ + 1;
        while (end < text_.size() && text_[end] != '"') end += text_[end] == '\\' ? 2 : 1;
        if (end >= text_.size()) fail("a string without an end");
        auto const literal = Json::parse(text_.substr(at_, end + 1 - at_), nullptr, false);
        if (!literal.is_string()) fail("no string");
        at_ = end + 1;
        return literal.get<std::string>();
    }

    Node parse_object() {
        Node::Object object;
        if (take("}")) return {std::move(object)};
        do {
            if (take(kHole)) {
                object.open = true;
                break;
            }
            skip_space();
            if (at_ >= text_.size() || text_[at_] != '"') fail("no member name");
            auto name = parse_string();
            if (!take(":")) fail("no ':'");
            object.members.emplace_back(std::move(name), parse_value());
        } while (take(","));
        if (!take("}")) fail("no '}'");
        return {std::move(object)};
    }

    Node parse_array() {
        Node::Array array;
        if (take("]")) return {std::move(array)};
        do {
            skip_space();
            // As the last element a hole allows more; elsewhere it is one element.
            if (auto const back = at_; take(kHole)) {
                if (take("]")) {
                    array.open = true;
                    return {std::move(array)};
                }
                at_ = back;
            }
            array.elements.push_back(parse_value());
        } while (take(","));
        if (!take("]")) fail("no ']'");
        return {std::move(array)};
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

std::string mismatch_at(Node const& node, Json const& json, std::string const& path);

std::string mismatch_object(Node::Object const& object, Json const& json, std::string const& path) {
    if (!json.is_object()) return path + ": expected an object, got " + json.dump();
    for (auto const& [name, value] : object.members) {
        auto const found = json.find(name);
        if (found == json.end()) return path + ": no member \"" + name + "\" in " + json.dump();
        if (auto why = mismatch_at(value, *found, path + "." + name); !why.empty()) return why;
    }
    if (object.open || json.size() == object.members.size()) return {};
    for (auto const& [name, value] : json.items()) {
        bool const expected =
            std::ranges::any_of(object.members, [&](auto const& member) { return member.first == name; });
        if (!expected) return path + ": unexpected member \"" + name + "\": " + value.dump();
    }
    return path + ": a member is expected twice";
}

std::string mismatch_array(Node::Array const& array, Json const& json, std::string const& path) {
    if (!json.is_array()) return path + ": expected an array, got " + json.dump();
    bool const fits = array.open ? json.size() >= array.elements.size() : json.size() == array.elements.size();
    if (!fits) return path + ": expected " + std::to_string(array.elements.size()) + " elements, got " + json.dump();
    for (std::size_t i = 0; i < array.elements.size(); ++i)
        if (auto why = mismatch_at(array.elements[i], json[i], path + "[" + std::to_string(i) + "]"); !why.empty())
            return why;
    return {};
}

std::string mismatch_at(Node const& node, Json const& json, std::string const& path) {
    if (std::holds_alternative<Node::Any>(node.value)) return {};
    if (auto const* object = std::get_if<Node::Object>(&node.value)) return mismatch_object(*object, json, path);
    if (auto const* array = std::get_if<Node::Array>(&node.value)) return mismatch_array(*array, json, path);
    auto const& literal = std::get<Json>(node.value);
    bool const text = literal.is_string() && json.is_string();
    bool const equal = text ? matches_text(literal.get<std::string>(), json.get<std::string>()) : literal == json;
    return equal ? "" : path + ": expected " + literal.dump() + ", got " + json.dump();
}

// Differs from run to run, or stands in the catalogue and would only repeat it.
bool is_volatile(std::string_view name) {
    constexpr std::array<std::string_view, 10> kNames{
        "id", "created", "request_id", "hint", "doc", "timings", "system_fingerprint", "time_ms", "cpu", "isolation"};
    return std::ranges::find(kNames, name) != kNames.end();
}

std::string pattern_of(Json const& json) {
    std::string out;
    if (json.is_object()) {
        bool open = false;
        for (auto const& [name, value] : json.items()) {
            if (is_volatile(name)) {
                open = true;
                continue;
            }
            out += (out.empty() ? "" : ", ") + Json(name).dump() + ": " + pattern_of(value);
        }
        if (open) out += out.empty() ? "..." : ", ...";
        return "{" + out + "}";
    }
    if (!json.is_array()) return json.dump();
    for (auto const& element : json) out += (out.empty() ? "" : ", ") + pattern_of(element);
    return "[" + out + "]";
}

}  // namespace

JsonPattern JsonPattern::parse(std::string_view text) {
    return JsonPattern(std::make_shared<Node const>(Parser(text).parse_all()));
}

std::string JsonPattern::mismatch(std::string_view json) const {
    auto const parsed = Json::parse(json, nullptr, false);
    if (parsed.is_discarded()) return "not JSON: " + std::string(json);
    return mismatch_at(*root_, parsed, "$");
}

bool matches_text(std::string_view pattern, std::string_view text) {
    auto hole = pattern.find(kHole);
    if (hole == std::string_view::npos) return pattern == text;
    if (!text.starts_with(pattern.substr(0, hole))) return false;
    text.remove_prefix(hole);
    pattern.remove_prefix(hole + kHole.size());
    for (hole = pattern.find(kHole); hole != std::string_view::npos; hole = pattern.find(kHole)) {
        auto const found = text.find(pattern.substr(0, hole));
        if (found == std::string_view::npos) return false;
        text.remove_prefix(found + hole);
        pattern.remove_prefix(hole + kHole.size());
    }
    return text.ends_with(pattern);
}

std::string stable_pattern(std::string_view json) { return pattern_of(Json::parse(json)); }

}  // namespace hearth::conformance
