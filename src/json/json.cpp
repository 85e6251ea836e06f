#include "json/json.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <system_error>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "base/utf8.h"

namespace hearth::json {
namespace {

constexpr std::size_t kQuadraticMax = 16;  // members up to which comparing all pairs is cheaper than a set

struct Surrogates {
    static bool high(std::uint32_t unit) { return unit >= 0xD800 && unit < 0xDC00; }
    static bool low(std::uint32_t unit) { return unit >= 0xDC00 && unit < 0xE000; }
};

// Recursive descent; the depth limit bounds the stack.
class Parser {
public:
    Parser(std::vector<char>& text, std::vector<Node>& nodes, Limits const& limits, std::string_view name)
        : text_(text), nodes_(nodes), limits_(limits), name_(name) {}

    Status run() {
        HEARTH_CHECK(value(0));
        skip_space();
        if (at_ != text_.size()) return wrong("more after the value");
        return ok();
    }

private:
    [[nodiscard]] Error wrong(std::string_view what) const {
        return Error(Code::corrupt, fmt::format("{}: byte {}: {}", name_, at_, what), std::string(name_));
    }
    [[nodiscard]] Error too_large(std::string_view what, std::size_t limit) const {
        return Error(Code::too_large, fmt::format("{}: byte {}: {}; at most {} are read", name_, at_, what, limit),
                     std::string(name_));
    }
    [[nodiscard]] bool done() const { return at_ >= text_.size(); }
    [[nodiscard]] char peek() const { return done() ? '\0' : text_[at_]; }
    [[nodiscard]] std::string_view rest() const { return {text_.data() + at_, text_.size() - at_}; }
    [[nodiscard]] std::string_view text_of(Node const& node) const { return {text_.data() + node.offset, node.size}; }

    void skip_space() {
        while (!done() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) ++at_;
    }

    Result<std::uint32_t> add(Kind kind) {
        if (nodes_.size() >= limits_.values) return too_large("too many values", limits_.values);
        auto& node = nodes_.emplace_back();
        node.kind = kind;
        node.next = static_cast<std::uint32_t>(nodes_.size());
        return static_cast<std::uint32_t>(nodes_.size() - 1);
    }

    Status value(std::size_t depth) {
        skip_space();
        if (done()) return wrong("the text ends where a value is expected");
        switch (peek()) {
            case '{': return object(depth);
            case '[': return array(depth);
            case '"': return string();
            case 't': return word("true", Kind::boolean, true);
            case 'f': return word("false", Kind::boolean, false);
            case 'n': return word("null", Kind::null, false);
            default: return number();
        }
    }

    Status word(std::string_view text, Kind kind, bool truth) {
        if (!rest().starts_with(text)) return wrong("no JSON value");
        HEARTH_TRY(auto const at, add(kind));
        nodes_[at].boolean = truth;
        at_ += text.size();
        return ok();
    }

    // True if the text goes on with at least one digit, which are passed.
    bool digits() {
        auto const start = at_;
        while (peek() >= '0' && peek() <= '9') ++at_;
        return at_ > start;
    }

    Status number() {
        auto const start = at_;
        bool whole = true;
        if (peek() == '-') ++at_;
        if (peek() == '0') {
            ++at_;
        } else if (!digits()) {
            return wrong("no JSON value");
        }
        if (peek() == '.') {
            whole = false;
            ++at_;
            if (!digits()) return wrong("a number without digits behind its point");
        }
        if (peek() == 'e' || peek() == 'E') {
            whole = false;
            ++at_;
            if (peek() == '+' || peek() == '-') ++at_;
            if (!digits()) return wrong("a number without digits in its exponent");
        }
        return keep_number({text_.data() + start, at_ - start}, whole);
    }

    Status keep_number(std::string_view text, bool whole) {
        auto const* const begin = text.data();
        auto const* const end = begin + text.size();
        if (std::int64_t value = 0; whole && std::from_chars(begin, end, value).ec == std::errc{}) {
            HEARTH_TRY(auto const at, add(Kind::integer));
            nodes_[at].integer = value;
            return ok();
        }
        double value = 0;
        if (std::from_chars(begin, end, value).ec != std::errc{} || !std::isfinite(value))
            return wrong("a number out of range");
        HEARTH_TRY(auto const at, add(Kind::number));
        nodes_[at].number = value;
        return ok();
    }

    // Decoded in place: what is written never passes what was read.
    Status string() {
        ++at_;
        auto const start = at_;
        auto out = at_;
        for (;;) {
            if (done()) return wrong("the text ends inside a string");
            auto const c = text_[at_];
            if (c == '"') break;
            if (static_cast<unsigned char>(c) < 0x20) return wrong("a control character inside a string");
            if (c == '\\') {
                HEARTH_CHECK(escape(out));
            } else {
                text_[out++] = c;
                ++at_;
            }
        }
        ++at_;
        HEARTH_TRY(auto const at, add(Kind::string));
        nodes_[at].offset = start;
        nodes_[at].size = static_cast<std::uint32_t>(out - start);
        return ok();
    }

    Status escape(std::size_t& out) {
        constexpr std::string_view kNames = "\"\\/bfnrt";
        constexpr std::string_view kBytes = "\"\\/\b\f\n\r\t";
        ++at_;
        auto const c = peek();
        if (auto const found = kNames.find(c); found != std::string_view::npos && !done()) {
            text_[out++] = kBytes[found];
            ++at_;
            return ok();
        }
        if (c != 'u') return wrong("an unknown escape");
        HEARTH_TRY(auto point, unit());
        if (Surrogates::high(point)) {
            if (!rest().starts_with("\\u")) return wrong("a lone surrogate");
            ++at_;
            HEARTH_TRY(auto const low, unit());
            if (!Surrogates::low(low)) return wrong("a lone surrogate");
            point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
        } else if (Surrogates::low(point)) {
            return wrong("a lone surrogate");
        }
        put(point, out);
        return ok();
    }

    // "uXXXX" at the place.
    Result<std::uint32_t> unit() {
        std::uint32_t value = 0;
        auto const text = rest().substr(1, 4);
        auto const [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
        if (text.size() != 4 || failed != std::errc{} || end != text.data() + 4)
            return wrong("\\u without four hexadecimal digits");
        at_ += 5;
        return value;
    }

    void put(std::uint32_t point, std::size_t& out) {
        auto const byte = [&](std::uint32_t value) { text_[out++] = static_cast<char>(value); };
        if (point < 0x80) return byte(point);
        if (point < 0x800) {
            byte(0xC0 | (point >> 6));
        } else {
            if (point < 0x10000) {
                byte(0xE0 | (point >> 12));
            } else {
                byte(0xF0 | (point >> 18));
                byte(0x80 | ((point >> 12) & 0x3F));
            }
            byte(0x80 | ((point >> 6) & 0x3F));
        }
        byte(0x80 | (point & 0x3F));
    }

    Status array(std::size_t depth) {
        HEARTH_TRY(auto const self, open(Kind::array, depth));
        for (bool more = peek() != ']'; more;) {
            HEARTH_CHECK(value(depth + 1));
            ++nodes_[self].size;
            HEARTH_TRY(more, another(']'));
        }
        close(self);
        return ok();
    }

    Status object(std::size_t depth) {
        HEARTH_TRY(auto const self, open(Kind::object, depth));
        for (bool more = peek() != '}'; more;) {
            skip_space();
            if (peek() != '"') return wrong("a name is expected");
            HEARTH_CHECK(string());
            skip_space();
            if (peek() != ':') return wrong("':' is expected");
            ++at_;
            HEARTH_CHECK(value(depth + 1));
            ++nodes_[self].size;
            HEARTH_TRY(more, another('}'));
        }
        close(self);
        return check_names(self);
    }

    Result<std::uint32_t> open(Kind kind, std::size_t depth) {
        if (depth >= limits_.depth) return too_large("too many levels", limits_.depth);
        ++at_;
        skip_space();
        return add(kind);
    }
    void close(std::uint32_t self) {
        ++at_;
        nodes_[self].next = static_cast<std::uint32_t>(nodes_.size());
    }

    // False at `closing`, where the place stays.
    Result<bool> another(char closing) {
        skip_space();
        if (peek() == closing && !done()) return false;
        if (peek() != ',') return wrong(fmt::format("',' or '{}' is expected", closing));
        ++at_;
        return true;
    }

    Status check_names(std::uint32_t self) {
        auto const count = nodes_[self].size;
        std::unordered_set<std::string_view> seen;
        if (count > kQuadraticMax) seen.reserve(count);
        for (auto name = self + 1; name < nodes_[self].next; name = nodes_[name + 1].next) {
            auto const text = text_of(nodes_[name]);
            bool fresh = true;
            if (count > kQuadraticMax) {
                fresh = seen.insert(text).second;
            } else {
                for (auto other = self + 1; other < name && fresh; other = nodes_[other + 1].next)
                    fresh = text_of(nodes_[other]) != text;
            }
            if (!fresh) return wrong(fmt::format("an object has the name \"{}\" twice", text.substr(0, 80)));
        }
        return ok();
    }

    std::vector<char>& text_;
    std::vector<Node>& nodes_;
    Limits const& limits_;
    std::string_view name_;
    std::size_t at_ = 0;
};

}  // namespace

std::string_view describe(Kind kind) noexcept {
    switch (kind) {
        case Kind::null: return "null";
        case Kind::boolean: return "a boolean";
        case Kind::integer: return "an integer";
        case Kind::number: return "a number";
        case Kind::string: return "a string";
        case Kind::array: return "an array";
        case Kind::object: return "an object";
    }
    return "a value";
}

Result<Document> Document::parse(std::string text, Limits const& limits, std::string_view name) {
    if (text.size() > limits.bytes) {
        return Error(Code::too_large,
                     fmt::format("{}: {} bytes of JSON; at most {} are read", name, text.size(), limits.bytes),
                     std::string(name));
    }
    if (!is_valid_utf8(text)) return Error(Code::corrupt, fmt::format("{}: not valid UTF-8", name), std::string(name));
    Document document;
    document.text_.assign(text.begin(), text.end());
    text = {};
    HEARTH_CHECK(Parser(document.text_, document.nodes_, limits, name).run());
    return document;
}

Node const& View::node() const { return document_->nodes_[at_]; }

Kind View::kind() const { return node().kind; }

std::optional<bool> View::boolean() const { return is(Kind::boolean) ? std::optional(node().boolean) : std::nullopt; }

std::optional<std::int64_t> View::integer() const {
    return is(Kind::integer) ? std::optional(node().integer) : std::nullopt;
}

std::optional<double> View::number() const {
    if (is(Kind::integer)) return static_cast<double>(node().integer);
    return is(Kind::number) ? std::optional(node().number) : std::nullopt;
}

std::optional<std::string_view> View::text() const {
    if (!is(Kind::string)) return std::nullopt;
    return std::string_view(document_->text_.data() + node().offset, node().size);
}

std::size_t View::size() const { return is(Kind::array) || is(Kind::object) ? node().size : 0; }

std::optional<View> View::find(std::string_view name) const {
    auto const found = find_any(name);
    return found && !found->is(Kind::null) ? found : std::nullopt;
}

std::optional<View> View::find_any(std::string_view name) const {
    for (auto const member : members()) {
        if (member.name == name) return member.value;
    }
    return std::nullopt;
}

View::Elements View::elements() const {
    return is(Kind::array) ? Elements(document_, at_ + 1, node().next) : Elements(document_, 0, 0);
}

View::Members View::members() const {
    return is(Kind::object) ? Members(document_, at_ + 1, node().next) : Members(document_, 0, 0);
}

View::Elements::Iterator& View::Elements::Iterator::operator++() {
    at_ = View(document_, at_).node().next;
    return *this;
}

Member View::Members::Iterator::operator*() const {
    return {View(document_, at_).text().value(), View(document_, at_ + 1)};
}

View::Members::Iterator& View::Members::Iterator::operator++() {
    at_ = View(document_, at_ + 1).node().next;
    return *this;
}

}  // namespace hearth::json
