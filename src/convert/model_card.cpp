#include "convert/model_card.h"

#include <optional>
#include <utility>

namespace hearth::convert {
namespace {

std::string_view trimmed(std::string_view text) {
    auto const from = text.find_first_not_of(" \t\r");
    if (from == std::string_view::npos) return {};
    return text.substr(from, text.find_last_not_of(" \t\r") - from + 1);
}

// The next line, taken from `rest`.
std::string_view take_line(std::string_view& rest) {
    auto const end = rest.find('\n');
    auto const line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    return line.ends_with('\r') ? line.substr(0, line.size() - 1) : line;
}

std::string_view without_comment(std::string_view text) {
    if (text.starts_with('#')) return {};
    auto const comment = text.find(" #");
    return comment == std::string_view::npos ? text : trimmed(text.substr(0, comment));
}

// Nothing for what is more than a plain or quoted text on one line.
std::optional<std::string> scalar_of(std::string_view text) {
    text = trimmed(text);
    if (text.size() >= 2 && (text.front() == '"' || text.front() == '\'')) {
        auto const end = text.find(text.front(), 1);
        auto const inside = text.substr(1, end == std::string_view::npos ? 0 : end - 1);
        if (end == std::string_view::npos || inside.find('\\') != std::string_view::npos) return std::nullopt;
        if (!without_comment(trimmed(text.substr(end + 1))).empty()) return std::nullopt;
        return std::string(inside);
    }
    text = without_comment(text);
    constexpr std::string_view kOtherShapes = "|>&*!%@`{}[],?\"'";
    if (text.empty() || kOtherShapes.find(text.front()) != std::string_view::npos) return std::nullopt;
    if (text.find(": ") != std::string_view::npos || text.ends_with(':') || text == "null" || text == "~")
        return std::nullopt;
    return std::string(text);
}

std::optional<std::vector<std::string>> flow_of(std::string_view text) {
    text = without_comment(trimmed(text));
    if (!text.starts_with('[') || !text.ends_with(']')) return std::nullopt;
    text = trimmed(text.substr(1, text.size() - 2));
    std::vector<std::string> values;
    while (!text.empty()) {
        auto const end = text.find(',');
        auto value = scalar_of(text.substr(0, end));
        if (!value) return std::nullopt;
        values.push_back(*std::move(value));
        text = end == std::string_view::npos ? std::string_view() : trimmed(text.substr(end + 1));
    }
    return values;
}

class Reader {
public:
    explicit Reader(std::string_view text) : rest_(text) {}

    ModelCard read() {
        for (std::size_t values = 0; !rest_.empty() && values < kModelCardValuesMax;) {
            auto const line = take_line(rest_);
            if (line == "---") return closed(true);
            auto const colon = line.find(':');
            bool const is_key = !line.empty() && line.front() != ' ' && line.front() != '-' && line.front() != '#' &&
                                colon != std::string_view::npos;
            if (!is_key) continue;
            auto const key = trimmed(line.substr(0, colon));
            values += keep(key, trimmed(line.substr(colon + 1)));
        }
        return closed(false);
    }

private:
    // Front matter that is never closed is no front matter.
    ModelCard closed(bool found) { return found ? std::move(card_) : ModelCard(); }

    std::size_t keep(std::string_view key, std::string_view value) {
        if (auto flow = flow_of(value)) return keep(key, *std::move(flow), true);
        if (auto scalar = scalar_of(value)) return keep(key, {*std::move(scalar)}, false);
        if (!without_comment(value).empty()) return 1;
        return keep_block(key);
    }

    std::size_t keep(std::string_view key, std::vector<std::string> values, bool is_list) {
        auto const count = values.size() + 1;
        card_.is_list[std::string(key)] = is_list;
        card_.values[std::string(key)] = std::move(values);
        return count;
    }

    // "- x" lines, as deep as they like, up to something else.
    std::size_t keep_block(std::string_view key) {
        std::vector<std::string> values;
        bool plain = true;
        while (!rest_.empty() && values.size() < kModelCardValuesMax) {
            auto after = rest_;
            auto const line = take_line(after);
            auto const text = trimmed(line);
            if (line == "---" || (!text.empty() && line.front() != ' ' && line.front() != '\t' && line.front() != '-'))
                break;
            rest_ = after;
            if (text.empty() || text.front() == '#') continue;
            auto value = text.starts_with("- ") ? scalar_of(text.substr(2)) : std::nullopt;
            plain = plain && value.has_value();
            if (value) values.push_back(*std::move(value));
        }
        if (plain && !values.empty()) return keep(key, std::move(values), true);
        return values.size() + 1;
    }

    std::string_view rest_;
    ModelCard card_;
};

}  // namespace

std::string ModelCard::scalar(std::string_view key) const {
    auto const found = values.find(key);
    if (found == values.end() || is_list.find(key)->second) return {};
    return found->second.front();
}

std::vector<std::string> ModelCard::list(std::string_view key) const {
    auto const found = values.find(key);
    return found == values.end() ? std::vector<std::string>() : found->second;
}

ModelCard parse_model_card(std::string_view readme) {
    if (take_line(readme) != "---") return {};
    return Reader(readme).read();
}

}  // namespace hearth::convert
