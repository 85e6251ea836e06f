#include "bench/tree.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <span>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/assert.h"
#include "base/clock.h"
#include "sched/prefix_tree.h"
#include "traffic/random.h"

namespace hearth::bench {
namespace {

using sched::PrefixTree;
using sched::Token;
using Text = std::vector<Token>;

constexpr PrefixTree::Space kSpace = 1;
constexpr std::uint32_t kVocabulary = 49'152;
constexpr std::uint32_t kSystemPrompts = 8;
constexpr std::uint32_t kChunk = 512;              // tokens that are computed in one step
constexpr std::size_t kCheckpointBytes = 8;        // how large they are plays no part

class Grower {
public:
    explicit Grower(std::uint64_t seed) : random_(seed) {
        for (std::uint32_t i = 0; i < kSystemPrompts; ++i) systems_.push_back(words(128U << (i % 5)));
    }

    // A conversation of at least `tokens`, its last answer included.
    Text const& converse(std::uint32_t tokens) {
        auto& text = texts_.emplace_back(systems_[random_.below(kSystemPrompts)]);
        while (text.size() < tokens) {
            extend(text, between(10, 400));
            compute(text);
            // Some answers are asked for again: another branch stays behind.
            if (random_.below(8) == 0) {
                auto other = text;
                extend(other, between(20, 200));
                compute(other);
            }
            extend(text, between(20, 600));
            compute(text);
        }
        return text;
    }

    // A system prompt that all know, and then what nobody said.
    Text stranger(std::uint32_t tokens) {
        auto text = systems_[random_.below(kSystemPrompts)];
        text.resize(std::min<std::size_t>(text.size(), tokens));
        extend(text, tokens - static_cast<std::uint32_t>(text.size()));
        return text;
    }

    [[nodiscard]] PrefixTree const& tree() const { return tree_; }
    [[nodiscard]] std::size_t conversations() const { return texts_.size(); }
    [[nodiscard]] traffic::Random& random() { return random_; }
    [[nodiscard]] std::uint32_t between(std::uint32_t low, std::uint32_t high) {
        return low + static_cast<std::uint32_t>(random_.below(high - low + 1));
    }
    void extend(Text& text, std::uint32_t count) {
        auto const more = words(count);
        text.insert(text.end(), more.begin(), more.end());
    }

private:
    Text words(std::uint32_t count) {
        Text text(count);
        for (auto& token : text) token = static_cast<Token>(random_.below(kVocabulary));
        return text;
    }

    // As the engine does for a request with this prompt.
    void compute(Text const& text) {
        auto const match = tree_.find(kSpace, text);
        auto node = tree_.pin(match);
        auto holder = tree_.take(node);
        if (holder == sched::kNoHolder) holder = holders_++;
        for (std::size_t at = match.tokens; at < text.size(); at += kChunk) {
            auto const count = std::min<std::size_t>(kChunk, text.size() - at);
            node = tree_.append(node, std::span(text).subspan(at, count), holder).node;
        }
        if (match.tokens < text.size()) tree_.set_checkpoint(node, std::vector<std::byte>(kCheckpointBytes));
        (void)tree_.leave(node, holder);
    }

    traffic::Random random_;
    PrefixTree tree_;
    std::vector<Text> systems_;
    std::vector<Text> texts_;
    sched::Holder holders_ = 0;
};

// Stands for a step of a model: reads so much that nothing of the tree stays near.
class OtherWork {
public:
    explicit OtherWork(std::uint32_t mib) : memory_((std::size_t{mib} << 20) / sizeof(std::uint64_t) + 1) {}
    void run() {
        std::uint64_t sum = 0;
        for (auto& word : memory_) sum += ++word;
        sum_ += sum;
    }
    [[nodiscard]] std::uint64_t sum() const { return sum_; }

private:
    std::vector<std::uint64_t> memory_;
    std::uint64_t sum_ = 0;
};

using Find = PrefixTree::Match (PrefixTree::*)(PrefixTree::Key const&, std::span<Token const>) const;

TreeLookups measure(std::string name, Find find, Grower& grower, std::span<Text const> prompts,
                    TreeOptions const& options) {
    SteadyClock const clock;
    OtherWork other(options.other_mib);
    std::vector<double> us;
    double found = 0;
    for (std::uint32_t i = 0; i < options.lookups; ++i) {
        auto const& prompt = prompts[grower.random().below(prompts.size())];
        other.run();
        Instant const begin = clock.now();
        auto const match = (grower.tree().*find)(kSpace, prompt);
        us.push_back(to_ms(clock.now() - begin) * 1000);
        found += match.tokens;
    }
    HEARTH_ASSERT(other.sum() > 0, "the other work was done");
    return {std::move(name), found / options.lookups, traffic::summarise(std::move(us))};
}

nlohmann::ordered_json json_of(TreeLookups const& kind) {
    return {{"name", kind.name},      {"found_tokens", kind.found_tokens},
            {"count", kind.us.count}, {"us_p50", kind.us.median},
            {"us_p99", kind.us.p99},  {"us_max", kind.us.max}};
}

}  // namespace

Status check(TreeOptions const& options) {
    auto const within = [](char const* name, std::uint64_t value, std::uint64_t low, std::uint64_t high) -> Status {
        if (value >= low && value <= high) return ok();
        return Error(Code::invalid_argument, fmt::format("{} must be {} to {}, got {}", name, low, high, value), name);
    };
    HEARTH_CHECK(within("tokens", options.tokens, kTreeTokensMin, kTreeTokensMax));
    HEARTH_CHECK(within("prompt", options.prompt, kTreePromptMin, options.tokens / 4));
    HEARTH_CHECK(within("other_mib", options.other_mib, 0, kTreeOtherMibMax));
    return within("lookups", options.lookups, 1, kTreeLookupsMax);
}

Result<TreeReport> run_tree(TreeOptions const& options) {
    HEARTH_CHECK(check(options));
    SteadyClock const clock;
    Instant const begin = clock.now();
    Grower grower(options.seed);
    std::vector<Text> whole;
    while (grower.tree().cells() < options.tokens / 2) {
        whole.push_back(grower.converse(options.prompt));
        whole.back().resize(options.prompt);
    }
    while (grower.tree().cells() < options.tokens)
        (void)grower.converse(grower.between(100, std::min(6000U, options.prompt)));
    TreeReport report;
    report.build_ms = to_ms(clock.now() - begin);
    report.tokens = grower.tree().cells();
    report.nodes = grower.tree().nodes();
    report.conversations = grower.conversations();
    report.prompt = options.prompt;
    auto parted = whole;
    for (auto& text : parted) {
        text.resize(grower.between(1, options.prompt - 1));
        grower.extend(text, options.prompt - static_cast<std::uint32_t>(text.size()));
    }
    std::vector<Text> strange;
    strange.reserve(whole.size());
    for (std::size_t i = 0; i < whole.size(); ++i) strange.push_back(grower.stranger(options.prompt));
    for (auto const& [name, find] : {std::pair<char const*, Find>{"", &PrefixTree::find},
                                     std::pair<char const*, Find>{", to a checkpoint", &PrefixTree::find_state}}) {
        for (auto const& [kind, prompts] : {std::pair<char const*, std::vector<Text> const*>{"whole prompt", &whole},
                                            {"a part of it", &parted},
                                            {"the system prompt", &strange}})
            report.kinds.push_back(measure(fmt::format("{}{}", kind, name), find, grower, *prompts, options));
    }
    return report;
}

std::string to_json(TreeReport const& report) {
    nlohmann::ordered_json kinds = nlohmann::ordered_json::array();
    for (auto const& kind : report.kinds) kinds.push_back(json_of(kind));
    return nlohmann::ordered_json{
        {"tokens", report.tokens},        {"nodes", report.nodes},       {"conversations", report.conversations},
        {"prompt_tokens", report.prompt}, {"build_ms", report.build_ms}, {"lookups", std::move(kinds)}}
        .dump(2);
}

std::string to_text(TreeReport const& report) {
    std::string out = fmt::format(
        "{} tokens of {} conversations in {} nodes; prompts of {} tokens\n\n{:<36}{:>14}{:>10}{:>10}{:>10}\n",
        report.tokens, report.conversations, report.nodes, report.prompt, "found", "tokens", "us p50", "us p99",
        "us max");
    for (auto const& kind : report.kinds) {
        out += fmt::format("{:<36}{:>14.0f}{:>10.1f}{:>10.1f}{:>10.1f}\n", kind.name, kind.found_tokens, kind.us.median,
                           kind.us.p99, kind.us.max);
    }
    return out;
}

}  // namespace hearth::bench
