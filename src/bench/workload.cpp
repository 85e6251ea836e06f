#include "bench/workload.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "base/assert.h"

namespace hearth::bench {

namespace {

// Common words, so that most are one token in the vocabularies of today's
// models and a prompt compresses like prose rather than like noise (random
// tokens flatter speculation and spoil tokenizer timings).
constexpr auto kWords = std::to_array<std::string_view>({
    "the",      "of",         "and",     "to",       "in",      "that",     "was",     "his",     "with",    "for",
    "had",      "you",        "not",     "her",      "which",   "have",     "from",    "this",    "they",    "were",
    "all",      "one",        "there",   "when",     "would",   "their",    "what",    "said",    "out",     "about",
    "been",     "people",     "time",    "water",    "some",    "could",    "into",    "them",    "other",   "than",
    "then",     "now",        "look",    "only",     "come",    "its",      "over",    "think",   "also",    "back",
    "after",    "use",        "two",     "how",      "our",     "work",     "first",   "well",    "way",     "even",
    "new",      "want",       "because", "any",      "these",   "give",     "day",     "most",    "us",      "house",
    "world",    "life",       "hand",    "part",     "child",   "eye",      "woman",   "place",   "week",    "case",
    "point",    "government", "company", "number",   "group",   "problem",  "fact",    "morning", "evening", "river",
    "mountain", "garden",     "window",  "door",     "table",   "paper",    "letter",  "story",   "music",   "picture",
    "school",   "teacher",    "student", "question", "answer",  "reason",   "result",  "change",  "power",   "money",
    "business", "market",     "price",   "system",   "program", "computer", "machine", "engine",  "light",   "sound",
    "color",    "shape",      "space",   "field",    "forest",  "animal",   "horse",   "bird",    "fish",    "tree",
    "flower",   "stone",      "road",    "bridge",   "city",    "town",     "village", "country", "island",  "ocean",
    "ship",     "train",      "wheel",   "fire",     "wind",    "rain",     "snow",    "summer",  "winter",  "spring",
    "season",   "year",       "month",   "hour",     "minute",  "moment",   "past",    "future",  "history", "language",
    "word",     "sentence",   "book",    "page",     "line",    "law",      "right",   "order",   "form",    "rule",
    "level",    "voice",      "mind",    "heart",    "body",    "face",     "head",    "arm",     "foot",    "friend",
    "family",   "mother",     "father",  "brother",  "sister",  "king",     "queen",   "soldier", "doctor",  "farmer",
    "artist",   "worker",     "leader",  "member",   "party",   "meeting",  "plan",    "idea",    "thought", "feeling",
    "dream",    "hope",       "fear",    "love",     "peace",   "war",      "battle",  "great",   "small",   "large",
    "long",     "short",      "high",    "low",      "old",     "young",    "early",   "late",    "good",    "bad",
    "strong",   "weak",       "hard",    "soft",     "warm",    "cold",     "dark",    "bright",  "quick",   "slow",
    "open",     "close",      "begin",   "end",      "move",    "turn",     "stand",   "walk",    "run",     "carry",
    "bring",    "hold",       "keep",    "leave",    "find",    "learn",    "teach",   "write",   "read",    "speak",
    "hear",     "watch",      "build",   "break",    "grow",    "fall",     "rise",    "call",    "help",    "play",
    "live",
});
constexpr std::uint64_t kSentenceWordsMin = 6;
constexpr std::uint64_t kSentenceWordsRange = 9;

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
    Random random(a ^ (b * 0xD6E8FEB86659FD93ULL));
    return random.next();
}

// Distinct streams of one seed, so that the text of a request does not depend
// on which workload it is part of.
constexpr std::uint64_t kText = 1;
constexpr std::uint64_t kPrefix = 2;
constexpr std::uint64_t kOrder = 3;
constexpr std::uint64_t kArrivals = 4;
constexpr std::uint64_t kBlocks = 5;

}  // namespace

void append_words(std::uint64_t seed, std::uint32_t count, std::string& out) {
    Random random(seed);
    auto left_in_sentence = kSentenceWordsMin + random.below(kSentenceWordsRange);
    for (std::uint32_t i = 0; i < count; ++i) {
        if (i > 0) out.push_back(' ');
        out.append(kWords[random.below(kWords.size())]);
        if (--left_in_sentence == 0 || i + 1 == count) {
            out.push_back('.');
            left_in_sentence = kSentenceWordsMin + random.below(kSentenceWordsRange);
        }
    }
}

std::string render(std::vector<Segment> const& prompt) {
    std::string text;
    for (auto const& segment : prompt) {
        if (segment.words == 0) continue;
        if (!text.empty()) text.push_back(' ');
        append_words(segment.seed, segment.words, text);
    }
    return text;
}

Plan unique_plan(UniqueShape const& shape) {
    Plan plan;
    plan.reserve(shape.requests);
    for (std::uint32_t i = 0; i < shape.requests; ++i) {
        plan.push_back({0, shape.output_tokens, {{mix(shape.seed, mix(kText, i)), shape.words}}});
    }
    return plan;
}

Plan shared_prefix_plan(SharedPrefixShape const& shape) {
    HEARTH_ASSERT(shape.groups > 0, "a shared-prefix workload has at least one group");
    auto plan = unique_plan(shape.unique);
    for (std::size_t i = 0; i < plan.size(); ++i) {
        auto const group = i % shape.groups;
        plan[i].prompt.insert(plan[i].prompt.begin(),
                              Segment{mix(shape.unique.seed, mix(kPrefix, group)), shape.prefix_words});
    }
    Random random(mix(shape.unique.seed, kOrder));
    for (std::size_t i = plan.size(); i > 1; --i) std::swap(plan[i - 1], plan[random.below(i)]);
    return plan;
}

void arrive_poisson(Plan& plan, double rate_per_s, std::uint64_t seed) {
    HEARTH_ASSERT(rate_per_s > 0, "a Poisson process has a positive rate");
    Random random(mix(seed, kArrivals));
    double at = 0;
    for (auto& request : plan) {
        at += random.exponential(rate_per_s);
        request.at_s = at;
    }
}

namespace {

// Splits `words` over the row's blocks as the tokens were.
std::vector<Segment> block_segments(TraceRow const& row, std::uint32_t words, ReplayShape const& shape) {
    auto const per_block = std::max(1.0, traffic::kMooncakeBlockTokens * shape.length_scale * shape.words_per_token);
    std::vector<Segment> segments;
    std::uint32_t given = 0;
    for (std::size_t i = 0; i < row.blocks.size() && given < words; ++i) {
        auto const until = std::min<double>(words, std::round(per_block * static_cast<double>(i + 1)));
        auto const last = i + 1 == row.blocks.size();
        auto const count = (last ? words : static_cast<std::uint32_t>(until)) - given;
        if (count == 0) continue;
        segments.push_back({mix(shape.seed, mix(kBlocks, row.blocks[i])), count});
        given += count;
    }
    return segments;
}

std::uint32_t scaled(double value, std::uint32_t max, std::uint32_t& cut) {
    auto const rounded = std::max(1.0, std::round(value));
    if (rounded <= max) return static_cast<std::uint32_t>(rounded);
    ++cut;
    return max;
}

}  // namespace

ReplayPlan replay_plan(std::vector<TraceRow> const& rows, ReplayShape const& shape) {
    ReplayPlan result;
    result.plan.reserve(rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
        auto const& row = rows[i];
        PlannedRequest request;
        request.at_s = row.at_s * shape.time_scale;
        request.output_tokens =
            scaled(row.output_tokens * shape.length_scale, shape.output_tokens_max, result.outputs_cut);
        auto const words = scaled(row.prompt_tokens * shape.length_scale * shape.words_per_token,
                                  shape.prompt_words_max, result.prompts_cut);
        if (row.blocks.empty()) {
            request.prompt.push_back({mix(shape.seed, mix(kText, i)), words});
        } else {
            request.prompt = block_segments(row, words, shape);
        }
        result.plan.push_back(std::move(request));
    }
    return result;
}

}  // namespace hearth::bench
