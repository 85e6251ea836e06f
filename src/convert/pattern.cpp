#include "convert/pattern.h"

#include <limits>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "convert/probe_text.h"

namespace hearth::convert {
namespace {

constexpr std::size_t kUnbounded = std::numeric_limits<std::size_t>::max();
constexpr std::size_t kRepeatMax = 1000;

// One code point, a range, or a category; negated if said so.
struct Item {
    char32_t first = 0;
    char32_t last = 0;
    std::string category{};  // "L", "Lu", or one of ours: "s" space, "d" digit, "w" word, "Han"
    bool negated = false;

    [[nodiscard]] bool has(char32_t c, bool fold) const {
        if (!category.empty()) return in_category(c, category) != negated;
        if (c >= first && c <= last) return true;
        if (!fold) return false;
        auto const other = c >= 'a' && c <= 'z' ? c - 32 : c >= 'A' && c <= 'Z' ? c + 32 : c;
        return other >= first && other <= last;
    }
};

struct Class {
    std::vector<Item> items;
    std::vector<Class> nested;
    std::vector<Class> both;  // "&&": each of them too
    bool negated = false;

    [[nodiscard]] bool has(char32_t c, bool fold) const {
        bool found = items.empty() && nested.empty();
        for (auto const& item : items) found = found || item.has(c, fold);
        for (auto const& inner : nested) found = found || inner.has(c, fold);
        for (auto const& other : both) found = found && other.has(c, fold);
        return found != negated;
    }
};

}  // namespace

struct Pattern::Node {
    enum class Kind : std::uint8_t { one, sequence, choice, repeat, ahead };
    enum class Greed : std::uint8_t { greedy, lazy, possessive };

    Kind kind = Kind::sequence;
    std::vector<Node> children{};
    Class set{};        // of `one`
    bool fold = false;  // ASCII case
    std::size_t min = 0;
    std::size_t max = 0;
    Greed greed = Greed::greedy;
    bool negated = false;  // of `ahead`
};

namespace {

using Node = Pattern::Node;

class Parser {
public:
    explicit Parser(std::u32string text) : text_(std::move(text)) {}

    Result<Node> run() {
        HEARTH_TRY(auto node, choice(0, false));
        if (!done()) return wrong("a ')' too many");
        return node;
    }

private:
    [[nodiscard]] bool done() const { return at_ >= text_.size(); }
    [[nodiscard]] char32_t peek(std::size_t ahead = 0) const {
        return at_ + ahead < text_.size() ? text_[at_ + ahead] : 0;
    }
    bool take(std::u32string_view wanted) {
        if (!std::u32string_view(text_).substr(at_).starts_with(wanted)) return false;
        at_ += wanted.size();
        return true;
    }
    [[nodiscard]] Error wrong(std::string_view what) const {
        return Error(Code::unsupported, fmt::format("the pre-tokeniser's pattern, at character {}: {}", at_, what));
    }

    Result<Node> choice(std::size_t depth, bool fold) {
        if (depth > kPatternDepthMax) return wrong(fmt::format("more than {} levels", kPatternDepthMax));
        Node node{.kind = Node::Kind::choice};
        do {
            HEARTH_TRY(auto branch, sequence(depth, fold));
            node.children.push_back(std::move(branch));
        } while (take(U"|"));
        return node;
    }

    Result<Node> sequence(std::size_t depth, bool fold) {
        Node node{.kind = Node::Kind::sequence};
        while (!done() && peek() != '|' && peek() != ')') {
            HEARTH_TRY(auto atom, this->atom(depth, fold));
            HEARTH_TRY(auto repeated, quantified(std::move(atom)));
            node.children.push_back(std::move(repeated));
        }
        return node;
    }

    Result<Node> atom(std::size_t depth, bool fold) {
        if (take(U"(")) return group(depth, fold);
        Node node{.kind = Node::Kind::one, .fold = fold};
        if (take(U"[")) {
            HEARTH_TRY(node.set, char_class(depth));
            return node;
        }
        if (take(U".")) {
            node.set.items.push_back({.first = '\n', .last = '\n'});
            node.set.negated = true;
            return node;
        }
        if (constexpr std::u32string_view kSpecial = U"*+?^$"; kSpecial.find(peek()) != std::u32string_view::npos)
            return wrong("an anchor, or a quantifier of nothing");
        HEARTH_TRY(auto item, one_item());
        node.set.items.push_back(std::move(item));
        return node;
    }

    Result<Node> group(std::size_t depth, bool fold) {
        Node::Kind kind = Node::Kind::sequence;
        bool negated = false;
        if (take(U"?i:")) fold = true;
        else if (take(U"?=")) kind = Node::Kind::ahead;
        else if (take(U"?!")) kind = Node::Kind::ahead, negated = true;
        else if (!take(U"?:") && peek() == '?') return wrong("an unknown kind of group");
        HEARTH_TRY(auto inner, choice(depth + 1, fold));
        if (!take(U")")) return wrong("a ')' is missing");
        if (kind != Node::Kind::ahead) return inner;
        Node node{.kind = kind, .negated = negated};
        node.children.push_back(std::move(inner));
        return node;
    }

    Result<Node> quantified(Node atom) {
        std::size_t min = 0;
        std::size_t max = kUnbounded;
        if (take(U"?")) max = 1;
        else if (take(U"+")) min = 1;
        else if (peek() == '{' && peek(1) >= '0' && peek(1) <= '9') HEARTH_CHECK(bounds(min, max));
        else if (!take(U"*")) return atom;
        Node node{.kind = Node::Kind::repeat, .min = min, .max = max};
        if (take(U"+")) node.greed = Node::Greed::possessive;
        else if (take(U"?")) node.greed = Node::Greed::lazy;
        node.children.push_back(std::move(atom));
        return node;
    }

    std::size_t decimal() {
        std::size_t value = 0;
        for (; peek() >= '0' && peek() <= '9' && value <= kRepeatMax; ++at_) value = value * 10 + (peek() - '0');
        return value;
    }
    Status bounds(std::size_t& min, std::size_t& max) {
        ++at_;
        min = max = decimal();
        if (take(U",")) max = peek() == '}' ? kUnbounded : decimal();
        if (!take(U"}") || min > max || min > kRepeatMax || (max != kUnbounded && max > kRepeatMax))
            return wrong(fmt::format("a quantifier that is none, or above {}", kRepeatMax));
        return ok();
    }

    // After the '['.
    Result<Class> char_class(std::size_t depth) {
        if (depth > kPatternDepthMax) return wrong(fmt::format("more than {} levels", kPatternDepthMax));
        Class set;
        set.negated = take(U"^");
        for (bool first = true; first || peek() != ']'; first = false) {
            if (done()) return wrong("a ']' is missing");
            if (take(U"&&")) {
                HEARTH_TRY(auto other, rest_of_class(depth));
                set.both.push_back(std::move(other));
                return set;
            }
            if (take(U"[")) {
                HEARTH_TRY(auto inner, char_class(depth + 1));
                set.nested.push_back(std::move(inner));
                continue;
            }
            HEARTH_TRY(auto item, one_item());
            if (item.category.empty() && peek() == '-' && peek(1) != ']' && peek(1) != 0) {
                ++at_;
                HEARTH_TRY(auto const last, one_item());
                if (!last.category.empty() || last.first < item.first) return wrong("a range that is none");
                item.last = last.first;
            }
            set.items.push_back(std::move(item));
        }
        ++at_;
        return set;
    }

    // Behind "&&", up to the same ']'.
    Result<Class> rest_of_class(std::size_t depth) {
        HEARTH_TRY(auto set, char_class(depth + 1));
        return set;
    }

    Result<Item> one_item() {
        auto const c = peek();
        ++at_;
        if (c != '\\') return Item{.first = c, .last = c};
        auto const escaped = peek();
        if (done()) return wrong("a '\\' at the end");
        ++at_;
        switch (escaped) {
            case 'n': return Item{.first = '\n', .last = '\n'};
            case 'r': return Item{.first = '\r', .last = '\r'};
            case 't': return Item{.first = '\t', .last = '\t'};
            case 's':
            case 'd':
            case 'w': return Item{.category = std::string(1, static_cast<char>(escaped))};
            case 'S':
            case 'D':
            case 'W': return Item{.category = std::string(1, static_cast<char>(escaped + 32)), .negated = true};
            case 'p':
            case 'P': return category(escaped == 'P');
            default: break;
        }
        bool const letter = (escaped >= 'a' && escaped <= 'z') || (escaped >= 'A' && escaped <= 'Z');
        if (letter || (escaped >= '0' && escaped <= '9')) return wrong("an unknown escape");
        return Item{.first = escaped, .last = escaped};
    }

    Result<Item> category(bool negated) {
        if (!take(U"{")) return wrong("\\p without a name");
        Item item{.negated = negated};
        if (take(U"^")) item.negated = !item.negated;
        while (!done() && peek() != '}') item.category += static_cast<char>(text_[at_++]);
        if (!take(U"}") || !is_category(item.category)) return wrong("an unknown category");
        return item;
    }

    std::u32string text_;
    std::size_t at_ = 0;
};

// What comes after a node: called with a place, true if all the rest matches.
class Rest {
public:
    virtual ~Rest() = default;
    virtual bool operator()(std::size_t at) const = 0;
};

template <typename F>
class RestOf final : public Rest {
public:
    explicit RestOf(F f) : f_(std::move(f)) {}
    bool operator()(std::size_t at) const override { return f_(at); }

private:
    F f_;
};

class Matcher {
public:
    Matcher(std::u32string_view text, std::size_t& steps) : text_(text), steps_(steps) {}

    bool match(Node const& node, std::size_t at, Rest const& rest) {
        if (steps_ == 0) return false;
        --steps_;
        switch (node.kind) {
            case Node::Kind::one: return at < text_.size() && node.set.has(text_[at], node.fold) && rest(at + 1);
            case Node::Kind::sequence: return sequence(node, 0, at, rest);
            case Node::Kind::choice:
                for (auto const& child : node.children) {
                    if (match(child, at, rest)) return true;
                }
                return false;
            case Node::Kind::ahead: return longest(node.children[0], at).has_value() != node.negated && rest(at);
            case Node::Kind::repeat:
                if (node.greed == Node::Greed::possessive) return possessive(node, at, rest);
                return repeat(node, 0, at, rest);
        }
        return false;
    }

    // Where the first way to match ends.
    std::optional<std::size_t> longest(Node const& node, std::size_t at) {
        std::optional<std::size_t> end;
        match(node, at, RestOf([&](std::size_t place) {
                  end = place;
                  return true;
              }));
        return end;
    }

private:
    bool sequence(Node const& node, std::size_t i, std::size_t at, Rest const& rest) {
        if (i == node.children.size()) return rest(at);
        return match(node.children[i], at,
                     RestOf([&, i](std::size_t place) { return sequence(node, i + 1, place, rest); }));
    }

    bool repeat(Node const& node, std::size_t count, std::size_t at, Rest const& rest) {
        auto const again = [&] {
            return count < node.max && match(node.children[0], at, RestOf([&, count, at](std::size_t place) {
                                                 return place > at && repeat(node, count + 1, place, rest);
                                             }));
        };
        auto const enough = [&] { return count >= node.min && rest(at); };
        return node.greed == Node::Greed::lazy ? enough() || again() : again() || enough();
    }

    bool possessive(Node const& node, std::size_t at, Rest const& rest) {
        std::size_t count = 0;
        for (; count < node.max; ++count) {
            auto const end = longest(node.children[0], at);
            if (!end || *end == at) break;
            at = *end;
        }
        return count >= node.min && rest(at);
    }

    std::u32string_view text_;
    std::size_t& steps_;
};

}  // namespace

Pattern::Pattern(std::unique_ptr<Node> root) : root_(std::move(root)) {}
Pattern::~Pattern() = default;
Pattern::Pattern(Pattern&&) noexcept = default;
Pattern& Pattern::operator=(Pattern&&) noexcept = default;

Result<Pattern> Pattern::parse(std::string_view text) {
    if (text.size() > kPatternBytesMax) {
        return Error(Code::too_large, fmt::format("the pre-tokeniser's pattern has {} bytes; at most {} are read",
                                                  text.size(), kPatternBytesMax));
    }
    HEARTH_TRY(auto node, Parser(code_points(text)).run());
    return Pattern(std::make_unique<Node>(std::move(node)));
}

Result<std::optional<std::pair<std::size_t, std::size_t>>> Pattern::find(std::u32string_view text, std::size_t from,
                                                                         std::size_t& steps) const {
    using Found = std::optional<std::pair<std::size_t, std::size_t>>;
    Matcher matcher(text, steps);
    for (auto at = from; at < text.size(); ++at) {
        auto const end = matcher.longest(*root_, at);
        if (steps == 0) {
            return Error(Code::too_large,
                         fmt::format("the pre-tokeniser's pattern takes more than {} steps", kPatternStepsMax));
        }
        if (end && *end > at) return Found({at, *end});
    }
    return Found();
}

}  // namespace hearth::convert
