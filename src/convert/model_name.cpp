#include "convert/model_name.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/ascii.h"

namespace hearth::convert {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_letter(char c) { return is_lower(c) || is_upper(c); }
char to_upper(char c) { return is_lower(c) ? static_cast<char>(c - 'a' + 'A') : c; }
char to_lower(char c) { return is_upper(c) ? static_cast<char>(c - 'A' + 'a') : c; }

std::string_view after_digits(std::string_view text) {
    while (!text.empty() && is_digit(text.front())) text.remove_prefix(1);
    return text;
}

// \d+([.]\d+)*
bool is_number_path(std::string_view text) {
    for (;;) {
        auto const rest = after_digits(text);
        if (rest.size() == text.size()) return false;
        if (rest.empty()) return true;
        if (rest.front() != '.') return false;
        text = rest.substr(1);
    }
}

bool is_version(std::string_view part) {
    auto text = std::string_view(part);
    auto const low = ascii_lower(part);
    if (low.starts_with("iter")) text.remove_prefix(4);
    else if (low.starts_with("v")) text.remove_prefix(1);
    return is_number_path(text);
}

// i?q\d(_\w)*|b?fp?(16|32)
bool is_quantisation(std::string_view part) {
    auto const low = ascii_lower(part);
    std::string_view text(low);
    if (text.ends_with("16") || text.ends_with("32")) {
        auto const head = text.substr(0, text.size() - 2);
        if (head == "f" || head == "fp" || head == "bf" || head == "bfp") return true;
    }
    if (text.starts_with('i')) text.remove_prefix(1);
    if (text.size() < 2 || text[0] != 'q' || !is_digit(text[1])) return false;
    for (text.remove_prefix(2); !text.empty(); text.remove_prefix(2)) {
        if (text.size() < 2 || text[0] != '_' || !(is_letter(text[1]) || is_digit(text[1]) || text[1] == '_'))
            return false;
    }
    return true;
}

// \d+([._]\d+)?[KMBT]\d?
bool is_amount(std::string_view text) {
    auto rest = after_digits(text);
    if (rest.size() == text.size() || rest.empty()) return false;
    if (rest.front() == '.' || rest.front() == '_') {
        auto const fraction = rest.substr(1);
        rest = after_digits(fraction);
        if (rest.size() == fraction.size() || rest.empty()) return false;
    }
    constexpr std::string_view kScales = "kmbt";
    if (kScales.find(to_lower(rest.front())) == std::string_view::npos) return false;
    rest.remove_prefix(1);
    return rest.empty() || (rest.size() == 1 && is_digit(rest.front()));
}

// (([A]|\d+[x])?\d+([._]\d+)?[KMBT][\d]?|small|mini|medium|large|x?xl)
bool is_size(std::string_view part) {
    auto const low = ascii_lower(part);
    constexpr std::array<std::string_view, 6> kWords{"small", "mini", "medium", "large", "xl", "xxl"};
    if (std::find(kWords.begin(), kWords.end(), low) != kWords.end()) return true;
    std::string_view text(low);
    if (is_amount(text)) return true;
    if (text.starts_with('a')) return is_amount(text.substr(1));
    auto const rest = after_digits(text);
    return rest.size() < text.size() && rest.starts_with('x') && is_amount(rest.substr(1));
}

bool is_finetune(std::string_view part) {
    auto const low = ascii_lower(part);
    return low == "chat" || low == "instruct" || low == "vision" || low == "lora";
}

struct Part {
    std::string text;
    bool basename = false;
    bool size_label = false;
    bool finetune = false;
    bool version = false;
    bool type = false;

    [[nodiscard]] int kinds() const { return basename + size_label + finetune + version + type; }
};

// "7b1" is "7.1B"; a size that is far from the truth is a context length.
void note_size(Part& part, std::uint64_t parameters) {
    auto& text = part.text;
    std::replace(text.begin(), text.end(), '_', '.');
    if (is_digit(text.back()) && text.size() >= 2)
        text = text.substr(0, text.size() - 2) + "." + text.back() + text[text.size() - 2];
    bool const amount = text.size() > 1 && is_digit(text[text.size() - 2]);
    if (amount) text.back() = to_upper(text.back());
    double label = 0;
    auto const* const end = text.data() + text.size() - 1;
    auto const scale = std::string_view(" KMBT").find(text.back());
    if (parameters != 0 && amount && scale != std::string_view::npos &&
        std::from_chars(text.data(), end, label) == std::from_chars_result{end, std::errc{}}) {
        label *= std::pow(1000.0, static_cast<double>(scale));
        if (std::abs(label - static_cast<double>(parameters)) > std::floor(7.0 * static_cast<double>(parameters) / 8)) {
            part.finetune = true;
            text.back() = to_lower(text.back());
        }
    }
    if (part.kinds() == 0) part.size_label = true;
}

void annotate(std::vector<Part>& parts, std::uint64_t parameters) {
    for (std::size_t i = 0; i < parts.size(); ++i) {
        auto& part = parts[i];
        if (is_version(part.text)) {
            part.version = true;
        } else if (is_quantisation(part.text)) {
            part.type = true;
            for (auto& c : part.text) c = to_upper(c);
        } else if (i > 0 && is_size(part.text)) {
            note_size(part, parameters);
        } else if (i > 0 && is_finetune(part.text)) {
            part.finetune = true;
        }
    }
    // A size in words counts only where none is in numbers.
    bool const numbers = std::any_of(parts.begin(), parts.end(), [](Part const& part) {
        return part.size_label && std::any_of(part.text.begin(), part.text.end(), is_digit);
    });
    for (auto& part : parts) {
        if (numbers && std::all_of(part.text.begin(), part.text.end(), is_letter)) part.size_label = false;
    }
}

void find_basename(std::vector<Part>& parts) {
    bool at_start = true;
    for (auto& part : parts) {
        if (at_start && ((part.kinds() == 0 && is_letter(part.text.front())) || part.version)) {
            part.basename = true;
        } else {
            at_start = false;
            if (part.kinds() == 0) part.finetune = true;
        }
    }
    for (auto part = parts.rbegin(); part != parts.rend() && part->basename && part->kinds() > 1; ++part)
        part->basename = false;
}

template <typename Wanted>
std::string joined(std::vector<Part> const& parts, Wanted const& wanted, bool once = false) {
    std::vector<std::string_view> chosen;
    for (auto const& part : parts) {
        if (!wanted(part)) continue;
        if (once && std::find(chosen.begin(), chosen.end(), part.text) != chosen.end()) continue;
        chosen.push_back(part.text);
    }
    return fmt::format("{}", fmt::join(chosen, "-"));
}

}  // namespace

ModelName parse_model_name(std::string_view id, std::uint64_t parameters) {
    ModelName name;
    name.full = id;
    if (id.find(' ') != std::string_view::npos) return name;
    if (auto const slash = id.find('/'); slash != std::string_view::npos) {
        name.organization = id.substr(0, slash);
        name.full = id.substr(slash + 1);
        if (name.organization.starts_with('.')) name.organization.clear();
    }
    std::vector<Part> parts;
    for (std::string_view rest = name.full; !rest.empty();) {
        auto const end = rest.find('-');
        if (end != 0) parts.push_back({.text = std::string(rest.substr(0, end))});
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    }
    annotate(parts, parameters);
    find_basename(parts);
    name.size_label = joined(parts, [](Part const& part) { return part.size_label; }, true);
    name.finetune = joined(parts, [](Part const& part) { return part.finetune; });
    name.version = joined(parts, [](Part const& part) { return part.version && !part.basename; });
    bool const ambiguous = name.size_label.empty() && name.finetune.empty() && name.version.empty();
    if (!ambiguous) name.basename = joined(parts, [](Part const& part) { return part.basename; });
    return name;
}

std::string title_of(std::string_view id) {
    std::string title;
    std::string text(id);
    std::replace(text.begin(), text.end(), '-', ' ');
    for (std::string_view rest = text; !rest.empty();) {
        auto const end = rest.find_first_of(" \t\n\r");
        auto const word = rest.substr(0, end);
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
        if (word.empty()) continue;
        if (!title.empty()) title += ' ';
        bool const lower =
            std::any_of(word.begin(), word.end(), is_lower) && std::none_of(word.begin(), word.end(), is_upper);
        bool const number = is_digit(word.front()) || (word.front() == 'v' && is_number_path(word.substr(1)));
        bool inside = false;  // a letter is before this one
        for (char const c : word) {
            title += lower && !number && !inside ? to_upper(c) : c;
            inside = is_letter(c);
        }
    }
    return title;
}

std::string size_label_of(std::uint64_t parameters, std::uint32_t experts) {
    auto const count = static_cast<double>(parameters);
    struct Scale {
        double above;
        double factor;
        char suffix;
    };
    constexpr std::array<Scale, 4> kScales{{{1e12, 1e-12, 'T'}, {1e9, 1e-9, 'B'}, {1e6, 1e-6, 'M'}, {-1, 1e-3, 'K'}}};
    auto const scale = *std::find_if(kScales.begin(), kScales.end(), [&](Scale const& s) { return count > s.above; });
    auto const scaled = count * scale.factor;
    auto const whole = std::nearbyint(scaled);
    int const digits = whole < 1 ? 0 : whole < 10 ? 1 : 2;
    auto const mixture = experts == 0 ? std::string() : fmt::format("{}x", experts);
    return fmt::format("{}{:.{}f}{}", mixture, scaled, 2 - digits, scale.suffix);
}

}  // namespace hearth::convert
