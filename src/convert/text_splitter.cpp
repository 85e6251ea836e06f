#include "convert/text_splitter.h"

#include <array>
#include <utility>

#include <fmt/format.h>

#include "convert/probe_text.h"

namespace hearth::convert {
namespace {

constexpr std::size_t kStepsMax = 32;
constexpr std::size_t kRulesDepthMax = 8;
// What a ByteLevel rule splits by, if it is asked to: GPT-2's pattern.
constexpr std::string_view kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

Error unsupported(std::string_view what) { return Error(Code::unsupported, std::string(what)); }

bool flag(json::View rule, std::string_view name, bool absent) {
    auto const value = rule.find(name);
    return value ? value->boolean().value_or(absent) : absent;
}

std::string_view type_of(json::View rule) {
    auto const type = rule.find("type");
    return type ? type->text().value_or("") : "";
}

bool is_space(char32_t c) { return in_category(c, "s"); }
bool is_han(char32_t c) { return in_category(c, "Han"); }
bool is_digit(char32_t c) { return in_category(c, "N"); }

// As BERT's: all of ASCII that is neither letter nor digit nor space, and Unicode's punctuation.
bool is_bert_punctuation(char32_t c) {
    return c < 0x80 ? in_category(c, "P") || in_category(c, "S") : in_category(c, "P");
}

char32_t lower(char32_t c) {
    if (c >= 'A' && c <= 'Z') return c + 32;
    return c >= 0x410 && c <= 0x42f ? c + 32 : c;  // the probe's only other capital is Cyrillic
}

// GPT-2's characters for bytes: printable ones stand for themselves, the others for U+0100 on.
std::u32string byte_characters(std::u32string_view text) {
    static auto const characters = [] {
        std::array<char32_t, 256> table{};
        char32_t next = 0x100;
        for (char32_t b = 0; b < 256; ++b) {
            bool const printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
            table[b] = printable ? b : next++;
        }
        return table;
    }();
    std::u32string out;
    for (char const c : utf8_of(text)) out += characters[static_cast<unsigned char>(c)];
    return out;
}

// Cuts at each character `alone` says stands alone; those `dropped` go.
template <typename Alone, typename Dropped>
void cut(std::u32string const& piece, Alone const& alone, Dropped const& dropped, std::vector<std::u32string>& out) {
    std::u32string current;
    auto const flush = [&] {
        if (!current.empty()) out.push_back(std::exchange(current, {}));
    };
    for (auto const c : piece) {
        bool const drop = dropped(c);
        if (drop || alone(c)) {
            flush();
            if (!drop) out.push_back({c});
        } else {
            current += c;
        }
    }
    flush();
}

template <typename Keep, typename Change>
std::u32string mapped(std::u32string const& piece, Keep const& keep, Change const& change) {
    std::u32string out;
    for (auto const c : piece) {
        if (keep(c)) out += change(c);
    }
    return out;
}

}  // namespace

Result<TextSplitter> TextSplitter::create(std::optional<json::View> normalizer,
                                          std::optional<json::View> pre_tokenizer) {
    TextSplitter splitter;
    if (normalizer) HEARTH_CHECK(splitter.add_normalizer(*normalizer, 0));
    if (pre_tokenizer) HEARTH_CHECK(splitter.add_pre_tokenizer(*pre_tokenizer, 0));
    if (splitter.steps_.size() > kStepsMax)
        return unsupported(fmt::format("{} rules; at most {} are carried out", splitter.steps_.size(), kStepsMax));
    return splitter;
}

Status TextSplitter::add_normalizer(json::View rule, std::size_t depth) {
    auto const type = type_of(rule);
    if (depth > kRulesDepthMax) return unsupported("normalisers nested too deeply");
    if (type == "NFC" || type == "NFD") return ok();  // the probe is both
    if (type == "Lowercase") return steps_.push_back({.kind = Kind::lowercase}), ok();
    if (type == "StripAccents") return steps_.push_back({.kind = Kind::strip_accents}), ok();
    if (type == "Sequence") {
        auto const list = rule.find("normalizers");
        if (!list) return unsupported("a sequence without normalisers");
        for (auto const inner : list->elements()) HEARTH_CHECK(add_normalizer(inner, depth + 1));
        return ok();
    }
    if (type != "BertNormalizer") return unsupported(fmt::format("a normaliser of type \"{}\"", type));
    bool const lowercase = flag(rule, "lowercase", true);
    if (flag(rule, "clean_text", true)) steps_.push_back({.kind = Kind::bert_clean});
    if (flag(rule, "handle_chinese_chars", true)) steps_.push_back({.kind = Kind::bert_spaces});
    if (flag(rule, "strip_accents", lowercase)) steps_.push_back({.kind = Kind::strip_accents});
    if (lowercase) steps_.push_back({.kind = Kind::lowercase});
    return ok();
}

Status TextSplitter::add_pre_tokenizer(json::View rule, std::size_t depth) {
    auto const type = type_of(rule);
    if (depth > kRulesDepthMax) return unsupported("pre-tokenisers nested too deeply");
    if (type == "Sequence") {
        auto const list = rule.find("pretokenizers");
        if (!list) return unsupported("a sequence without pre-tokenisers");
        for (auto const inner : list->elements()) HEARTH_CHECK(add_pre_tokenizer(inner, depth + 1));
        return ok();
    }
    if (type == "Split") return add_split(rule);
    if (type == "ByteLevel") return add_byte_level(rule);
    if (type == "BertPreTokenizer") return steps_.push_back({.kind = Kind::bert_words}), ok();
    if (type == "Digits") {
        steps_.push_back({.kind = Kind::digits, .each = flag(rule, "individual_digits", false)});
        return ok();
    }
    return unsupported(fmt::format("a pre-tokeniser of type \"{}\"", type));
}

Status TextSplitter::add_split(json::View rule) {
    auto const pattern = rule.find("pattern");
    auto const regex = pattern ? pattern->find("Regex") : std::nullopt;
    auto const text = regex ? regex->text() : std::nullopt;
    if (!text) return unsupported("a Split rule without a regular expression");
    HEARTH_TRY(auto parsed, Pattern::parse(*text));
    Step step{.kind = Kind::pattern, .pattern = std::move(parsed), .invert = flag(rule, "invert", false)};
    auto const value = rule.find("behavior");
    auto const behavior = value ? value->text().value_or("") : "";
    if (behavior == "Isolated") step.behavior = Behavior::isolated;
    else if (behavior == "Removed") step.behavior = Behavior::removed;
    else if (behavior == "MergedWithPrevious") step.behavior = Behavior::merged_with_previous;
    else if (behavior == "MergedWithNext") step.behavior = Behavior::merged_with_next;
    else return unsupported(fmt::format("a Split rule with the behaviour \"{}\"", behavior));
    steps_.push_back(std::move(step));
    return ok();
}

Status TextSplitter::add_byte_level(json::View rule) {
    Step bytes{.kind = Kind::byte_level, .prefix_space = flag(rule, "add_prefix_space", true)};
    if (flag(rule, "use_regex", true)) {
        HEARTH_TRY(bytes.pattern, Pattern::parse(kGpt2));
    }
    steps_.push_back(std::move(bytes));
    return ok();
}

Result<std::vector<std::string>> TextSplitter::split(std::u32string_view text) {
    Pieces pieces{std::u32string(text)};
    for (auto const& step : steps_) {
        HEARTH_TRY(pieces, apply(step, pieces));
    }
    std::vector<std::string> out;
    for (auto const& piece : pieces) {
        if (!piece.empty()) out.push_back(utf8_of(piece));
    }
    return out;
}

Result<TextSplitter::Pieces> TextSplitter::apply(Step const& step, Pieces const& pieces) {
    constexpr auto kNone = [](char32_t) { return false; };
    constexpr auto kAll = [](char32_t) { return true; };
    Pieces out;
    for (auto const& piece : pieces) {
        switch (step.kind) {
            case Kind::lowercase: out.push_back(mapped(piece, kAll, lower)); break;
            case Kind::strip_accents:
                out.push_back(
                    mapped(piece, [](char32_t c) { return !in_category(c, "Mn"); }, [](char32_t c) { return c; }));
                break;
            case Kind::bert_clean:
                out.push_back(mapped(
                    piece, [](char32_t c) { return is_space(c) || !in_category(c, "C"); },
                    [](char32_t c) { return is_space(c) ? U' ' : c; }));
                break;
            case Kind::bert_spaces: {
                std::u32string spaced;
                for (auto const c : piece) spaced += is_han(c) ? std::u32string{U' ', c, U' '} : std::u32string{c};
                out.push_back(std::move(spaced));
                break;
            }
            case Kind::bert_words: cut(piece, is_bert_punctuation, is_space, out); break;
            case Kind::digits:
                if (step.each) cut(piece, is_digit, kNone, out);
                else HEARTH_CHECK(split_by(step, piece, out));
                break;
            case Kind::pattern: HEARTH_CHECK(split_by(step, piece, out)); break;
            case Kind::byte_level: {
                auto const spaced = step.prefix_space && !piece.starts_with(U' ') ? U' ' + piece : piece;
                Pieces words;
                if (step.pattern) HEARTH_CHECK(split_by(step, spaced, words));
                else words.push_back(spaced);
                for (auto const& word : words) out.push_back(byte_characters(word));
                break;
            }
        }
    }
    return out;
}

Status TextSplitter::split_by(Step const& step, std::u32string const& piece, Pieces& out) {
    struct Range {
        std::size_t begin;
        std::size_t end;
        bool match;
    };
    std::vector<Range> ranges;
    std::size_t done = 0;
    while (done < piece.size()) {
        std::optional<std::pair<std::size_t, std::size_t>> found;
        if (step.pattern) {
            HEARTH_TRY(found, step.pattern->find(piece, done, budget_));
        } else {
            auto at = done;
            while (at < piece.size() && !is_digit(piece[at])) ++at;
            auto end = at;
            while (end < piece.size() && is_digit(piece[end])) ++end;
            if (end > at) found = {at, end};
        }
        auto const begin = found ? found->first : piece.size();
        if (begin > done) ranges.push_back({done, begin, step.invert});
        if (found) ranges.push_back({found->first, found->second, !step.invert});
        done = found ? found->second : piece.size();
    }
    bool previous_match = false;
    std::optional<std::size_t> waiting;  // a match that belongs to what comes next
    for (auto const& range : ranges) {
        auto const text = piece.substr(range.begin, range.end - range.begin);
        if (range.match && step.behavior == Behavior::removed) continue;
        if (range.match && step.behavior == Behavior::merged_with_previous && !previous_match && !out.empty() &&
            range.begin > 0) {
            out.back() += text;
        } else if (waiting && !range.match) {
            out.back() += text;
        } else {
            out.push_back(text);
        }
        waiting =
            range.match && step.behavior == Behavior::merged_with_next ? std::optional(range.begin) : std::nullopt;
        previous_match = range.match;
    }
    return ok();
}

}  // namespace hearth::convert
